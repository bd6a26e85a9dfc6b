"""How sure a fit is, where votes of one labeler go together, and votes on one prompt.

Votes of one labeler share that labeler's habits and tastes, votes on one prompt share what is odd about it. The
variance of an estimate is that of the sandwich (Liang and Zeger, Biometrika 73, 1986) with clusters of both kinds
(Cameron, Gelbach and Miller, Journal of Business and Economic Statistics 29, 2011):

    V = V_labelers + V_prompts - V_both,    V_c = G/(G-1) sum over clusters of (sum of the influences of its votes)^2

where the influence of a vote is its slope times the inverse curvature of the penalised likelihood. The difference
can fall below what either kind of cluster says alone, and is not taken below that. Intervals have the quantiles of
Student's t, with one degree of freedom fewer than there are labelers. A bootstrap with independent
weights for labelers and prompts would count the noise of single votes three times (Owen, Annals of Applied
Statistics 1, 2007), and covers always.

What intervals of 95 % cover in simulated crowds with and without clusters (`benchmarks/coverage.py`, figures in
docs/benchmarks.md): scores of a board 95 to 97 %, with eight labelers and nothing in common 98 %; length and markdown
88 to 99 %. The pull of position and the readiness to tie are covered less often, the fewer votes the less (76 and 65 %
at 600 votes of 20 labelers): they are hard to tell from habits, and noise and the penalty move them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from concordant.feedback.aggregation.bradley_terry import Fit
from concordant.feedback.aggregation.contests import COVARIATES, Contests
from concordant.feedback.aggregation.likelihood import WEAK, objective, slope_along

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEVEL = 0.95
FEWEST = 5  # labelers; of fewer nobody can say how far others would differ, and intervals are as for five
_STEP = 1e-4  # of the differences behind the curvature


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate on the data, and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Place:
    """An item on the board. `rank_bound`: 1 + the rivals whose low is above this item's high."""

    item: str
    score: Interval  # log odds against the mean of the board
    rank_bound: int


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors of a fit, (items + covariates + 1): of the centred scores, of gamma, of log nu.

    `alone` has what they were if no two votes went together: the curvature's, which no single labeler inflates.
    """

    fit: Fit
    errors: Floats
    alone: Floats

    def board(self, level: float = LEVEL) -> list[Place]:
        """Items with their intervals and bounds, best first."""
        found = self.fit.parameters.s
        scores = [self._interval(float(value), k, level) for k, value in enumerate(found)]
        lows = np.array([one.low for one in scores])
        places = [
            Place(name, one, 1 + int((lows > one.high).sum()))
            for name, one in zip(self.fit.items, scores, strict=True)
        ]
        return sorted(places, key=lambda place: (-place.score.value, place.item))

    def style(self, level: float = LEVEL) -> dict[str, Interval]:
        """gamma by name: log odds for one unit of each covariate."""
        start, found = len(self.fit.items), self.fit.parameters.gamma
        return {name: self._interval(float(found[k]), start + k, level) for k, name in enumerate(COVARIATES)}

    def ties(self, level: float = LEVEL) -> Interval:
        """log nu, how ready labelers who look are to call a tie."""
        return self._interval(self.fit.parameters.log_nu, len(self.errors) - 1, level)

    def _interval(self, value: float, entry: int, level: float) -> Interval:
        freedom = max(len(self.fit.labelers), FEWEST) - 1
        half = float(student.ppf((1 + level) / 2, freedom) * self.errors[entry])
        return Interval(value, value - half, value + half)


def uncertainty(votes: Contests, fit: Fit) -> Uncertainty:
    """The standard errors of `fit`, which was made from `votes`. Memory is that of a few columns of votes."""
    theta, items = fit.parameters.flat(), len(votes.items)
    wanted = np.r_[0 : items + len(COVARIATES) + 1]
    wanted[items:] += 2 * len(votes.labelers)  # g and q stand between
    inverse = _inverse_curvature(theta, votes)
    inverse[:items] -= inverse[:items].mean(axis=0)  # centred scores
    inverse[:, :items] -= inverse[:, :items].mean(axis=1, keepdims=True)
    kinds = (votes.labeler, votes.prompt, votes.labeler * votes.prompts + votes.prompt)
    clusters = [np.unique(kind, return_inverse=True)[1] for kind in kinds]
    influences = (slope_along(inverse[row], theta, votes) for row in wanted)
    clustered = np.sqrt([_variance(influence, clusters) for influence in influences])
    return Uncertainty(fit, clustered, np.sqrt(inverse[wanted, wanted]))


def _variance(influence: Floats, clusters: Sequence[Ints]) -> float:
    """Of an estimate, from the influence of each vote on it and the votes' labelers, prompts, and both together."""
    of_labelers, of_prompts, of_both = (_clustered(influence, one) for one in clusters)
    return max(of_labelers + of_prompts - of_both, of_labelers, of_prompts)


def _clustered(influence: Floats, cluster: Ints) -> float:
    """One cluster alone says nothing of how clusters differ: then every vote stands for itself."""
    sums = np.bincount(cluster, influence)
    if len(sums) < 2:
        return float(influence @ influence)
    return float(sums @ sums) * len(sums) / (len(sums) - 1)


def _inverse_curvature(theta: Floats, votes: Contests) -> Floats:
    """(P, P), from differences of slopes; no direction is flatter than the weakest prior."""
    steps = np.eye(len(theta)) * _STEP
    rows = [(objective(theta + h, votes)[1] - objective(theta - h, votes)[1]) / (2 * _STEP) for h in steps]
    curvature = np.array(rows)
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    return np.asarray((vectors / np.maximum(values, WEAK)) @ vectors.T)
