"""Every value in force of a recipe, and where it comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from concordant.pipeline.recipe import Recipe
from concordant.train.config import CRITIC_FREE

LONGEST_RECIPE = 400  # lines; of a longer one it is not said in which line a value stands

Origin = Literal["default", "algorithm", "recipe", "override", "hardware"]


@dataclass(frozen=True)
class Value:
    """A value in force."""

    key: str  # dotted
    value: Any
    origin: Origin
    line: int | None = None  # of the recipe, where it comes from there


def values_of(
    recipe: Recipe, text: str, overrides: Mapping[str, Any], measured: Mapping[str, Any] | None = None
) -> list[Value]:
    """All values of `recipe`, which was read from `text` with `overrides`.

    `measured` has what the machine decided, by key; it stands for the `auto` of a recipe.
    """
    lines = lines_of(text)
    found = []
    for key, value, own in _leaves(recipe, ""):
        if measured and key in measured and measured[key] != value:
            found.append(Value(key, measured[key], "hardware"))
        elif _nearest(key, overrides) is not None:
            found.append(Value(key, value, "override"))
        elif (stated := _nearest(key, lines)) is not None:
            found.append(Value(key, value, "recipe", lines[stated]))
        else:
            found.append(Value(key, value, "algorithm" if own else "default"))
    return found


def lines_of(text: str) -> dict[str, int]:
    """The line in which the statement of each dotted key begins; of inline tables the line of the whole table.

    A key stands in the first line up to which the recipe, read by itself, holds it.
    """
    rows = text.splitlines()
    found: dict[str, int] = {}
    if len(rows) > LONGEST_RECIPE:
        return dict.fromkeys(_stated(tomllib.loads(text)), 0)
    begin = 1
    for number in range(1, len(rows) + 1):
        try:
            values = tomllib.loads("\n".join(rows[:number]))
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a list or a text of several lines
        for key in _stated(values):
            found.setdefault(key, begin)
        begin = number + 1
    return found


def _stated(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _stated(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _nearest(key: str, stated: Mapping[str, Any]) -> str | None:
    """What was stated of this key, of a section around it (`policy.rewards`), or of a part of its value."""
    for one in stated:
        if one == key or key.startswith(f"{one}.") or one.startswith(f"{key}."):
            return one
    return None


def _leaves(section: BaseModel, prefix: str) -> Iterator[tuple[str, Any, bool]]:
    """Dotted key, value, and whether an algorithm's own default decides it unless it was stated."""
    own = _own_defaults(section)
    for name in type(section).model_fields:
        value = getattr(section, name)
        key = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            for inner, leaf, theirs in _leaves(value, f"{key}."):
                yield inner, leaf, theirs or inner.removeprefix(prefix) in own
        elif isinstance(value, Mapping) and value and all(isinstance(v, BaseModel) for v in value.values()):
            for part, inner_section in value.items():
                yield from _leaves(inner_section, f"{key}.{part}.")
        else:
            yield key, plain(value), name in own


def _own_defaults(section: BaseModel) -> set[str]:
    """Keys for which this section's algorithm has a default of its own."""
    algorithm = getattr(section, "algorithm", None)
    if algorithm is None:
        return set()
    own = set(CRITIC_FREE.get(algorithm, {}))
    for name, field in type(section).model_fields.items():
        if isinstance(field.default, BaseModel):
            plain_one = type(field.default)()
            own |= {
                f"{name}.{inner}"
                for inner in type(field.default).model_fields
                if getattr(field.default, inner) != getattr(plain_one, inner)
            }
        elif any(
            name in base.model_fields and base.model_fields[name].default != field.default
            for base in type(section).__mro__[1:]
            if issubclass(base, BaseModel)
        ):
            own.add(name)
    return own


def plain(value: Any) -> Any:
    """A value as JSON and TOML hold it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return value
