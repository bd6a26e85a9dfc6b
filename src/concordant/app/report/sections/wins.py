"""Who beats whom, by whoever decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from concordant.app.report.document import Cell, Column, Figure, Figures, Row, Section, Table, Text, blocks
from concordant.app.report.drawings.canvas import POLICY, PROXY
from concordant.app.report.drawings.forest import Dot, Series, forest
from concordant.app.report.phrases import model_name, percent, span
from concordant.app.report.source import ReportInput, number

LEAD = (
    "How often the second of two models gives the better answer to the same prompt; a tie counts one half, and every "
    "prompt once. Above 50 % it is the better one. At equal lengths: what is left when longer answers win nothing by "
    "being longer. Detects: the smallest win rate above 50 % that so many prompts tell from it in 80 of 100 cases."
)
SERIES = {"raw": Series("win rate", POLICY), "even": Series("at equal lengths", PROXY, "D", hollow=True)}
FIRST_SHOWN = 9  # rows of the drawing; the table has them all


def section(run: ReportInput) -> Section | None:
    """The win rates of every two models."""
    found = sorted(
        run.at("win_rates") or (),
        key=lambda row: (row.get("second"), row.get("first")) != ("policy", run.start),
    )
    table = wins(run, found)
    if not table.rows:
        return None
    drawn = _drawn(run, found[:FIRST_SHOWN], table)
    return Section("wins", "Who beats whom", "Wins", blocks(Text(LEAD), drawn))


def pair(run: ReportInput, row: Mapping[str, Any]) -> str:
    """Whose win rate it is, over whom."""
    first, second = (model_name(run, str(row.get(side))) for side in ("first", "second"))
    return f"{second} over {first}"


def wins(run: ReportInput, found: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each pair and each who decides."""
    columns = tuple(
        Column(text) for text in ("decided by", "win rate", "at equal lengths", "prompts", "detects")
    )
    return Table(columns, tuple(_rows(run, found)), "models")


def _rows(run: ReportInput, found: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for row in found:
        if (rate := share_cell(row)) is None:
            continue
        n, least = number(row.get("n")), number(row.get("detectable"))
        cells = (
            Cell(str(row.get("by"))),
            rate,
            share_cell(row.get("length_controlled") or {}),
            None if n is None else Cell(f"{n:,.0f}", value=n),
            None if least is None else Cell(percent(least, 1), value=least),
        )
        yield Row(pair(run, row), cells)


def share_cell(row: Mapping[str, Any]) -> Cell | None:
    """A share with its interval; None where any of it is missing."""
    dot = share_dot(row)
    if dot is None:
        return None
    return Cell(percent(dot.value, 1), f" ({span(dot.low, dot.high)})", dot.value, dot.low, dot.high)


def share_dot(row: Mapping[str, Any]) -> Dot | None:
    """The same for a drawing."""
    value, low, high = (number(row.get(key)) for key in ("rate", "low", "high"))
    return None if value is None or low is None or high is None else Dot(value, low, high)


def _drawn(run: ReportInput, found: Sequence[Mapping[str, Any]], table: Table) -> Figures:
    """The first of them as a forest, with the whole table beside it."""
    rows = []
    for row in found:
        both = {"raw": share_dot(row), "even": share_dot(row.get("length_controlled") or {})}
        dots = {name: dot for name, dot in both.items() if dot is not None}
        if "raw" in dots:
            rows.append((f"{row.get('by')}: {pair(run, row)}", dots))
    note = "Right of the line the model named first is the better one; an interval that crosses it says nothing yet."
    draw = partial(forest, "wins-forest", rows, SERIES, "win rate", line=0.5, percent=True, width=7.2)
    return Figures((Figure("Win rates", note, draw, table),), wide=True)
