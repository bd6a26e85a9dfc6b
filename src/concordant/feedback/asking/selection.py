"""Which questions to ask next. A selector scores them; a share is always drawn at random, and chances are recorded.

What was drawn at random is a fair sample of all candidates, and its answers measure the reward model fairly; all
answers together do so when each is weighed by one over its propensity (Horvitz and Thompson, Journal of the American
Statistical Association 47, 1952). What the selectors want differs, even in direction: compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import hypergeom

from concordant.errors import UserError

Floats = npt.NDArray[np.float64]
Selector = Literal["random", "uncertainty", "disagreement", "fisher", "coreset", "gap"]
EXPLORE = 0.15  # share drawn at random, whatever the selector
RIDGE = 1.0  # what is known of every direction before the first answer, for `fisher`


@dataclass(frozen=True, slots=True)
class Choice:
    """A question to be asked: its number, what the selector said of it, and how probable its choice was."""

    index: int
    score: float  # 0 for those drawn
    propensity: float  # chance of being chosen, drawn or not
    selector: str  # "random" for those drawn


@dataclass(frozen=True)
class Candidates:
    """What is known of N pairs: score differences by M reward models, and differences of hidden states."""

    gaps_MN: Floats
    features_NH: Floats | None = None  # last hidden state of the first answer less that of the second

    def __post_init__(self) -> None:
        if self.gaps_MN.ndim != 2 or not np.isfinite(self.gaps_MN).all():
            raise UserError(
                f"score differences of shape {self.gaps_MN.shape}",
                where="Candidates.gaps_MN",
                expected="(models, pairs), all finite",
                fix="give a row for each model, and leave out pairs that have no score",
            )
        if self.features_NH is not None and len(self.features_NH) != self.gaps_MN.shape[1]:
            raise UserError(
                f"{len(self.features_NH)} features for {self.gaps_MN.shape[1]} pairs",
                where="Candidates.features_NH",
                expected="one row for each pair",
                fix="take both from the same pairs",
            )


def choose(
    candidates: Candidates, n: int, selector: Selector, *, explore: float = EXPLORE, seed: int = 0
) -> list[Choice]:
    """`n` different pairs: a share of `explore` drawn evenly from all, the others by the selector.

    The selector orders the candidates before anything is drawn, and its first ones that were not drawn are
    taken. So one that it likes is chosen either way, and one it puts far down by the draw alone; the propensity
    is the chance of either. Errors: UserError for an unknown selector, or one that needs what the candidates lack.
    """
    if selector not in get_args(Selector):
        raise UserError(
            f"a selector {selector!r}",
            where="choose",
            expected=", ".join(get_args(Selector)),
            fix="take one of these",
        )
    size = candidates.gaps_MN.shape[1]
    n = min(n, size)
    if not n:
        return []
    drawn = n if selector == "random" else max(1, round(explore * n))
    at_random = np.random.default_rng(seed).permutation(size)[:drawn].tolist()
    ranked = [] if selector == "random" else _ranked(candidates, n, selector)
    chances = _propensities(size, drawn, n - drawn)
    place = {index: number for number, (index, _) in enumerate(ranked)}
    wanted = [(index, score) for index, score in ranked if index not in set(at_random)][: n - drawn]
    return [Choice(index, score, chances[place[index]], selector) for index, score in wanted] + [
        Choice(index, 0.0, chances[place.get(index, n)], "random") for index in at_random
    ]


def _propensities(size: int, drawn: int, taken: int) -> list[float]:
    """Chance of being chosen by place in the selector's order, of the first n = drawn + taken; last, of all behind.

    The one in place r (from 0) is drawn with drawn / size. Else it is taken if more than r - taken of the r before
    it were drawn, a hypergeometric number.
    """
    share = drawn / size
    places = np.arange(drawn + taken)
    enough = hypergeom.sf(places - taken, max(size - 1, 1), places, min(drawn, size - 1)) if taken else 0.0
    return [*(share + (1 - share) * enough * np.ones(len(places))).tolist(), share]


def _ranked(candidates: Candidates, n: int, selector: str) -> list[tuple[int, float]]:
    if selector in GREEDY:
        return GREEDY[selector](candidates, n)
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
        raise UserError(
            "disagreement of one reward model",
            where="the candidates",
            expected="scores of two models or more",
            fix="use uncertainty",
        )
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
    phi_NH = _directions(candidates, "fisher")
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


def coreset(candidates: Candidates, n: int) -> list[tuple[int, float]]:
    """`n` pairs taken one by one, each farthest from all taken before: k-center greedy (Gonzalez, Theoretical
    Computer Science 38, 1985; as a core-set in active learning arXiv:1708.00489).

    It looks at what the pairs are about and not at what the reward model says of them. A pair is as far from
    another as from the same pair turned round; answers that do not differ are taken as known.
    """
    phi_NH = _directions(candidates, "coreset")
    square_N = (phi_NH**2).sum(axis=1)
    nearest_N, open_N = square_N.copy(), np.ones(len(square_N), dtype=bool)
    taken: list[tuple[int, float]] = []
    for _ in range(n):
        best = int(np.where(open_N, nearest_N, -np.inf).argmax())
        taken.append((best, float(np.sqrt(nearest_N[best]))))
        open_N[best] = False
        apart_N = square_N + square_N[best] - 2 * np.abs(phi_NH @ phi_NH[best])
        nearest_N = np.minimum(nearest_N, np.maximum(apart_N, 0.0))
    return taken


def _directions(candidates: Candidates, selector: str) -> Floats:
    """Differences of hidden states, of length 1 on the whole."""
    phi_NH = candidates.features_NH
    if phi_NH is None:
        raise UserError(
            f"{selector} without hidden states",
            where="the candidates",
            expected="features of the pairs",
            fix="use uncertainty",
        )
    return np.asarray(phi_NH / (np.sqrt((phi_NH**2).sum(axis=1).mean()) or 1.0))


GREEDY: Mapping[str, Callable[[Candidates, int], list[tuple[int, float]]]] = {
    "fisher": most_informative,
    "coreset": coreset,
}
