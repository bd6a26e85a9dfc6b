"""A committee of reward models for the price of one: last layers fitted on resampled votes.

All members read the hidden states of one reward model, frozen. Each is a logistic regression on differences of hidden
states, fitted on a bootstrap sample of the prompts (query by bagging: Abe and Mamitsuka, ICML 1998) and drawn to a
random layer of its own (arXiv:1806.03335, arXiv:1810.05546). Resampling alone would leave all members at the same
answer, none, in directions that no vote has spoken of; drawn to different places they contradict each other there.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from concordant.feedback.columns import check_columns

Floats = npt.NDArray[np.float64]

MEMBERS = 10
PRIOR = 2.0  # standard deviation, in log odds, of what members say of a typical pair before any vote


def committee(
    features_NH: Floats,
    p_N: Floats,
    weight_N: Floats,
    prompts: Sequence[Hashable],
    *,
    members: int = MEMBERS,
    seed: int = 0,
) -> Floats:
    """Last layers (M, H): features_NH @ layers.T are their differences of scores for pairs like these.

    features_NH: hidden state of the better answer less that of the worse; p_N: how probable it is that it is
    better; weight_N: what the pair counts; prompts (N): those of one prompt are resampled together.
    Errors: UserError for columns of different length, or none.
    """
    check_columns(features_NH, p_N, weight_N, prompts, of="pairs")
    numbers: dict[Hashable, int] = {}
    of_N = np.array([numbers.setdefault(one, len(numbers)) for one in prompts])
    scale = float(np.sqrt((features_NH**2).sum(axis=1).mean())) or 1.0
    scaled_NH = features_NH / scale
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(members):
        times = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)))
        anchor_H = np.asarray(rng.normal(0, PRIOR, features_NH.shape[1]))
        layers.append(_layer(scaled_NH, p_N, np.asarray(weight_N * times[of_N]), anchor_H))
    return np.stack(layers) / scale


def _layer(features_NH: Floats, p_N: Floats, weight_N: Floats, anchor_H: Floats) -> Floats:
    """The minimum of the weighted cross-entropy plus |w - anchor|^2 / (2 PRIOR^2)."""

    def loss(w_H: Floats) -> tuple[float, Floats]:
        gap_N, off_H = features_NH @ w_H, (w_H - anchor_H) / PRIOR**2
        value = weight_N @ (p_N * log_expit(gap_N) + (1 - p_N) * log_expit(-gap_N))
        slope_H = features_NH.T @ (weight_N * (expit(gap_N) - p_N)) + off_H
        return float(off_H @ (w_H - anchor_H)) / 2 - float(value), slope_H

    done = minimize(loss, anchor_H, jac=True, method="L-BFGS-B", options={"maxiter": 1_000})
    return np.asarray(done.x)
