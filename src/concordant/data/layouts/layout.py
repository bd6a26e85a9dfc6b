"""What a layout is: the columns it needs and the function that reads a row. And how one is found for a data set:
by the columns that are there, after those the user renamed; where none fits, by a suggestion of what to rename.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

from concordant.data.layouts.account import Place, Row
from concordant.data.layouts.cells import Value
from concordant.data.sources import nearest
from concordant.errors import UserError

Reader: TypeAlias = Callable[[Value, Place], list[Row]]  # a row of a source may hold several of ours


@dataclass(frozen=True, slots=True)
class Layout(Generic[Row]):
    """A way to write rows down: its name, the columns it needs and those it can use, and its reader."""

    name: str
    needs: tuple[str, ...]
    read: Reader[Row]
    uses: tuple[str, ...] = ()


def recognise(present: Iterable[str], layouts: Sequence[Layout[Row]]) -> Layout[Row] | None:
    """The first layout all of whose columns are present."""
    names = set(present)
    return next((layout for layout in layouts if names.issuperset(layout.needs)), None)


def renamed(value: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row under our column names; `columns` has the source's name for each of ours."""
    if not columns:
        return value
    taken = set(columns.values())
    kept = {name: cell for name, cell in value.items() if name not in taken and name not in columns}
    return kept | {ours: value[actual] for ours, actual in columns.items() if actual in value}


def check_columns(first: dict[str, Any], columns: Mapping[str, str], source: str) -> None:
    """Raise UserError where `columns` names a column that the first row does not have."""
    for ours, actual in columns.items():
        if actual not in first:
            like = nearest(actual, first)
            raise UserError(
                f"columns.{ours} = {actual!r}, but {source} has [{', '.join(first)}]",
                where=source,
                expected="the name of a column that is there",
                fix=f"did you mean {like[0]!r}?" if like else "name one of them",
            )


def unknown_layout(present: Sequence[str], layouts: Sequence[Layout[Any]], source: str) -> UserError:
    """The error for columns that fit no layout: it names the nearest one, and what to rename for it."""
    if "input_ids" in present:
        return UserError(
            f"{source} has rows of token ids, and where a prompt ends in them nobody can tell",
            where=source,
            expected="text, from which prompts and answers are tokenised apart",
            fix="give the data set from before it was tokenised",
        )
    best = max(layouts, key=lambda layout: len(set(layout.needs) & set(present)) / len(layout.needs))
    missing = [name for name in best.needs if name not in present]
    guess = _suggestion(missing, [name for name in present if name not in best.needs])
    names = {name: guess.get(name, "…") for name in missing}
    others = "; ".join(", ".join(layout.needs) for layout in layouts if layout is not best)
    return UserError(
        f"{source} has [{', '.join(present)}]; need {', '.join(best.needs)}",
        where=source,
        expected=f"these columns, or those of another layout: {others}",
        fix="map them: " + ", ".join(f'columns.{name} = "{actual}"' for name, actual in names.items()),
    )


_LIKELY = {
    "chosen": ("good", "better", "best", "preferred", "winner", "win", "accepted", "positive", "pos"),
    "rejected": ("bad", "worse", "worst", "dispreferred", "loser", "lose", "refused", "negative", "neg"),
    "prompt": ("question", "query", "input", "instruction", "request", "context", "user", "problem"),
    "label": ("desirable", "liked", "thumbs_up", "good", "accepted"),
    "completion": ("answer", "output", "reply", "target", "summary", "solution", "assistant", "text"),
}


def _suggestion(missing: Sequence[str], spare: list[str]) -> dict[str, str]:
    """Which of the spare columns each missing one may be."""
    found: dict[str, str] = {}
    for column in missing:
        likely = [name for name in spare if name.lower() in _LIKELY.get(column, ())]
        guess = likely or nearest(column, spare)
        if guess:
            found[column] = guess[0]
            spare = [name for name in spare if name != guess[0]]
    return found
