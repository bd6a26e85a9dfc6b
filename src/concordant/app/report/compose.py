"""Putting the report of a run together: the verdict, what to keep in mind, and the sections that the run has."""

from __future__ import annotations

from collections.abc import Callable

from concordant.app.report.document import Report, Section
from concordant.app.report.sections import (
    comparison,
    glossary,
    labels,
    made,
    models,
    overoptimisation,
    questions,
    reward_model,
    samples,
    training,
    wins,
)
from concordant.app.report.sections.verdict import caveats, released, verdict
from concordant.app.report.source import ReportInput
from concordant.errors import UserError

SCHEMA = 1  # of `results.json`

SECTIONS: tuple[Callable[[ReportInput], Section | None], ...] = (
    comparison.section,
    models.section,
    wins.section,
    questions.section,
    training.section,
    overoptimisation.section,
    reward_model.section,
    labels.section,
    samples.section,
    made.section,
    glossary.section,
)  # in the order of the page


def compose(run: ReportInput) -> Report:
    """The report of `run`, compared with `run.against` if there is one.

    Raises UserError on results of another schema.
    """
    for source in (run, run.against):
        if source is not None and source.at("schema") not in (None, SCHEMA):
            raise UserError(
                f"results of schema {source.at('schema')} cannot be read",
                where=f"results.json of the run {source.name}",
                expected=f"schema {SCHEMA}",
                fix="write the report with the version of concordant that made the run",
            )
    gate = released(run)
    found = (section(run) for section in SECTIONS)
    return Report(
        title=run.name,
        overline=tuple(_overline(run)),
        verdict=verdict(run),
        callouts=(gate,) if gate else (),
        caveats=caveats(run),
        sections=tuple(section for section in found if section is not None),
    )


def _overline(run: ReportInput) -> list[str]:
    world, seed = run.at("world"), run.at("seed")
    named = [f"world {world}"] if world else []
    return [f"run {run.name}", *named, *([] if seed is None else [f"seed {seed}"])]
