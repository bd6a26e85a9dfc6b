"""Tasks of a benchmark, asked of several stages of a run: what each scored, and whether a later one is worse.

A task is scored document by document, so that stages are compared on the same documents, in pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from concordant.evaluation.intervals import Change, ratio_of

Standing = Literal["better", "not worse", "worse", "open"]
BETTER: Final = "better"
NOT_WORSE: Final = "not worse"
WORSE: Final = "worse"
OPEN: Final = "open"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model scored on one document: by metric a value and its size, of which values are a mean.

    `size` is 1, or where a metric is over words or bytes their number.
    """

    document: int
    hash: str  # of the document
    values: Mapping[str, tuple[float, float]]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Scored:
        """From a row of `samples.jsonl`."""
        values = {metric: (float(value), float(size)) for metric, (value, size) in row["values"].items()}
        return cls(row["document"], row["hash"], values)


@dataclass(frozen=True)
class Metric:
    """What is known of a metric of a task."""

    higher_is_better: bool
    reported: float | None  # what the benchmark itself made of all documents


@dataclass(frozen=True)
class Outcome:
    """A task as one stage did it."""

    version: str
    shots: int
    metrics: Mapping[str, Metric]
    scored: Sequence[Scored]

    def figures(self) -> dict[str, Any]:
        """By metric its mean with n and error, which direction is good, and what the benchmark reports."""
        found: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            mean = ratio_of(*_columns(self.scored, name)).as_dict() if _paired(self.scored, name) else {}
            found[name] = {**mean, **asdict(metric)}
        return found


def compared(later: Outcome, earlier: Outcome, margin: float) -> dict[str, Any]:
    """By metric the change from one stage to another on the same documents, and what it says of a margin.

    Metrics that are no mean over documents have none. Raises ValueError for outcomes on other documents.
    """
    if [one.hash for one in later.scored] != [one.hash for one in earlier.scored]:
        raise ValueError("two stages were asked different documents")
    found = {}
    for name, metric in later.metrics.items():
        if not (_paired(later.scored, name) and _paired(earlier.scored, name)):
            continue
        change = _change(later.scored, earlier.scored, name)
        verdict = standing(change, margin, higher_is_better=metric.higher_is_better)
        found[name] = {**change.as_dict(), "verdict": verdict}
    return found


def standing(change: Change, margin: float, *, higher_is_better: bool) -> Standing:
    """Superior, non-inferior by `margin`, inferior by more than it, or not decided, by the 95 % interval."""
    low, high = (change.low, change.high) if higher_is_better else (-change.high, -change.low)
    if low > 0:
        return BETTER
    if low > -margin:
        return NOT_WORSE
    return WORSE if high < -margin else OPEN


def _paired(scored: Sequence[Scored], metric: str) -> bool:
    return bool(scored) and all(metric in one.values for one in scored)


def _columns(scored: Sequence[Scored], metric: str) -> tuple[list[float], list[float]]:
    values, sizes = zip(*(one.values[metric] for one in scored), strict=True)
    return list(values), list(sizes)


def _change(later: Sequence[Scored], earlier: Sequence[Scored], metric: str) -> Change:
    after, before = _columns(later, metric), _columns(earlier, metric)
    if all(
        value in (0, 1) and size == 1 for side in (after, before) for value, size in zip(*side, strict=True)
    ):
        return Change.of_shares(*([bool(value) for value in side[0]] for side in (after, before)))
    return Change.of_ratios(after, before)
