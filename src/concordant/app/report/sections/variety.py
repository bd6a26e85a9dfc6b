"""How long the answers are and how many different ones there are, before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from concordant.app.report.document import Cell, Column, Figure, Figures, Row, Section, Table, Text, blocks
from concordant.app.report.drawings.bars import spread
from concordant.app.report.phrases import mean_cell, model_name, plain, rate_cell
from concordant.app.report.source import ReportInput, number
from concordant.evaluation.intervals import Mean

Values = Mapping[str, Sequence[float]]  # by model
MOST_BINS = 24


def section(run: ReportInput) -> Section | None:
    """Distributions over the answers, and figures of variety."""
    drawn, table = tuple(_drawings(run)), variety(run)
    if not drawn and table is None:
        return None
    lead = Text(
        "A mean can stand still while answers become all alike, or while a few of them become very long. The short "
        "line at the bottom is the mean."
    )
    found = blocks(lead if drawn else None, Figures(drawn, small=True) if drawn else None, table)
    return Section("variety", "Length and variety", "Variety", found)


def _drawings(run: ReportInput) -> Iterator[Figure]:
    names = {model: model_name(run, model) for model in (run.start, "policy")}
    lengths = _values(run, names, "length")
    if len(lengths) == 2:
        note = "Tokens of an answer, its end included."
        yield _spread("lengths", "Length", note, lengths, names, "tokens")
    nll = {
        model: [-float(row["ref_logprob"]) / row["length"] for row in run.answers if _has_nll(row, model)]
        for model in names
    }
    if all(nll.values()):
        note = (
            f"How unlikely {names[run.start]} finds the answers: a long tail is text that it would not write."
        )
        yield _spread(
            "strangeness", "Distance from before", note, nll, names, "nats a token, of the model before"
        )
    unique = {model: run.unique.get(model, ()) for model in names}
    if all(unique.values()):
        note = "Different answers among 16 to one and the same prompt; at 1 it always says the same."
        yield _spread("unique", "Different answers", note, unique, names, "different texts among 16")


def _has_nll(row: Mapping[str, object], model: str) -> bool:
    return (
        row.get("model") == model and number(row.get("ref_logprob")) is not None and bool(row.get("length"))
    )


def _values(run: ReportInput, names: Mapping[str, str], key: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in run.answers:
        value = number(row.get(key))
        if row.get("model") in names and value is not None:
            found.setdefault(str(row["model"]), []).append(value)
    return {model: found[model] for model in names if model in found}


def _spread(key: str, title: str, note: str, values: Values, names: Mapping[str, str], x: str) -> Figure:
    edges = bins([value for found in values.values() for value in found])
    draw = partial(spread, key, values, names, edges, x)
    return Figure(title, note, draw, _quantiles(values, names))


def bins(values: Sequence[float]) -> list[float]:
    """Edges of equal bins that hold all values; whole numbers stand in the middle of theirs."""
    low, high = min(values), max(values)
    if all(value == round(value) for value in values):
        width = math.ceil((high - low + 1) / MOST_BINS)
        count = math.ceil((high - low + 1) / width)
        return [low - 0.5 + width * i for i in range(count + 1)]
    return [float(edge) for edge in np.linspace(low, high, MOST_BINS + 1)]


def _quantiles(values: Values, names: Mapping[str, str]) -> Table:
    columns = tuple(Column(names[model], model) for model in values)
    wanted = (("5 %", 0.05), ("half", 0.5), ("95 %", 0.95), ("all", 1.0))
    rows = tuple(
        Row(f"{label} are at most", tuple(Cell(plain(float(np.quantile(v, q)), 1)) for v in values.values()))
        for label, q in wanted
    )
    return Table(columns, rows)


def variety(run: ReportInput) -> Table | None:
    """Within the answers to one prompt, and across prompts: what is the same whatever is asked."""
    models = [run.start, "policy"]
    wanted = (
        ("Within a prompt: distinct words", "of 16 answers, against chance", ("within", "ead")),
        (
            "Within a prompt: distance of two",
            "1 − words shared of words used",
            ("within", "jaccard_distance"),
        ),
        ("Across prompts: same text", "two prompts answered alike", ("across", "same_text")),
    )
    rows = [
        Row(label, tuple(None if mean is None else mean_cell(mean, 3) for mean in means), note)
        for label, note, path in wanted
        if any(means := [_mean(run, model, path) for model in models])
    ]
    commonest = [run.rate("models", model, "diversity", "across", "commonest") for model in models]
    if any(commonest):
        cells = tuple(None if rate is None else rate_cell(rate) for rate in commonest)
        rows.append(Row("Across prompts: commonest answer", cells, "share of all prompts that get it"))
    columns = tuple(Column(model_name(run, model), model) for model in models)
    return Table(columns, tuple(rows)) if rows else None


def _mean(run: ReportInput, model: str, path: tuple[str, str]) -> Mean | None:
    return run.mean("models", model, "diversity", *path)
