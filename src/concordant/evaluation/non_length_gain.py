"""How much of what a score gained is not explained by answers of another length.

Answers of two models are compared within bins of about equal length; what remains of the gain there is the non-length
gain. Source: Singhal, Goyal, Xu and Durrett (2023), A Long Way to Go: Investigating Length Correlations in RLHF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from concordant.evaluation.answers import Answer
from concordant.evaluation.intervals import Array, Change, percentiles95
from concordant.evaluation.win_rates import resampled

BINS = 10  # of equal size in answers of both models together; fewer where lengths repeat
FEWEST = 5  # answers of each model in a bin that counts


def non_length_gain(
    after: Sequence[Answer], before: Sequence[Answer], *, seed: int = 0
) -> dict[str, Any] | None:
    """NRG = sum_b w_b (mean score after_b - before_b) / (mean score after - before), over bins b of length.

    Both models answer the same draws. w_b is the share of both models' answers in bin b, of those in bins that have
    `FEWEST` answers of each. 1: the gain is the same at every length; 0: all of it came from longer or shorter answers.
    The interval is the percentile bootstrap over draws. None where the score did not surely change, as of nothing
    there is no share, and where no bin counts.
    """
    lengths, scores = (
        np.array([[getattr(a, name) for a in side] for side in (after, before)], dtype=np.float64)
        for name in ("length", "score")
    )
    gain = Change.between(scores[0].tolist(), scores[1].tolist(), [answer.draw for answer in after])
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, BINS + 1)[1:-1]))
    inside = np.searchsorted(edges, lengths, side="right")[..., None] == np.arange(len(edges) + 1)
    counts = inside.sum(1)
    counted = (counts >= FEWEST).all(0)
    if gain.low <= 0 <= gain.high or not counted.any():
        return None
    inside, counts = inside[..., counted], counts[:, counted]
    weights = counts.sum(0) / counts.sum()
    share = _share(np.ones((1, len(after))), inside, scores, weights)
    drawn = np.concatenate([_share(w, inside, scores, weights) for w in resampled(len(after), seed)])
    low, high = np.nanquantile(drawn, percentiles95(len(after)))
    return {
        "share": float(share[0]),
        "low": float(low),
        "high": float(high),
        "n": len(after),
        "gain": gain.as_dict(),
        "covered": float(counts.sum() / lengths.size),
        "bins": _rows(inside, lengths, scores, weights),
    }


def _share(draws: Array, inside: Array, scores: Array, weights: Array) -> Array:
    """The share for each row of `draws` (R, N), which counts every draw; nan where a bin has lost all of a model."""
    counts = np.stack([draws @ side for side in inside])
    sums = np.stack([draws @ (side * score[:, None]) for side, score in zip(inside, scores, strict=True)])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts
        whole = draws @ (scores[0] - scores[1]) / draws.sum(1)
        shares: Array = ((means[0] - means[1]) @ weights) / whole
    return shares


def _rows(inside: Array, lengths: Array, scores: Array, weights: Array) -> list[dict[str, Any]]:
    rows = []
    for b, weight in enumerate(weights):
        after, before = (score[of] for score, of in zip(scores, inside[..., b], strict=True))
        among = lengths[inside[..., b]]
        rows.append(
            {
                "low": float(among.min()),
                "high": float(among.max()),
                "n_before": len(before),
                "n_after": len(after),
                "weight": float(weight),
                "gain": float(after.mean() - before.mean()),
            }
        )
    return rows
