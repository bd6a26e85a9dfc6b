"""The release gate in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from concordant.evaluation.config import Rule
from concordant.evaluation.figures import TASK, WIN_RATE
from concordant.evaluation.gate import GO, NO_GO, NOT_ENOUGH, Decision, Reason
from concordant.pipeline.gate import NO_GATE

STATUS = {GO: 0, NO_GO: 1}  # of the command that asks for it; 2 is a mistake of the user
OPEN = 3
WORST_FIRST = (NO_GO, NOT_ENOUGH, GO)

# What figures are called in a sentence; those of a table have what they are of in place of the braces.
WORDS = {
    "length": "length in tokens",
    "kl": "KL to the start",
    "eos_rate": "share of answers that end",
    "duplicate_bigrams": "share of repeated word pairs",
    "loops": "share of answers in a loop",
    "distinct.unique_of_16": "share of different answers among 16",
    "held_out": "score of the second reward model",
}
OF_TABLES = {
    "gold_parts": "{} part of gold",
    "gold_by_family": "gold of {} questions",
    "refusals_by_family": "refusals of {} questions",
    "win_rate": "win rate by {}",
}


def status(decision: Decision) -> int:
    """The exit status for a decision."""
    return STATUS.get(decision.verdict, OPEN)


def sentences(decision: Decision, row: Mapping[str, Any]) -> Iterator[str]:
    """The verdict, a line for each demand, what is broken first, and when they were stated; `row` is the gate of
    `results.json`."""
    yield f"gate: {decision.verdict}"
    for reason in sorted(decision.reasons, key=lambda one: WORST_FIRST.index(one.verdict)):
        yield f"  {sentence(reason)}"
    yield f"  {stated(row)}"


def sentence(reason: Reason) -> str:
    """What was demanded of a figure, what it did, and whether that is enough."""
    figure = in_words(reason.figure)
    if reason.change is None:
        return f"{figure} was not measured{_way_to(reason.figure)}; {_demand(reason)} is demanded: open"
    return f"{figure} {_did(reason)}; {_demand(reason)} is demanded: {_outcome(reason)}"


def in_words(figure: str) -> str:
    """A figure that models are compared in, for people; one that has no words keeps its name."""
    table, _, of = figure.partition(".")
    if of and table in OF_TABLES:
        return OF_TABLES[table].format(of)
    return WORDS.get(figure, figure)


def stated(row: Mapping[str, Any]) -> str:
    """When the demands were made."""
    when = "before" if row["stated_before"] else "AFTER"
    others = row.get("earlier") or ()
    named = ["no gate" if one == NO_GATE else one for one in others]
    changed = f"; figures of this run were judged by {' and by '.join(named)} before" if named else ""
    return f"stated {when} the models were measured, as {row['hash']}{changed}"


def _did(reason: Reason) -> str:
    change = reason.change
    assert change is not None
    if reason.figure.startswith(WIN_RATE):
        rate, low, high = (f"{0.5 + one:.3f}" for one in (change.mean, change.low, change.high))
        return f"is {rate} [{low}, {high}] on {change.n:,} prompts"
    return f"changed by {change.mean:+z.3f} [{change.low:+z.3f}, {change.high:+z.3f}] on {change.n:,} prompts"


def _demand(reason: Reason) -> str:
    bound = f"{reason.margin:g}"
    if reason.figure.startswith(WIN_RATE):
        sides: Mapping[Rule, str] = {
            "better": f"more than {0.5 + reason.margin:g}",
            "no_more": f"at most {0.5 + reason.margin:g}",
            "no_less": f"at least {0.5 - reason.margin:g}",
        }
        return sides[reason.rule]
    if reason.rule == "better":
        return f"a rise of more than {bound}" if reason.margin else "a rise"
    direction = "rise" if reason.rule == "no_more" else "fall"
    return f"a {direction} of no more than {bound}" if reason.margin else f"no {direction}"


def _outcome(reason: Reason) -> str:
    if reason.verdict == GO:
        return "met"
    if reason.verdict == NO_GO:
        return "broken"
    if reason.needed is None:
        return "open, and as near to the margin as this no number of prompts decides it"
    return f"open; about {float(f'{reason.needed:.2g}'):,.0f} prompts would decide it, if it stays as it is"


def _way_to(figure: str) -> str:
    if figure == f"{WIN_RATE}people":
        return " (concordant label RUN --compare sft policy)"
    if figure.startswith(TASK):
        return f" (concordant tax RUN --tasks {figure.removeprefix(TASK).split('.')[0]})"
    return ""
