"""Who beats whom, by whoever decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from concordant.app.report.document import Cell, Column, Row, Section, Table, Text
from concordant.app.report.phrases import model_name, percent, span
from concordant.app.report.source import ReportInput, number

LEAD = (
    "How often the second of two models gives the better answer to the same prompt; a tie counts one half, and every "
    "prompt once. Above 50 % it is the better one. At equal lengths: what is left when longer answers win nothing by "
    "being longer. Detects: the smallest win rate above 50 % that so many prompts tell from it in 80 of 100 cases."
)


def section(run: ReportInput) -> Section | None:
    """The win rates of every two models."""
    rows = tuple(wins(run))
    if not rows:
        return None
    columns = tuple(
        Column(text) for text in ("decided by", "win rate", "at equal lengths", "prompts", "detects")
    )
    return Section("wins", "Who beats whom", "Wins", (Text(LEAD), Table(columns, rows, "models")))


def wins(run: ReportInput) -> Iterator[Row]:
    """One line for each pair and each who decides, in the order of the results."""
    for row in run.at("win_rates") or ():
        rate = share_cell(row)
        if rate is not None:
            first, second = (model_name(run, str(row.get(side))) for side in ("first", "second"))
            n, least = number(row.get("n")), number(row.get("detectable"))
            yield Row(
                f"{second} over {first}",
                (
                    Cell(str(row.get("by"))),
                    rate,
                    share_cell(row.get("length_controlled") or {}),
                    None if n is None else Cell(f"{n:,.0f}", value=n),
                    None if least is None else Cell(percent(least, 1), value=least),
                ),
            )


def share_cell(row: Mapping[str, Any]) -> Cell | None:
    """A share with its interval; None where any of it is missing."""
    value, low, high = (number(row.get(key)) for key in ("rate", "low", "high"))
    if value is None or low is None or high is None:
        return None
    return Cell(percent(value, 1), f" ({span(low, high)})", value, low, high)
