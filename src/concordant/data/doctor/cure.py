"""A cleaned copy of a data set: what is left out or merged is counted, and the counts add up to the rows read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concordant.data.doctor.checkup import (
    LAYOUTS,
    AnyRow,
    Examination,
    answers_of,
    entry_of,
    prompt_of,
    reading_of,
)
from concordant.data.layouts.account import Problem
from concordant.data.layouts.layout import renamed
from concordant.data.types import Demonstration, Judgement, Preference
from concordant.errors import UserError
from concordant.files import fresh_file

LEFT_OUT: tuple[str, ...] = ("leak", "template", "too long", "duplicate")
MEANINGFUL = {name for layouts in LAYOUTS.values() for one in layouts for name in (*one.needs, *one.uses)}
MERGED = "contradiction"  # of pairs; two verdicts on one answer stay, as nobody can say which is right


@dataclass
class Cure:
    """An account: `read` rows of the source are `used` and `unusable`; the rows in them `written` and `left_out`."""

    read: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    rows: int = 0  # usable ones of ours; a row of the source may hold several
    left_out: Counter[str] = field(default_factory=Counter)
    merged: int = 0  # rows written for several that contradicted each other
    written: int = 0
    columns: set[str] = field(default_factory=set)  # not looked at, and not written either (see `MEANINGFUL`)

    @property
    def used(self) -> int:
        return self.read - self.unusable.total()


def refuse_taken(out: Path) -> None:
    """Raise UserError where a cleaned copy cannot go: it never replaces anything."""
    if out.exists():
        raise UserError(
            f"there is {out} already",
            where="--fix",
            expected="the name of a new file: a cleaned copy never replaces anything",
            fix="choose another name, or remove it first",
        )
    if out.suffix.lower() not in (".jsonl", ".ndjson"):
        raise UserError(
            f"a cleaned copy is written as JSON lines, and {out.name} says otherwise",
            where="--fix",
            expected="a name that ends in .jsonl",
            fix=f"name it {out.stem or 'clean'}.jsonl",
        )


def write_clean(examination: Examination, out: Path) -> Cure:
    """Write what is worth keeping of an examined source to `out`, as JSON lines in one layout.

    The layout is ours (`prompt` as a list of turns, `completion`, or `chosen` and `rejected`); columns that nobody
    looks at are kept as they are, unless they would be looked at in that layout. Of rows that repeat each other
    the first is kept; of pairs that contradict each other the first, with the mean verdict as `p_chosen`.
    Raises UserError where `out` is taken, or where the source is not what it was when it was examined.
    """
    refuse_taken(out)
    cure = Cure()
    with fresh_file(out) as partial, partial.open("wb") as file:
        _copy(examination, cure, lambda row: file.write(_line(row)))
    return cure


def _copy(examination: Examination, cure: Cure, write: Callable[[dict[str, Any]], object]) -> None:
    book, origin = examination.book, examination.origin
    pairs = origin.kind == "preferences"
    unwanted = _Ahead(book.rows_with((*LEFT_OUT, MERGED) if pairs else LEFT_OUT))
    merged = _Ahead(book.merged() if pairs else iter(()))

    def note(problem: Problem) -> None:
        (cure.unusable if problem.dropped else cure.mended)[problem.kind] += 1

    reading = reading_of(origin, note)
    for raw, rows in reading:
        assert reading.layout is not None
        looked_at = {*reading.layout.needs, *reading.layout.uses}
        value = renamed(raw.value, origin.columns or {})
        cure.columns |= value.keys() & MEANINGFUL - looked_at
        spare = {name: cell for name, cell in value.items() if name not in looked_at | MEANINGFUL}
        for row in rows:
            kind, p = unwanted.at(cure.rows), merged.at(cure.rows)
            cure.rows += 1
            if kind is not None:
                cure.left_out[kind] += 1
                continue
            cells = cells_of(row, p)
            cure.merged += p is not None
            cure.written += 1
            write({**spare, **cells})
    cure.read = reading.read
    if (cure.read, cure.rows) != (examination.report.read, examination.report.kept):
        raise UserError(
            f"{cure.rows} usable rows the second time, {examination.report.kept} the first",
            where=origin.source,
            expected="a source that stays as it is while it is read",
            fix="run the command again once nobody writes to it",
        )


class _Ahead:
    """What stands beside some numbers, asked for in rising order."""

    def __init__(self, pairs: Iterator[tuple[int, Any]]) -> None:
        self._pairs = pairs
        self._next = next(pairs, None)

    def at(self, n: int) -> Any:
        """What stands beside `n`; None where nothing does."""
        while self._next is not None and self._next[0] < n:
            self._next = next(self._pairs, None)
        return self._next[1] if self._next is not None and self._next[0] == n else None


def cells_of(row: AnyRow, p: float | None = None) -> dict[str, Any]:
    """A row in our layout. `p`: how sure several rows are together that side 1 of this one is right."""
    prompt = prompt_of(row)
    cells: dict[str, Any] = {"prompt": [message.as_dict() for message in prompt.messages], **answers_of(row)}
    if isinstance(row, Preference):
        sure = row.p_chosen if p is None else (p if entry_of(row).side else 1 - p)
        cells |= _unless(1.0, p_chosen=sure) | _unless(1.0, weight=row.weight)
        cells |= _unless(0.0, margin=row.margin if p is None else 0.0)
    elif isinstance(row, Judgement):
        cells |= {"label": row.desirable} | _unless(1.0, weight=row.weight)
    elif not isinstance(row, Demonstration):
        cells |= _unless("", answer=prompt.answer)
    return cells | _unless("", family=prompt.family)


def _unless(default: object, **cell: object) -> dict[str, Any]:
    return {name: value for name, value in cell.items() if value != default}


def _line(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON; what JSON has no word for is written as text."""
    try:
        return (json.dumps(row, ensure_ascii=False, default=str) + "\n").encode()
    except UnicodeEncodeError:  # half of a surrogate pair, in a column that nobody looks at
        return (json.dumps(row, default=str) + "\n").encode()
