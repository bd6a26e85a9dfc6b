"""How good a reward model is on pairs: accuracy, log-loss beside chance, calibration, bias towards length."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from concordant.evaluation.intervals import Array, Rate, clustered_wilson, mean_of

RELIABILITY_BINS = 10
MARGIN_GROUPS = 5


def _sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -x))


def _log_loss(delta: Array, p_chosen: Array) -> Array:
    """Per pair: -p ln sigmoid(delta) - (1 - p) ln sigmoid(-delta)."""
    return p_chosen * np.logaddexp(0.0, -delta) + (1 - p_chosen) * np.logaddexp(0.0, delta)


def correctness(delta: Array, p_chosen: Array) -> Array:
    """Per pair: how far the ranking is right; a tie in scores counts half."""
    return np.where(delta == 0, 0.5, np.where(delta > 0, p_chosen, 1 - p_chosen))


def _checked(values: Sequence[float] | Array | None, like: int, name: str) -> Array:
    array = np.ones(like) if values is None else np.asarray(values, dtype=np.float64)
    if array.shape != (like,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({like},)")
    return array


def pair_metrics(
    delta: Sequence[float] | Array,
    p_chosen: Sequence[float] | Array | None = None,
    weights: Sequence[float] | Array | None = None,
    prompts: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """How scores order labelled pairs, and how far their differences can be believed; ready for JSON.

    `delta` is score(chosen) - score(rejected) per pair; `p_chosen` the probability that the chosen answer is
    the better one (default 1); `weights` default to 1; pairs of one of the `prompts` go together (default: none do).
    Intervals are Wilson's with the effective number of pairs. A constant scorer shows as accuracy .5, ties 1 and
    log_loss = chance_log_loss = ln 2.
    """
    delta_ = np.asarray(delta, dtype=np.float64)
    if delta_.ndim != 1 or len(delta_) == 0 or not np.isfinite(delta_).all():
        raise ValueError("delta must be a flat, non-empty list of finite numbers")
    p, w = _checked(p_chosen, len(delta_), "p_chosen"), _checked(weights, len(delta_), "weights")
    clusters = list(range(len(delta_)) if prompts is None else prompts)
    correct, sigmoid = correctness(delta_, p), _sigmoid(delta_)
    reliability = _reliability(delta_, correct, w)
    return {
        **accuracy(correct, w, clusters),
        "prompts": len(set(clusters)),
        "ties": float(np.average(delta_ == 0, weights=w)),
        "log_loss": float(np.average(_log_loss(delta_, p), weights=w)),
        "chance_log_loss": math.log(2),
        "ece": sum(row["share"] * abs(row["predicted"] - row["observed"]) for row in reliability),
        "brier": float(np.average(p * (1 - sigmoid) ** 2 + (1 - p) * sigmoid**2, weights=w)),
        "temperature": fitted_temperature(delta_, p, w),
        "by_margin": _by_margin(delta_, correct, w, clusters),
        "reliability": reliability,
    }


def accuracy(correct: Array, weights: Array, prompts: Sequence[Hashable]) -> dict[str, Any]:
    """Weighted accuracy with its Wilson interval, for as many pairs as tell as much as these of some prompts do."""
    rate = clustered_wilson(correct, prompts, weights)
    return {"accuracy": rate.rate, "accuracy_ci": [rate.low, rate.high], "n": len(correct)}


def _reliability(delta: Array, correct: Array, weights: Array) -> list[dict[str, Any]]:
    """Confidence in the predicted winner, sigmoid(|delta|) in ten bins of [.5, 1], beside how often it won.

    Confidence of the winner, since which answer stands first is arbitrary: sigmoid(delta) against "chosen"
    would compare with an outcome that is 1 by construction. Empty bins are left out.
    """
    confidence = _sigmoid(np.abs(delta))
    which = np.minimum(((confidence - 0.5) * 2 * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    rows = []
    for bin_ in np.unique(which):
        inside = which == bin_
        rows.append(
            {
                "predicted": float(np.average(confidence[inside], weights=weights[inside])),
                "observed": float(np.average(correct[inside], weights=weights[inside])),
                "n": int(inside.sum()),
                "share": float(weights[inside].sum() / weights.sum()),
            }
        )
    return rows


def _by_margin(
    delta: Array, correct: Array, weights: Array, prompts: Sequence[Hashable]
) -> list[dict[str, Any]]:
    """Accuracy in groups of equal size, from the smallest to the largest |delta|."""
    margin = np.abs(delta)
    order: npt.NDArray[np.int64] = np.argsort(margin, kind="stable").astype(np.int64)
    return [
        {
            "low": float(margin[group[0]]),
            "high": float(margin[group[-1]]),
            **accuracy(correct[group], weights[group], [prompts[i] for i in group]),
        }
        for group in np.array_split(order, MARGIN_GROUPS)
        if len(group)
    ]


def fitted_temperature(delta: Array, p_chosen: Array, weights: Array) -> float | None:
    """T that minimises the log-loss of delta / T; above 1 the scores are overconfident.

    None where no finite T exists: scores no better than chance (T infinite) or without one mistake (T zero).
    The loss is convex in 1 / T, so bisection on its slope is exact.
    Source: Guo et al. (2017), On Calibration of Modern Neural Networks.
    """

    def slope(inverse: float) -> float:
        return float(np.average((_sigmoid(delta * inverse) - p_chosen) * delta, weights=weights))

    never_wrong = bool(np.all(correctness(delta, p_chosen)[delta != 0] == 1))
    if slope(0.0) >= 0 or never_wrong:
        return None
    low, high = 0.0, 1.0
    while slope(high) < 0 and high < 1e12:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def gold_accuracy(
    score_gaps: Sequence[float], gold_gaps: Sequence[float], prompts: Sequence[Hashable] | None = None
) -> Rate:
    """How often the scores order two answers to one prompt as gold does; equal scores count half.

    One value per pair: score and gold of the first answer minus those of the second. Pairs of equal gold have
    no right order and are left out: `n` counts the others. Pairs of one of the `prompts` go together.
    """
    clusters = range(len(score_gaps)) if prompts is None else prompts
    rows = [(s, g, one) for s, g, one in zip(score_gaps, gold_gaps, clusters, strict=True) if g != 0]
    right = [0.5 if s == 0 else float((s > 0) == (g > 0)) for s, g, _ in rows]
    return clustered_wilson(right, [one for *_, one in rows])


def length_correlation(prompts: Iterable[Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """Mean over prompts of the Pearson correlation of length and score among the answers to one prompt.

    `prompts` holds per prompt a list of (length, score). Prompts with fewer than three answers, or where all
    lengths or all scores are equal, have no correlation; `skipped` counts them. Mean and se are None where no
    prompt is left (se also where one is).
    """
    correlations, skipped = [], 0
    for answers in prompts:
        pairs = np.asarray(answers, dtype=np.float64).reshape(-1, 2)
        if len(pairs) < 3 or (np.ptp(pairs, axis=0) == 0).any():
            skipped += 1
            continue
        correlations.append(float(np.corrcoef(pairs[:, 0], pairs[:, 1]).ravel()[1]))
    if not correlations:
        return {"mean": None, "se": None, "n": 0, "skipped": skipped}
    return {**mean_of(correlations).as_dict(), "skipped": skipped}
