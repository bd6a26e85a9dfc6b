"""How good each model is, in one wide bar, and everything else that was measured of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from concordant.app.report.document import Cell, Column, Row, Section, Table, Text, blocks
from concordant.app.report.phrases import bars, mean_cell, model_name, percent, span
from concordant.app.report.source import MODELS, ReportInput

GOLD_PARTS = ("helpful", "honest", "harmless", "concise")
ROLES = {
    "base": "where the run starts",
    "sft": "has imitated demonstrations",
    "policy": "has learned from preferences",
    "ideal": "the best the world allows",
}


def section(run: ReportInput) -> Section | None:
    """A ladder of the models, and a table of all their figures."""
    ladder_, details_ = ladder(run), details(run)
    if ladder_ is None and details_ is None:
        return None
    said = _GOLD if run.has_gold else _SCORE if ladder_ else None
    return Section("models", "The models", "Models", blocks(said, ladder_, details_))


_GOLD = Text("Gold is the exact worth of an answer: helpful, honest, harmless and concise parts, added up.")
_SCORE = Text(
    "No gold reward was measured in this run. Below is the score of the reward model, which stands in for people and "
    "can be wrong."
)


def ladder(run: ReportInput) -> Table | None:
    """Gold of every model, one wide bar each; the reward model's score where there is no gold."""
    means = run.models("gold" if run.has_gold else "score")
    if not means:
        return None
    drawn = bars(means)
    rows = tuple(
        Row(model_name(run, model), (mean_cell(mean, bar=drawn[model]),), ROLES[model], model)
        for model, mean in means.items()
    )
    return Table((Column("Gold" if run.has_gold else "Score"),), rows, look="ladder")


def details(run: ReportInput) -> Table | None:
    """Everything else that was measured on the models; a column for each model that has any of it."""
    rows = [row for row in _measured(run) if row is not None]
    shown = [index for index in range(len(MODELS)) if any(row.cells[index] for row in rows)]
    if not shown:
        return None
    columns = tuple(Column(model_name(run, MODELS[index]), MODELS[index]) for index in shown)
    cut = tuple(replace(row, cells=tuple(row.cells[index] for index in shown)) for row in rows)
    return Table(columns, cut, look="models")


def _measured(run: ReportInput) -> Iterator[Row | None]:
    for part in GOLD_PARTS:
        yield _row(run, ("gold_parts", part), part.capitalize(), "part of gold", barred=True)
    if run.has_gold:
        yield _row(run, ("score",), "Proxy score", "what the reward model gives", barred=True)
    yield _row(run, ("kl",), "KL", "distance from SFT, nats per answer")
    yield _row(run, ("length",), "Length", "tokens per answer", digits=1)
    yield _row(run, ("distinct", "1"), "Distinct words", "share of words that differ")
    yield _row(run, ("distinct", "2"), "Distinct pairs", "share of word pairs that differ")
    yield _row(
        run, ("distinct", "unique_of_16"), "Unique of 16", "different answers to one prompt", share=True
    )
    yield _ended(run)


def _row(
    run: ReportInput,
    path: tuple[str, ...],
    label: str,
    note: str,
    *,
    digits: int = 2,
    barred: bool = False,
    share: bool = False,
) -> Row | None:
    means = run.models(*path)
    if not means:
        return None
    drawn = bars(means) if barred else {}

    def cell(model: str) -> Cell | None:
        mean = means.get(model)
        if mean is None:
            return None
        if share:
            return Cell(percent(mean.mean), value=mean.mean)
        return mean_cell(mean, digits, drawn.get(model))

    return Row(label, tuple(cell(model) for model in MODELS), note)


def _ended(run: ReportInput) -> Row | None:
    """Share of answers that end by themselves, with the Wilson interval."""

    def cell(model: str) -> Cell | None:
        rate = run.rate("models", model, "eos_rate")
        if rate is None:
            return None
        return Cell(percent(rate.rate, 1), f" ({span(rate.low, rate.high)})", rate.rate, rate.low, rate.high)

    cells = tuple(cell(model) for model in MODELS)
    return Row("Ends by itself", cells, "share of answers with an end") if any(cells) else None
