"""The numbers behind drawn lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from concordant.app.report.document import Column, Row, Table
from concordant.app.report.drawings.curves import Line
from concordant.app.report.phrases import number_cell, plain

MOST = 12  # rows of such a table: the first, the last, and points between them


def anchor(text: str) -> str:
    """A word that may stand in an id attribute."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())


def numbers(lines: Sequence[Line], x: str) -> Table:
    """Some points of every line, line after line."""
    several = len(lines) > 1
    rows = [
        Row(plain(at, 0 if at == round(at) else 2), (number_cell(value, 3),), line.label if several else "")
        for line in lines
        for at, value in thinned(line.points)
    ]
    return Table((Column("" if several else lines[0].label),), tuple(rows), x)


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most `MOST` of them, evenly spaced, both ends among them."""
    if len(points) <= MOST:
        return points
    places = dict.fromkeys(round(i * (len(points) - 1) / (MOST - 1)) for i in range(MOST))
    return [points[place] for place in places]
