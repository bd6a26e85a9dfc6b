"""The path of a training: how the truth went with distance, and where the policy ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from concordant.evaluation.answers import Answer, gold_mean
from concordant.evaluation.intervals import Mean, mean_of
from concordant.evaluation.over_optimisation import along, fit_path, stands
from concordant.pipeline.context import Context
from concordant.pipeline.folder import read_jsonl

EVEN = Mean(0.5, 0.0, 0)  # how often a model is preferred to itself


def measure_path(context: Context, main: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
    """`over_optimisation` of `results.json`; nothing where the policy left no path of its own samples."""
    points = along(read_jsonl(context.inputs["policy"].steps)) if "policy" in main else []
    if not points:
        return {}
    before, after = main[context.start], main["policy"]
    found = _truth(points, before)
    fit = fit_path(points, *found, context.seed("path")) if found else None
    kl = mean_of([answer.kl for answer in after], [answer.draw for answer in after])
    d, low, high = (math.sqrt(max(0.0, one)) for one in (kl.mean, kl.low, kl.high))
    return {
        "over_optimisation": {
            "truth": found and found[0],
            "points": points,
            "fit": fit.as_dict() | {"start": found[1].mean} if fit and found else None,
            "d": {"mean": d, "low": low, "high": high},
            "stands": stands(fit, (low, high)),
        }
    }


def _truth(points: Sequence[Mapping[str, Any]], before: Sequence[Answer]) -> tuple[str, Mean] | None:
    """What is known of the truth along a path, and how much of it the start has: gold, or else what probes said."""
    if before[0].gold is not None:
        return "gold", gold_mean(before)
    return ("probe", EVEN) if any(point["probe"] is not None for point in points) else None
