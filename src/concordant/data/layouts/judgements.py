"""Rows whose one answer is called good or bad: their reader, and the table of their layouts at the end.

They are demonstrations with a label beside them; what is bad is not to be imitated, but it can be learnt from.
"""

from __future__ import annotations

from concordant.data.layouts.account import Place
from concordant.data.layouts.cells import LABELS, Value, is_desirable, number
from concordant.data.layouts.demonstrations import SINGLE
from concordant.data.layouts.layout import Layout, Reader
from concordant.data.types import Demonstration, Judgement


def _judged(read: Reader[Demonstration], column: str) -> Reader[Judgement]:
    """A reader of demonstrations as a reader of judgements, whose label stands in `column`."""

    def judged(row: Value, place: Place) -> list[Judgement]:
        desirable, weight = is_desirable(row, column), number(row, "weight", 1.0, 0.0)
        return [Judgement(one.prompt, one.completion, desirable, weight) for one in read(row, place)]

    return judged


JUDGEMENTS: tuple[Layout[Judgement], ...] = tuple(
    Layout(f"{d.name}, {column}", (*d.needs, column), _judged(d.read, column), (*d.uses, "weight"))
    for column in LABELS
    for d in SINGLE
)
