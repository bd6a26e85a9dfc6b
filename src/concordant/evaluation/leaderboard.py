"""A board of models from their duels, on one scale: Bradley and Terry (Biometrika 39, 1952) with ties as half a win.

    P(i beats j) = sigmoid(s_i - s_j),    ratings = 1000 + 400 / ln 10 (s_i - s_anchor)

so that 400 points are ten to one, as in chess. Intervals are those of a bootstrap over prompts: all duels on a prompt
are drawn together. Whose labelers differ in care, or whose votes have a style, `feedback.aggregation` scores.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from concordant.evaluation.intervals import Array, percentiles95
from concordant.evaluation.win_rates import Duels, resampled, win_rate
from concordant.feedback.aggregation.connectivity import connectivity

ANCHORED = 1000.0
SCALE = 400 / math.log(10)
_PENALTY = 1e-3  # precision of the normal priors: a resample in which somebody wins always has a maximum too


@dataclass(frozen=True, slots=True)
class Standing:
    """A model on the board, with its 95 % interval; `rank_bound`: 1 + the models that are surely better."""

    model: str
    rating: float
    low: float
    high: float
    rank_bound: int


@dataclass(frozen=True)
class Leaderboard:
    """Best first; `missing` says why there is none, where duels put the models on no common scale."""

    by: str
    anchor: str
    standings: tuple[Standing, ...]
    missing: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"standings": [asdict(one) for one in self.standings]}


def standings(duels: Mapping[str, Sequence[Duels]], anchor: str) -> dict[str, Any]:
    """Win rates and boards of all duels, which are given by who decided them, ready for JSON."""
    known = {by: [one for one in found if len(one.values)] for by, found in duels.items()}
    rates = [win_rate(one) for found in known.values() for one in found]
    boards = [leaderboard(found, anchor) for found in known.values() if found]
    return {
        "win_rates": [one.as_dict() for one in rates if one is not None],
        "leaderboards": [one.as_dict() for one in boards],
    }


def leaderboard(found: Sequence[Duels], anchor: str, seed: int = 0) -> Leaderboard:
    """The board of all models in `found`, whose duels one and the same decided; `anchor` has 1000 points."""
    models = tuple(dict.fromkeys(name for one in found for name in (one.first, one.second)))
    wins = _wins(found, models)
    together = wins.sum(axis=0)
    missing = _unscoreable(together, models)
    by = found[0].by
    if missing or anchor not in models:
        return Leaderboard(by, anchor, (), missing or f"{anchor} takes part in no duel")
    if len(wins) < 2:
        return Leaderboard(by, anchor, (), "one prompt says nothing of others")
    at = models.index(anchor)
    scores = _fit(together[None])[0]
    weights = resampled(len(wins), seed)
    drawn = np.concatenate([_fit(np.tensordot(some, wins, axes=1)) for some in weights])
    ratings, spread = _ratings(scores, at), _ratings(drawn, at)
    tail, rest = percentiles95(len(wins))
    low, high = np.quantile(spread, [tail, rest], axis=0)
    behind = (
        np.quantile(spread[:, :, None] - spread[:, None, :], tail, axis=0) > 0
    )  # [i, j]: i is surely above j
    rows = [
        Standing(model, float(ratings[k]), float(low[k]), float(high[k]), 1 + int(behind[:, k].sum()))
        for k, model in enumerate(models)
    ]
    return Leaderboard(by, anchor, tuple(sorted(rows, key=lambda one: -one.rating)))


def _wins(found: Sequence[Duels], models: Sequence[str]) -> Array:
    """Wins of the row over the column by prompt, (P, K, K), ties one half."""
    numbers: dict[Hashable, int] = {}
    per_prompt = [one.by_prompt() for one in found]
    for one in per_prompt:
        for prompt in one.prompts:
            numbers.setdefault(prompt, len(numbers))
    wins = np.zeros((len(numbers), len(models), len(models)))
    for one in per_prompt:
        rows = [numbers[prompt] for prompt in one.prompts]
        first, second = models.index(one.first), models.index(one.second)
        wins[rows, second, first] += one.values
        wins[rows, first, second] += 1 - one.values
    return wins


def _unscoreable(together: Array, models: Sequence[str]) -> str:
    better, worse = np.nonzero(together)
    return connectivity(len(models), better, worse, np.zeros(len(better), dtype=np.bool_)).reason(models)


def _fit(wins: Array) -> Array:
    """Scores (B, K), centred, of each of B matrices of wins, by Newton's method on the penalised likelihood."""
    count, k = wins.shape[:2]
    scores = np.zeros((count, k))
    games = wins + wins.transpose(0, 2, 1)
    for _ in range(100):
        p = 1 / (1 + np.exp(scores[:, None, :] - scores[:, :, None]))  # of the row over the column
        slope = (wins - games * p).sum(axis=2) - _PENALTY * scores
        weight = games * p * (1 - p)
        curvature = -weight
        curvature[:, range(k), range(k)] += weight.sum(axis=2) + _PENALTY
        step = np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        scores = scores + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    centred: Array = scores - scores.mean(axis=1, keepdims=True)
    return centred


def _ratings(scores: Array, anchor: int) -> Array:
    """Points, from scores (..., K)."""
    ratings: Array = ANCHORED + SCALE * (scores - scores[..., anchor : anchor + 1])
    return ratings
