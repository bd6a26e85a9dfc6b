"""Which questions to ask next. A selector scores them; a share is always drawn at random, and chances are recorded.

Answers to what was drawn at random measure the reward model fairly; answers to what a selector chose do so only
when weighed by their propensity. What the selectors want differs, even in direction: compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from concordant.errors import UserError

Floats = npt.NDArray[np.float64]
Selector = Literal["random", "uncertainty", "disagreement", "fisher", "gap"]
EXPLORE = 0.15  # share drawn at random, whatever the selector
RIDGE = 1.0  # what is known of every direction before the first answer, for `fisher`


@dataclass(frozen=True, slots=True)
class Choice:
    """A question to be asked: its number, what the selector said of it, and how probable its choice was."""

    index: int
    score: float
    propensity: float
    selector: str  # "random" for those drawn


@dataclass(frozen=True)
class Candidates:
    """What is known of N pairs: score differences by M reward models, and differences of hidden states."""

    gaps_MN: Floats
    features_NH: Floats | None = None  # last hidden state of the first answer less that of the second

    def __post_init__(self) -> None:
        if self.gaps_MN.ndim != 2 or not np.isfinite(self.gaps_MN).all():
            raise UserError(
                f"score differences of shape {self.gaps_MN.shape}", expected="(models, pairs), all finite"
            )
        if self.features_NH is not None and len(self.features_NH) != self.gaps_MN.shape[1]:
            raise UserError(
                f"{len(self.features_NH)} features for {self.gaps_MN.shape[1]} pairs", expected="one each"
            )


def choose(
    candidates: Candidates, n: int, selector: Selector, *, explore: float = EXPLORE, seed: int = 0
) -> list[Choice]:
    """`n` different pairs: most by the selector, a share of `explore` drawn evenly from the others.

    Errors: UserError for an unknown selector, or one that needs what the candidates lack.
    """
    if selector not in get_args(Selector):
        raise UserError(f"a selector {selector!r}", expected=", ".join(get_args(Selector)))
    size = candidates.gaps_MN.shape[1]
    n = min(n, size)
    rng = np.random.default_rng(seed)
    drawn = n if selector == "random" else max(1, round(explore * n)) if n else 0
    chosen = [] if selector == "random" else _ranked(candidates, n - drawn, selector)
    picked = {index for index, _ in chosen}
    others = [index for index in range(size) if index not in picked]
    chance = drawn / len(others) if others else 1.0
    at_random = rng.permutation(others)[:drawn].tolist()
    return [Choice(index, score, 1.0, selector) for index, score in chosen] + [
        Choice(index, 0.0, chance, "random") for index in at_random
    ]


def _ranked(candidates: Candidates, n: int, selector: str) -> list[tuple[int, float]]:
    if selector == "fisher":
        return most_informative(candidates, n)
    scores = SCORES[selector](candidates)
    order = np.lexsort((np.arange(len(scores)), -scores))[:n]
    return [(int(index), float(scores[index])) for index in order]


def uncertainty(candidates: Candidates) -> Floats:
    """p (1 - p) of the mean reward model, (N,): largest where it cannot tell the answers apart."""
    p = expit(candidates.gaps_MN.mean(axis=0))
    return np.asarray(p * (1 - p))


def disagreement(candidates: Candidates) -> Floats:
    """Variance of the probability over several reward models, (N,): largest where they contradict each other."""
    if len(candidates.gaps_MN) < 2:
        raise UserError("disagreement of one reward model", expected="two or more", fix="use uncertainty")
    return np.asarray(expit(candidates.gaps_MN).var(axis=0))


def gap(candidates: Candidates) -> Floats:
    """Size of the predicted difference, (N,): largest where the answers differ most (arXiv:2603.09692)."""
    return np.asarray(np.abs(candidates.gaps_MN.mean(axis=0)))


SCORES: Mapping[str, Callable[[Candidates], Floats]] = {
    "uncertainty": uncertainty,
    "disagreement": disagreement,
    "gap": gap,
}


def most_informative(candidates: Candidates, n: int) -> list[tuple[int, float]]:
    """`n` pairs taken one by one, each with the largest w phi' V^-1 phi, w = p (1 - p) (arXiv:2502.04354).

    phi is the difference of hidden states, V the information of those taken before; V^-1 is kept up by the
    formula of Sherman and Morrison, so that similar pairs are not asked about twice.
    """
    phi_NH = candidates.features_NH
    if phi_NH is None:
        raise UserError(
            "fisher without hidden states", expected="features of the pairs", fix="use uncertainty"
        )
    scale = np.sqrt((phi_NH**2).sum(axis=1).mean()) or 1.0
    phi_NH = phi_NH / scale
    weight_N = uncertainty(candidates)
    inverse_HH = np.eye(phi_NH.shape[1]) / RIDGE
    spread_N = np.einsum("nh,hk,nk->n", phi_NH, inverse_HH, phi_NH)
    taken: list[tuple[int, float]] = []
    open_N = np.ones(len(weight_N), dtype=bool)
    for _ in range(n):
        value_N = np.where(open_N, weight_N * spread_N, -np.inf)
        best = int(value_N.argmax())
        taken.append((best, float(value_N[best])))
        open_N[best] = False
        column_H = inverse_HH @ phi_NH[best]
        step = weight_N[best] / (1 + weight_N[best] * float(phi_NH[best] @ column_H))
        inverse_HH -= step * np.outer(column_H, column_H)
        spread_N -= step * (phi_NH @ column_H) ** 2
    return taken
