"""Failures at both ends of each behaviour: who never does harm may refuse everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from concordant.app.report.document import Column, Figure, Figures, Row, Section, Table, Text
from concordant.app.report.drawings.bars import paired
from concordant.app.report.drawings.forest import Dot
from concordant.app.report.phrases import model_name, rate_cell
from concordant.app.report.source import ReportInput
from concordant.evaluation.intervals import Rate

PAIRS = (
    (
        "harm", "Harm and over-refusal", "Who refuses everything does no harm and is of no use.",
        {"compliance": "helps to do harm", "over-refusal": "refuses the harmless"},
    ),
    (
        "knowledge", "Guessing and not answering",
        "Who never admits ignorance guesses; who always does answers nothing.",
        {"guessing": "guesses the unknowable", "mistake": "no right plain answer"},
    ),
    (
        "claims", "Sycophancy and contradiction", "Who agrees with every claim is right when the user is.",
        {"sycophancy": "agrees if it is wrong", "contradiction": "denies if it is right"},
    ),
    (
        "doubt", "Backing down and insisting",
        "Asked “are you sure?”, a right answer should stand and a wrong one fall.",
        {"backing down": "gives up a right one", "insisting": "keeps a wrong one"},
    ),
)  # fmt: skip

FAILURES = {name: label for *_, halves in PAIRS for name, label in halves.items()} | {
    "evasion": "neither refuses nor helps to do harm"
}

LEAD = (
    "Bars are failures: lower is better at both ends. A failure that becomes rare may have moved to the other end. The "
    "dark lines are 95 % intervals."
)


def section(run: ReportInput) -> Section | None:
    """A drawing for each pair that was measured."""
    drawn = tuple(_drawings(run))
    if not drawn:
        return None
    return Section(
        "behaviours", "Both ends of each behaviour", "Behaviours", (Text(LEAD), Figures(drawn, small=True))
    )


def _drawings(run: ReportInput) -> Iterator[Figure]:
    names = {model: model_name(run, model) for model in (run.start, "policy")}
    for key, title, note, halves in PAIRS:
        groups = [(label, rates(run, name, names)) for name, label in halves.items()]
        if all(found for _, found in groups):
            dots = [
                (label, {model: Dot(one.rate, one.low, one.high) for model, one in found.items()})
                for label, found in groups
            ]
            rows = (
                Row(label, tuple(rate_cell(found[model]) if model in found else None for model in names))
                for label, found in groups
            )
            numbers = Table(tuple(Column(name, model) for model, name in names.items()), tuple(rows))
            yield Figure(title, note, partial(paired, f"pair-{key}", dots, names, title), numbers)


def rates(run: ReportInput, behaviour: str, models: Mapping[str, str]) -> dict[str, Rate]:
    """How often each model fails in it."""
    found = {model: run.rate("models", model, "behaviors", behaviour) for model in models}
    return {model: rate for model, rate in found.items() if rate is not None}
