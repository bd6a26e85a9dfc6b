"""How sure a fit is: refitted with every labeler and every prompt weighted anew, a thousand times.

Votes of one labeler share that labeler's habits, votes on one prompt share its difficulty. A replicate
weights a vote by the product of two independent draws, one for its labeler and one for its prompt, with mean
1 and variance 1 (Owen and Eckles, Annals of Applied Statistics 6, 2012). The intervals are wide rather than
narrow: the product has variance 3, so that where neither labelers nor prompts differ they are sqrt(3) times
as wide as they need be. The draws are exponential (Rubin, Annals of Statistics 9, 1981): none is zero, and a
board that was in one piece stays in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from concordant.errors import UserError
from concordant.feedback.aggregation.bradley_terry import Fit
from concordant.feedback.aggregation.contests import COVARIATES, Contests
from concordant.feedback.aggregation.likelihood import WEAK, objective

Floats = npt.NDArray[np.float64]

REPLICATES = 1_000
LEVEL = 0.95
_STEP = 1e-4  # of the differences behind the curvature
_STUCK = 0.2  # standard errors; a replicate this near its minimum has arrived


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate on the data, with the spread of its replicates around their median put around it.

    Noise drives estimates outwards: at 2,000 votes on 15 items the fit has scores a tenth and the pulls of style
    a fifth too large, and the noisier replicates further. Their quantiles as they stand would count
    this bias once more.
    """

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
    """Replicates of a fit, each with its parameters: (R, P) in the order of `Parameters.flat`, scores centred."""

    fit: Fit
    draws: Floats

    def board(self, level: float = LEVEL) -> list[Place]:
        """Items with their intervals and bounds, best first."""
        items = len(self.fit.items)
        scores = [self._interval(column, level) for column in range(items)]
        lows = np.array([one.low for one in scores])
        places = [
            Place(name, one, 1 + int((lows > one.high).sum()))
            for name, one in zip(self.fit.items, scores, strict=True)
        ]
        return sorted(places, key=lambda place: (-place.score.value, place.item))

    def style(self, level: float = LEVEL) -> dict[str, Interval]:
        """gamma by name: log odds for one unit of each covariate."""
        start = len(self.fit.items) + 2 * len(self.fit.labelers)
        return {name: self._interval(start + k, level) for k, name in enumerate(COVARIATES)}

    def ties(self, level: float = LEVEL) -> Interval:
        """log nu, how ready labelers who look are to call a tie."""
        return self._interval(self.draws.shape[1] - 2, level)

    def _interval(self, column: int, level: float) -> Interval:
        edge = (1 - level) / 2
        low, middle, high = np.quantile(self.draws[:, column], [edge, 0.5, 1 - edge])
        value = float(self.fit.parameters.flat()[column])
        return Interval(value, value - float(middle - low), value + float(high - middle))


def bootstrap(votes: Contests, fit: Fit, replicates: int = REPLICATES, seed: int = 0) -> Uncertainty:
    """Refit `votes` under `replicates` draws of weights, each from `fit` downhill.

    Memory is that of one set of weights (N) and of the results (replicates x parameters). The descent is
    made in coordinates in which the curvature at `fit` is the unit matrix: a dozen steps instead of a hundred.
    """
    if replicates < 2:
        raise UserError(f"{replicates} replicates", expected="2 or more; 1,000 for an interval of 95 %")
    rng = np.random.default_rng(seed)
    origin = fit.parameters.flat()
    frame = _whitening(origin, votes)
    draws = np.empty((replicates, len(origin)))
    for row in range(replicates):
        again = replace(votes, weight=votes.weight * _cluster_weights(votes, rng))
        draws[row] = _descend(origin, frame, again)
    items = len(votes.items)
    draws[:, :items] -= draws[:, :items].mean(axis=1, keepdims=True)
    return Uncertainty(fit, draws)


def _cluster_weights(votes: Contests, rng: np.random.Generator) -> Floats:
    """Weights of one replicate, (N)."""
    return np.asarray(
        rng.exponential(size=len(votes.labelers))[votes.labeler]
        * rng.exponential(size=votes.prompts)[votes.prompt]
    )


def _whitening(origin: Floats, votes: Contests) -> Floats:
    """(P, P) matrix F with F' H F = 1 for the curvature H at `origin`, which comes from differences of slopes."""
    steps = np.eye(len(origin)) * _STEP
    rows = [(objective(origin + h, votes)[1] - objective(origin - h, votes)[1]) / (2 * _STEP) for h in steps]
    curvature = np.array(rows)
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    return np.asarray(
        vectors / np.sqrt(np.maximum(np.abs(values), WEAK))
    )  # no direction is flatter than the weakest prior


def _descend(origin: Floats, frame: Floats, votes: Contests) -> Floats:
    def seen(z: Floats) -> tuple[float, Floats]:
        value, slope = objective(origin + frame @ z, votes)
        return value, frame.T @ slope

    # In these coordinates a slope of 1e-2 moves an estimate by 1e-2 of its standard error.
    options = {"ftol": 1e-12, "gtol": 1e-2, "maxiter": 2_000}
    done = minimize(seen, np.zeros(len(origin)), jac=True, method="L-BFGS-B", options=options)
    if np.abs(done.jac).max() > _STUCK:
        raise UserError(
            f"a replicate of the fit did not settle: {done.message}",
            expected=f"slopes below {_STUCK} standard errors, not {np.abs(done.jac).max():.2g}",
            fix="bootstrap from a fit of these votes",
        )
    return np.asarray(origin + frame @ done.x)
