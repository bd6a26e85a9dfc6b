"""Best-of-n: what happens when a proxy picks the best of more and more samples. Over-optimisation without RL.

Source: Gao, Schulman and Hilton (2023), Scaling Laws for Reward Model Overoptimization.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from concordant.evaluation.intervals import Array, mean_of


def rank_weights(n: int, total: int) -> Array:
    """Probability that the sample of rank i (1 = lowest proxy) is the best of n drawn from `total`.

    w_i = C(i - 1, n - 1) / C(total, n), by the recursion w_total = n / total and
    w_(i-1) = w_i (i - n) / (i - 1): products of numbers up to 1, so nothing overflows. Shape (total,).
    """
    if not 1 <= n <= total:
        raise ValueError(f"best of {n} out of {total} samples")
    weights = np.zeros(total)
    weight = n / total
    for rank in range(total, n - 1, -1):
        weights[rank - 1] = weight
        if rank > 1:
            weight *= (rank - n) / (rank - 1)
    return weights


def kl_bound(n: int) -> float:
    """KL of best-of-n to the sampled model in nats: ln n - (n - 1) / n (an upper bound with ties)."""
    return math.log(n) - (n - 1) / n


def _sorted_by_proxy(proxy: Array, values: Array) -> Array:
    """`values` by rising proxy, averaged over equal proxies (a fair draw between ties). Shapes (N,)."""
    _, group, counts = np.unique(proxy, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=values) / counts
    ranked: Array = means[np.sort(group)]
    return ranked


def _sizes(total: int) -> list[int]:
    """1, 2, 4, ... up to and including `total`."""
    powers = [2**k for k in range(total.bit_length()) if 2**k <= total]
    return powers if powers[-1] == total else [*powers, total]


def best_of_n(
    proxy: Sequence[Sequence[float]] | Array, gold: Sequence[Sequence[float]] | Array | None = None
) -> list[dict[str, Any]]:
    """Expected proxy and gold of the best of n by proxy, for n = 1, 2, 4, ..., N.

    `proxy` and `gold` have shape (prompts, N). The estimate over all subsets of size n is unbiased; its
    error is over prompts, and it is precise up to about n = N / 4. Rows of n, kl, gold, gold_se, proxy,
    proxy_se; gold is None where there is none to measure, and an error is None with a single prompt.
    """
    proxy_ = np.asarray(proxy, dtype=np.float64)
    gold_ = None if gold is None else np.asarray(gold, dtype=np.float64)
    if proxy_.ndim != 2 or proxy_.size == 0 or (gold_ is not None and gold_.shape != proxy_.shape):
        raise ValueError("proxy and gold must both have the shape (prompts, samples)")
    ranked_proxy = np.sort(proxy_, axis=1)
    ranked_gold = None
    if gold_ is not None:
        ranked_gold = np.stack([_sorted_by_proxy(p, g) for p, g in zip(proxy_, gold_, strict=True)])
    rows = []
    for n in _sizes(proxy_.shape[1]):
        weights = rank_weights(n, proxy_.shape[1])
        picked = mean_of(ranked_proxy @ weights).as_dict()
        true = {"mean": None, "se": None} if ranked_gold is None else mean_of(ranked_gold @ weights).as_dict()
        rows.append(
            {
                "n": n,
                "kl": kl_bound(n),
                "gold": true["mean"],
                "gold_se": true["se"],
                "proxy": picked["mean"],
                "proxy_se": picked["se"],
            }
        )
    return rows


@dataclass(frozen=True, slots=True)
class Fit:
    """Gain in gold = d (alpha - beta d), d = sqrt(KL); gold peaks at `d_star`, None if it never turns."""

    alpha: float
    beta: float
    d_star: float | None


def fit_gold(rows: Sequence[Mapping[str, Any]]) -> Fit | None:
    """Least-squares fit of gold(n) - gold(1) = d (alpha - beta d) to rows of `best_of_n`.

    None with fewer than three rows that have a gold.
    """
    known = [row for row in rows if row.get("gold") is not None]
    if len(known) < 3:
        return None
    d = np.sqrt([float(row["kl"]) for row in known])
    gain = np.array([float(row["gold"]) for row in known]) - float(known[0]["gold"])
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d, -(d**2)], axis=1), gain, rcond=None)
    d_star = float(alpha / (2 * beta)) if alpha > 0 and beta > 0 else None
    return Fit(float(alpha), float(beta), d_star)
