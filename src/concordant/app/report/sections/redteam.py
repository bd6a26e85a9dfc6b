"""How often attacks succeed, family by family, and how often their harmless look-alikes are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from concordant.app.report.document import (
    Cell,
    Column,
    Figure,
    Figures,
    Notes,
    Row,
    Section,
    Table,
    Text,
    blocks,
)
from concordant.app.report.drawings.forest import Dot, forest, series_of
from concordant.app.report.phrases import change, model_name, percent, plain, span
from concordant.app.report.source import ReportInput, number
from concordant.evaluation.intervals import Mean

Family = Mapping[str, Any]  # of `redteam/results.json`

LEAD = (
    "Every attack was put to each model several times. An attack succeeds where the model does what it must not; a "
    "look-alike fails where a harmless request is refused or a right user is denied. Samples of one request are not "
    "independent, and the intervals know it. ≤ stands where nothing was found: higher rates are ruled out at 95 %."
)


def section(run: ReportInput) -> Section | None:
    """A forest and a table for each set of attacks."""
    sets = run.redteam.get("sets") or {}
    found = [block for name, one in sets.items() for block in _set(run, name, one, alone=len(sets) == 1)]
    return Section("red-team", "The red team", "Red team", (Text(LEAD), *found)) if found else None


def _set(run: ReportInput, name: str, one: Mapping[str, Any], *, alone: bool) -> Iterator[Any]:
    stages = {stage: families for stage, families in (one.get("stages") or {}).items() if families}
    if not stages:
        return
    title = "Attacks that succeed" if alone else f"Attacks that succeed: {name}"
    names = dict.fromkeys(family for families in stages.values() for family in families)
    series = series_of({stage: model_name(run, stage) for stage in stages})
    rows = [
        (family, {stage: dot for stage, of in stages.items() if (dot := _dot(of.get(family))) is not None})
        for family in names
    ]
    draw = partial(
        forest, f"attacks-{_word(name)}", rows, series, "attacks that succeed", percent=True, width=7.2
    )
    note = (
        "Farther left is safer. The pale band is the 95 % interval; a bar | stands where no attack succeeded."
    )
    yield Figures((Figure(title, note, draw, table(run, one)),), wide=True)
    remarks = tuple(_remarks(run, one))
    yield from blocks(Notes(remarks) if remarks else None)


def _word(name: str) -> str:
    return "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in name.lower())


def _dot(family: Family | None) -> Dot | None:
    share = (family or {}).get("attacks") or {}
    rate, low, high = (number(share.get(key)) for key in ("rate", "low", "high"))
    if rate is None or low is None or high is None:
        return None
    return Dot(rate, low, high, at_most=_none(share))


def table(run: ReportInput, one: Mapping[str, Any]) -> Table:
    """One line for each family: attacks and look-alikes of every stage, and the change from the first to the last."""
    stages, changes = one["stages"], one.get("changes") or {}
    columns = [
        column
        for stage in stages
        for column in (Column(model_name(run, stage), stage), Column("look-alikes failed"))
    ]
    families = dict.fromkeys(family for of in stages.values() for family in of)
    rows = []
    for family in families:
        cells = [
            share_cell((of.get(family) or {}).get(kind) or {})
            for of in stages.values()
            for kind in ("attacks", "lookalikes")
        ]
        rows.append(Row(family, (*cells, _change(changes.get(family))), _counted(stages, family)))
    return Table((*columns, Column("change")), tuple(rows), "family")


def _counted(stages: Mapping[str, Any], family: str) -> str:
    share: Family = next((of[family]["attacks"] for of in stages.values() if family in of), {})
    return f"{share.get('n', 0):,} attempts on {share.get('requests', 0):,} requests"


def share_cell(share: Mapping[str, Any]) -> Cell | None:
    """A rate with its interval; a bound where nothing was found; None where nothing has a verdict."""
    rate, low, high = (number(share.get(key)) for key in ("rate", "low", "high"))
    if rate is None or low is None or high is None or not share.get("n"):
        return None
    beside = f" (≤ {plain(100 * high, 1)})" if _none(share) else f" ({span(low, high)})"
    unread = f" + {share['open']:,} open" if share.get("open") else ""
    return Cell(percent(rate, 1), f"{beside}{unread}", rate, low, high)


def _none(share: Mapping[str, Any]) -> bool:
    """Whether it is known that none failed: where verdicts are open it is not."""
    return not share.get("failed") and not share.get("open")


def _change(row: Any) -> Cell | None:
    if not isinstance(row, Mapping) or number(row.get("mean")) is None:
        return None
    mean = Mean.from_dict(row)
    points = Mean(100 * mean.mean, 100 * mean.se, mean.n)
    return Cell(f"{change(points, 0)} points", "", mean.mean, number(mean.low), number(mean.high))


def _remarks(run: ReportInput, one: Mapping[str, Any]) -> Iterator[str]:
    """Families in which the last model is surely worse, verdicts that are open, attacks that did not fit."""
    worse = [
        family
        for family, row in (one.get("changes") or {}).items()
        if (se := number(row.get("se"))) is not None and row["mean"] > max(0.0, 3 * se)
    ]
    if worse:
        yield f"Worse by more than three standard errors than before: {', '.join(worse)}."
    for stage, families in one["stages"].items():
        shares = [family for name, family in families.items() if name != "all families"]
        unread = sum(int(family["attacks"].get("open", 0)) for family in shares)
        left = sum(int(family.get("left_out", 0)) for family in shares)
        name = model_name(run, stage)
        if unread:
            yield f"{name}: {unread:,} answers have no verdict; the intervals hold both of what they may be."
        if left:
            yield f"{name}: {left:,} attempts do not fit into its context and are left out."
    if one.get("judge"):
        yield f"Answers on which rules are silent were read by {one['judge']}."
