"""The path of a training: how gold went with distance, and where the policy ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from concordant.evaluation.answers import Answer, gold_mean
from concordant.evaluation.intervals import mean_of
from concordant.evaluation.over_optimisation import along, fit_path, stands
from concordant.pipeline.context import Context
from concordant.pipeline.folder import read_jsonl


def measure_path(context: Context, main: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
    """`over_optimisation` of `results.json`; nothing where the policy left no path of its own samples."""
    points = along(read_jsonl(context.inputs["policy"].steps)) if "policy" in main else []
    if not points:
        return {}
    before, after = main[context.start], main["policy"]
    known = before[0].gold is not None
    start = gold_mean(before) if known else None
    fit = fit_path(points, start, context.seed("path")) if start else None
    kl = mean_of([answer.kl for answer in after], [answer.draw for answer in after])
    d, low, high = (math.sqrt(max(0.0, one)) for one in (kl.mean, kl.low, kl.high))
    return {
        "over_optimisation": {
            "truth": "gold" if known else None,
            "points": points,
            "fit": fit.as_dict() | {"start": start.mean} if fit and start else None,
            "d": {"mean": d, "low": low, "high": high},
            "stands": stands(fit, (low, high)),
        }
    }
