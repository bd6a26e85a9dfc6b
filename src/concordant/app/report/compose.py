"""Putting the report of a run together: the verdict, what to keep in mind, and the sections that the run has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from concordant.app.report.document import Report, Section
from concordant.app.report.sections import (
    behaviours,
    capability,
    comparison,
    glossary,
    labels,
    limits,
    made,
    models,
    overoptimisation,
    questions,
    redteam,
    reward_model,
    samples,
    several,
    training,
    variety,
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
    behaviours.section,
    overoptimisation.section,
    reward_model.section,
    labels.section,
    variety.section,
    redteam.section,
    capability.section,
    training.section,
    samples.section,
    limits.section,
    made.section,
    glossary.section,
)  # in the order of the page


def compose(run: ReportInput) -> Report:
    """The report of `run`, compared with `run.against` if there is one.

    Raises UserError on results of another schema.
    """
    for source in (run, run.against):
        if source is not None:
            _check_schema(source)
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


def compose_several(runs: Sequence[ReportInput], duels: Callable[[], Mapping[str, Any]]) -> Report:
    """One report about several runs; `duels` is asked for win rates between them where anything decides.

    Raises UserError on results of another schema, and on runs that were not measured alike.
    """
    for run in runs:
        _check_schema(run)
    several.refuse_unlike(runs)
    names = [run.name for run in runs]
    return Report(
        title=", ".join(names),
        overline=("comparison", *names),
        verdict=several.headline(runs),
        callouts=(),
        caveats=(),
        sections=tuple(several.sections(runs, duels() if several.comparable(runs) else None)),
    )


def _check_schema(run: ReportInput) -> None:
    if run.at("schema") not in (None, SCHEMA):
        raise UserError(
            f"results of schema {run.at('schema')} cannot be read",
            where=f"results.json of the run {run.name}",
            expected=f"schema {SCHEMA}",
            fix="write the report with the version of concordant that made the run",
        )


def _overline(run: ReportInput) -> list[str]:
    world, seed = run.at("world"), run.at("seed")
    named = [f"world {world}"] if world else []
    return [f"run {run.name}", *named, *([] if seed is None else [f"seed {seed}"])]
