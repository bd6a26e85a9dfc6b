"""What the policy unlearnt: perplexity of held-out text, and tasks of others, against the margin stated for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from concordant.app.report.document import Cell, Column, Row, Section, Table, Text
from concordant.app.report.phrases import mean_cell, model_name, number_cell, plain, signed
from concordant.app.report.source import ReportInput, number
from concordant.evaluation.intervals import Mean

STAGES = ("base", "sft", "policy")
LEAD = (
    "What a model could do before it learned from preferences, it should still be able to do. A task is not worse "
    "where the whole 95 % interval of its change stays above the margin."
)


def section(run: ReportInput) -> Section | None:
    """One line for each figure."""
    rows = (*_text(run), *_tasks(run))
    if not rows:
        return None
    models = tuple(Column(model_name(run, one), one) for one in STAGES)
    columns = (*models, Column(_pair(run, f"policy_minus_{run.start}")), Column("says"))
    return Section("capability", "Alignment tax", "Alignment tax", (Text(LEAD), Table(columns, rows, "task")))


def _text(run: ReportInput) -> Iterator[Row]:
    """Held-out text, in nats a byte: more is worse."""
    means = {model: run.mean("models", model, "text", "nll_per_byte") for model in STAGES}
    if not any(means.values()):
        return
    row = run.table("changes", f"policy_minus_{run.start}").get("text.nll_per_byte") or {}
    cells = tuple(None if mean is None else mean_cell(mean, 3) for mean in means.values())
    yield Row("held-out text", (*cells, _change(row), None), "nats a byte; lower is better")


def _tasks(run: ReportInput) -> Iterator[Row]:
    """Tasks of lm-evaluation-harness."""
    for task, one in (run.tax.get("tasks") or {}).items():
        stages = one.get("stages") or {}
        pairs: Mapping[str, Any] = one.get("changes") or {}
        pair = f"policy_minus_{run.start}"
        if (
            pairs and pair not in pairs
        ):  # the policy was not asked: the last one that was, against the one before
            pair = list(pairs)[-1]
        changes: Mapping[str, Any] = pairs.get(pair) or {}
        of_others = "" if pair == f"policy_minus_{run.start}" else f"; {_pair(run, pair)}"
        for metric in dict.fromkeys(metric for of in stages.values() for metric in of):
            cells = tuple(_stage((stages.get(stage) or {}).get(metric)) for stage in STAGES)
            row = changes.get(metric) or {}
            said = Cell(str(row["verdict"])) if row.get("verdict") else None
            margin = (
                f", margin {plain(number(one.get('margin')), 3)}" if one.get("margin") is not None else ""
            )
            yield Row(str(task), (*cells, _change(row), said), f"{metric}{margin}{of_others}")


def _pair(run: ReportInput, pair: str) -> str:
    """`policy_minus_sft` for people."""
    after, _, before = pair.partition("_minus_")
    return f"{model_name(run, after)} less {model_name(run, before)}"


def _stage(row: Mapping[str, Any] | None) -> Cell | None:
    """A figure with its interval; of the whole task at once, such as BLEU, what the harness reports."""
    if row is None:
        return None
    if number(row.get("mean")) is None:
        return number_cell(number(row.get("reported")), 3)
    return mean_cell(Mean.from_dict(row), 3)


def _change(row: Mapping[str, Any]) -> Cell | None:
    value, low, high = (number(row.get(key)) for key in ("mean", "low", "high"))
    if value is None:
        return None
    inside = f" ({signed(low, 3)} to {signed(high, 3)})" if low is not None and high is not None else ""
    return Cell(signed(value, 3), inside, value, low, high)
