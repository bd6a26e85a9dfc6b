"""Gold by kind of question and by distance from the training data: a mean can hide what got worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from concordant.app.report.document import Column, Figure, Figures, Row, Section, Table, Text
from concordant.app.report.drawings.forest import Dot, forest, series_of
from concordant.app.report.phrases import SPLITS, mean_cell, model_name
from concordant.app.report.source import MODELS, ReportInput
from concordant.evaluation.intervals import Mean


def section(run: ReportInput) -> Section | None:
    """Gold of every model in groups of prompts."""
    drawn = tuple(_groups(run))
    lead = Text("A mean can hide a kind of question that got worse. Each row is one kind.")
    title = "Where it got better, and where not"
    return Section("questions", title, "Questions", (lead, Figures(drawn))) if drawn else None


def _groups(run: ReportInput) -> Iterator[Figure]:
    """Gold by family and by split."""
    names = {model: model_name(run, model) for model in MODELS}
    kinds: tuple[tuple[str, str, Mapping[str, str]], ...] = (
        ("gold_by_family", "By kind of question", {}),
        ("gold_by_split", "By distance from the training data", SPLITS),
    )
    for key, title, labels in kinds:
        found = dict.fromkeys(name for model in MODELS for name in run.table("models", model, key))
        rows = {labels.get(name, name): run.models(key, name) for name in found}
        rows = {name: means for name, means in rows.items() if means}
        if rows:
            note = "Farther right is better. The pale band is the 95 % interval."
            dots = [
                (name, {model: Dot(mean.mean, mean.low, mean.high) for model, mean in means.items()})
                for name, means in rows.items()
            ]
            draw = partial(forest, key, dots, series_of(names), "gold reward")
            yield Figure(title, note, draw, _numbers(rows, names))


def _numbers(rows: Mapping[str, Mapping[str, Mean]], names: Mapping[str, str]) -> Table:
    seen = [model for model in MODELS if any(model in means for means in rows.values())]
    columns = tuple(Column(names[model], model) for model in seen)
    lines = (
        Row(name, tuple(mean_cell(means[model]) if model in means else None for model in seen))
        for name, means in rows.items()
    )
    return Table(columns, tuple(lines), "kind")
