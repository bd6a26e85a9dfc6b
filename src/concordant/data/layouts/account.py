"""The account of a reading: which rows came through, which did not, and what was mended on the way.

A reader of rows raises `BadRow` for a row it cannot use and calls `Place.mended` for one it could put right;
both end as a `Problem` in what is `Loaded`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")

# Problems that are mistakes in the data: an error when strict. The others are counted only.
MISTAKES = ("broken line", "missing", "null", "type", "empty", "role", "number", "label")

MOST_IDENTICAL = 0.05  # share of pairs whose two sides are the same, above which a data set is refused


def place_of(where: str) -> tuple[str, str, int, int]:
    """A place taken apart: file, what stands before the number, line or row, column; 0 where there is none."""
    match = re.fullmatch(r"(.*?)(?:(:(?:row )?)(\d+))?(?::(\d+))?", where, re.DOTALL)
    assert match is not None  # the first group takes whatever the others leave
    return match[1], match[2] or "", int(match[3] or 0), int(match[4] or 0)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about one row that people should know."""

    where: str
    kind: str
    detail: str
    dropped: bool = True  # False: the row was mended and kept

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class Loaded(Generic[Row]):
    """The rows of a source in our types, and an account of what did not become one."""

    rows: tuple[Row, ...]
    layout: str
    read: int  # rows in the source
    problems: tuple[Problem, ...] = ()
    unused: tuple[str, ...] = ()  # columns of the first row that the layout does not look at

    @property
    def kept(self) -> int:
        return len(self.rows)

    @property
    def dropped(self) -> int:
        """Source rows, or parts of one, that were left out."""
        return sum(problem.dropped for problem in self.problems)

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of problem occurs."""
        return dict(Counter(problem.kind for problem in self.problems))


class BadRow(Exception):  # noqa: N818  never leaves this package: it becomes a Problem
    """A row that cannot be used, and why."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row comes from, and who hears about what was mended in it."""

    where: str
    note: Callable[[Problem], None]

    def mended(self, kind: str, detail: str) -> None:
        """Say that something in this row was put right, and the row kept."""
        self.note(Problem(self.where, kind, detail, dropped=False))
