"""The reference page of recipes, written from the config objects: `python -m concordant.pipeline.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from concordant.pipeline.recipe import Recipe

INTRODUCTION = """\
# Recipes

A recipe is a TOML file. Every key, its type, its default and what it means; this page is written from the code
(`make docs`), and a test compares the two. An override on the command line is the dotted name: `policy.kl_coef=0.1`.
A stage whose section is absent is not run; an empty section takes the defaults.
"""


def recipe_page() -> str:
    """The page as Markdown."""
    return INTRODUCTION + "".join(_section(Recipe, ""))


def _section(model: type[BaseModel], path: str) -> Iterator[str]:
    """A table of plain keys, then the sections inside."""
    title = f"`[{path}]`" if path else "Top level"
    text = (model.__doc__ or "").strip().splitlines()
    yield f"\n## {title}\n\n{text[0] if path and text else ''}\n\n"
    yield "| key | type | default | meaning |\n|---|---|---|---|\n"
    inner = []
    for name, field in model.model_fields.items():
        section = _inner(field)
        if section is not None:
            inner.append((name, section))
        else:
            meaning = (field.description or "").replace("|", "\\|").replace("\n", " ")
            yield f"| `{name}` | {_type(field)} | {_default(field)} | {meaning} |\n"
    for name, section in inner:
        yield from _section(section, f"{path}.{name}" if path else name)


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    for choice in (field.annotation, *get_args(field.annotation)):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    for noise in ("typing.", "concordant.data.config.", "Literal"):
        name = name.replace(noise, "")
    return f"`{name}`".replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "–" if field.default_factory is not None else "required"
    if isinstance(field.default, BaseModel):
        return "see below"
    return f"`{field.default!r}`"


if __name__ == "__main__":
    sys.stdout.write(recipe_page())
