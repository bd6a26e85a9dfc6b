"""What this report cannot show, worked out from the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from concordant.app.report.document import Cell, Column, Notes, Row, Section, Table, Text, blocks
from concordant.app.report.phrases import listed, number_cell, percent, plain
from concordant.app.report.sections.wins import pair
from concordant.app.report.source import ReportInput, number


def section(run: ReportInput) -> Section | None:
    """Every limit that applies."""
    found = tuple(limits(run))
    if not found:
        return None
    lead = Text("Worked out from the run, not from what somebody remembered to write.")
    return Section("limits", "Limits", "Limits", blocks(lead, Notes(found), beyond(run)))


def beyond(run: ReportInput) -> Table | None:
    """Figures that are out of bounds, each with what is likely behind it."""
    rows = tuple(
        Row(
            str(row.get("figure")),
            (number_cell(number(row.get("value")), 3), Cell(_bound(row))),
            str(row.get("says")),
        )
        for row in run.at("health") or ()
        if row.get("beyond")
    )
    return Table((Column("is"), Column("should be")), rows, "figure", title="Out of bounds") if rows else None


def _bound(row: Mapping[str, Any]) -> str:
    low, high = number(row.get("at_least")), number(row.get("at_most"))
    if low is not None and high is not None:
        return f"{plain(low)} to {plain(high)}" if low < high else plain(low)
    return f"at least {plain(low)}" if low is not None else f"at most {plain(high)}"


def limits(run: ReportInput) -> Iterator[str]:
    """In the order of their weight."""
    yield from _gate(run)
    yield from _judges(run)
    yield from _power(run)
    if run.outdated:
        yield f"Left out, as the models have been made anew since: {listed(run.outdated)}. Run it again."
    if run.results and not run.redteam:
        yield "No red team has attacked these models: concordant redteam RUN."
    if run.results and run.at("models") and not run.at("gate"):
        yield "No release gate was stated: nothing here was demanded before it was measured."
    if run.at("seed") is not None and run.at("models") and not run.has_gold:  # else a caveat of the verdict
        yield f"One run with seed {run.at('seed')}: what another seed does is not in any interval here."


def _gate(run: ReportInput) -> Iterator[str]:
    row = run.table("gate")
    if row and not row.get("stated_before"):
        yield "The gate was stated after the figures were there: it proves less than one that was stated before."
    if row.get("earlier"):
        yield "Figures of this run were judged by another gate, or by none, before."


def _judges(run: ReportInput) -> Iterator[str]:
    """Who decides, and whether they took part in training."""
    decided = {str(row.get("by")) for row in run.at("win_rates") or ()}
    if run.has_gold:
        yield "The gold is the world's own: it knows an invented town and no language beyond it."
    if "score" in decided:
        yield "The score decides with the reward model that training maximised: a win by it is no evidence."
    judge, trained = run.setting("evaluate", "labelers"), run.setting("feedback", "labelers")
    simulated = "simulated" in str(run.setting("feedback", "source") or "simulated")
    if "labelers" in decided and simulated and judge and str(judge) == str(trained):
        yield f"The judge also trained: {judge} labelled the training data and decides these duels."
    if decided and not decided & {"people", "gold"}:
        yield "No person has compared the models: concordant label RUN --compare sft policy."


def _power(run: ReportInput) -> Iterator[str]:
    """The smallest win rate that the prompts of each who decides can tell from one half."""
    found: dict[str, list[str]] = {}
    for row in run.at("win_rates") or ():
        n, least = number(row.get("n")), number(row.get("detectable"))
        if n and least and (row.get("second"), row.get("first")) == ("policy", run.start):
            found.setdefault(
                f"{n:,.0f} prompts cannot tell a win rate below {percent(least, 1)} from one half", []
            ).append(f"{pair(run, row)} by {row.get('by')}")
    for said, whom in found.items():
        yield f"{said} ({listed(whom)})."
