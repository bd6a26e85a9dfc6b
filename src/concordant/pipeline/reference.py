"""The reference page of recipes, written from the config objects: `python -m concordant.pipeline.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from concordant.pipeline.recipe import Recipe, algorithms_of, sections_of
from concordant.train.config import CRITIC_FREE, CriticFreeConfig

INTRODUCTION = """\
# Recipes

A recipe is a TOML file. Every key, its type, its default and what it means; this page is written from the code
(`make docs`), and a test compares the two. An override on the command line is the dotted name: `policy.kl_coef=0.1`.
A stage whose section is absent is not run; an empty section takes the defaults.
"""


def recipe_page() -> str:
    """The page as Markdown."""
    return INTRODUCTION + "".join(_section(Recipe, "", None, set()))


def _section(
    model: type[BaseModel], path: str, filled: BaseModel | None, told: set[tuple[str, str]]
) -> Iterator[str]:
    """A table of plain keys, then the sections inside. `filled` has the defaults where a stage has its own.

    Sections of several algorithms that are the same word for word are told once.
    """
    inner: list[tuple[str, type[BaseModel], BaseModel | None]] = []
    lines = ["| key | type | default | meaning |\n|---|---|---|---|\n"]
    for name, field in model.model_fields.items():
        sections = sections_of(field.annotation)
        default = field.default if filled is None else getattr(filled, name)
        own = default if isinstance(default, BaseModel) else None
        inner += [(name, section, own if isinstance(own, section) else None) for section in sections]
        if not sections:
            meaning = (field.description or "").replace("|", "\\|").replace("\n", " ")
            lines.append(f"| `{name}` | {_type(field)} | {_default(field, default)} | {meaning} |\n")
    table = "".join(lines)
    if (path, table) not in told:
        told.add((path, table))
        yield f"\n## {_title(model, path)}\n\n{_text(model) if path else ''}\n\n{table}"
        if model is CriticFreeConfig:
            yield from _defaults_by_algorithm()
    for name, section, own in inner:
        yield from _section(section, f"{path}.{name}" if path else name, own, told)


def _title(model: type[BaseModel], path: str) -> str:
    title = f"`[{path}]`" if path else "Top level"
    if algorithms := algorithms_of(model):
        title += f" with `algorithm` = {' or '.join(f'`{name}`' for name in algorithms)}"
    return title


def _text(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _defaults_by_algorithm() -> Iterator[str]:
    """What the algorithms without a critic set where the recipe says nothing."""
    yield "\n| algorithm | its own defaults |\n|---|---|\n"
    for algorithm, defaults in CRITIC_FREE.items():
        told = ", ".join(f"`{name} = {value!r}`" for name, value in defaults.items())
        yield f"| `{algorithm}` | {told} |\n"


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    if get_origin(annotation) is dict and sections_of(get_args(annotation)[1]):
        return "`dict[str, section]`"
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    for noise in ("typing.", "concordant.data.config.", "Literal"):
        name = name.replace(noise, "")
    return f"`{name}`".replace("|", "\\|")


def _default(field: FieldInfo, default: Any) -> str:
    if default is PydanticUndefined:
        return "–" if field.default_factory is not None else "required"
    return f"`{default!r}`"


if __name__ == "__main__":
    sys.stdout.write(recipe_page())
