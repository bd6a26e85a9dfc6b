"""Best-of-n: what happens when a proxy picks the best of more and more samples. Over-optimisation without RL.

Source: Gao, Schulman and Hilton (2023), Scaling Laws for Reward Model Overoptimization.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from concordant.evaluation.intervals import Array, mean_of
from concordant.evaluation.over_optimisation import CHOOSING, Fit, fitted
from concordant.evaluation.win_rates import resampled


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


@dataclass(frozen=True)
class Curve:
    """Per prompt, the expected proxy and truth of the best of each of `sizes` by the proxy: both (prompts, sizes)."""

    sizes: tuple[int, ...]
    proxy: Array
    truth: Array | None

    @property
    def kl(self) -> Array:
        """Distance of each size to the sampled model, in nats."""
        return np.array([kl_bound(n) for n in self.sizes])


def curve(
    proxy: Sequence[Sequence[float]] | Array, truth: Sequence[Sequence[float]] | Array | None = None
) -> Curve:
    """What the proxy picks from 1, 2, 4, ..., N samples of each prompt, as the mean over all subsets of that size.

    `proxy` and `truth`, which may be any other judge of the same samples, have shape (prompts, N).
    """
    proxy_ = np.asarray(proxy, dtype=np.float64)
    truth_ = None if truth is None else np.asarray(truth, dtype=np.float64)
    if proxy_.ndim != 2 or proxy_.size == 0 or (truth_ is not None and truth_.shape != proxy_.shape):
        raise ValueError("proxy and truth must both have the shape (prompts, samples)")
    total = proxy_.shape[1]
    sizes = _sizes(total)
    weights = np.stack([rank_weights(n, total) for n in sizes], axis=1)
    ranked = None
    if truth_ is not None:
        ranked = np.stack([_sorted_by_proxy(p, t) for p, t in zip(proxy_, truth_, strict=True)]) @ weights
    return Curve(tuple(sizes), np.sort(proxy_, axis=1) @ weights, ranked)


def best_of_n(
    proxy: Sequence[Sequence[float]] | Array, **judges: Sequence[Sequence[float]] | Array | None
) -> list[dict[str, Any]]:
    """Expected proxy, and what other `judges` say, of the best of n by proxy, for n = 1, 2, 4, ..., N.

    `proxy` and what each judge says have shape (prompts, N). The estimate over all subsets of size n is unbiased; its
    error is over prompts, and it is precise up to about n = N / 4. Rows of n, kl, proxy, proxy_se, and NAME and NAME_se
    of each judge: None of one who does not know, and an error is None with a single prompt.
    """
    curves = {name: curve(proxy, said) for name, said in judges.items()}
    found = curve(proxy)
    rows: list[dict[str, Any]] = [{"n": n, "kl": kl_bound(n)} for n in found.sizes]
    columns = {"proxy": found.proxy} | {name: one.truth for name, one in curves.items()}
    for name, values in columns.items():
        for place, row in enumerate(rows):
            mean = None if values is None else mean_of(values[:, place]).as_dict()
            row |= {name: mean and mean["mean"], f"{name}_se": mean and mean["se"]}
    return rows


def fit_curve(found: Curve, seed: int = 0) -> Fit | None:
    """The form of best-of-n, fitted to the gain of the truth over one sample; intervals are over prompts.

    None where there is no truth, one prompt, or fewer than three sizes.
    """
    if found.truth is None or len(found.truth) < 2 or len(found.sizes) < 3:
        return None
    d, prompts = np.sqrt(found.kl), len(found.truth)
    gains = found.truth - found.truth[:, :1]
    means = np.concatenate([weights @ gains / prompts for weights in resampled(prompts, seed)])
    return fitted(CHOOSING, d, gains.mean(axis=0), [(d, mean) for mean in means], prompts)
