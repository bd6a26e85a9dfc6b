"""The record both loops yield: everything else (logs, checkpoints, monitors, progress) reads this stream."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from concordant.data.types import Prompt
from concordant.rollout.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step of `fit`, or one rollout with its updates of `improve`."""

    number: int  # from 1
    total: int
    metrics: Mapping[str, float]
    tokens: Mapping[
        str, int
    ]  # by activity: train (once per pass), sample, score; also those then thrown away
    seconds: Mapping[str, float]  # by activity
    prompts: tuple[Prompt, ...] = ()  # what the rollout was asked
    rollout: Rollout | None = None
    scores: tuple[float, ...] = ()  # raw, one per completion of the rollout
    examples: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)  # by figure, for people


def averaged(seen: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean metrics of several optimiser steps; 0 where a step has no such figure.

    Skipped steps are counted, and their figures left out as far as they are not finite.
    """
    names = sorted({name for metrics in seen for name in metrics})
    means = {}
    for name in names:
        values = [value for metrics in seen if math.isfinite(value := metrics.get(name, 0.0))]
        means[name] = sum(values) / len(values) if values else math.nan
    skipped = sum(metrics.get("optimizer/skipped", 0.0) for metrics in seen)
    return means | ({"optimizer/skipped": skipped} if skipped else {})
