"""Scores of a board, and how far each labeler can be trusted, from one fit of who preferred what."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, minimize
from scipy.special import expit

from concordant.errors import UserError
from concordant.feedback.aggregation.connectivity import check_scoreable
from concordant.feedback.aggregation.contests import FIRST, SECOND, TIE, Contests
from concordant.feedback.aggregation.likelihood import TRUST, Parameters, objective

Floats = npt.NDArray[np.float64]

SHOWN_FROM = 5  # votes; with fewer the reliability is what was believed before any vote
FLAGGED_FROM = 20  # votes; with fewer a bad streak is no proof
FLAGGED_BELOW = 0.5  # a labeler who does not look at every second vote
PLAIN = 6.0  # g of a labeler taken to look always: rho = 0.998
_TOLERANCE = {"ftol": 1e-14, "gtol": 1e-8, "maxiter": 3_000, "maxfun": 6_000, "maxcor": 20}
_STUCK = 1e-4  # largest slope per vote that still counts as arrived


@dataclass(frozen=True, slots=True)
class LabelerStanding:
    """A labeler: `rho`, the probability of looking at the completions, is None with fewer than SHOWN_FROM votes."""

    labeler: str
    rho: float | None
    habit: float  # q: log odds of taking what was shown first, where the labeler does not look
    n: int

    @property
    def flagged(self) -> bool:
        """Enough votes to say that this labeler mostly votes without looking."""
        return self.n >= FLAGGED_FROM and self.rho is not None and self.rho < FLAGGED_BELOW


@dataclass(frozen=True)
class Fit:
    """The best of several starts; scores `parameters.s` are centred, in log odds, in the order of `items`."""

    items: tuple[str, ...]
    parameters: Parameters
    labelers: tuple[LabelerStanding, ...]
    loss: float  # minus the penalised log-likelihood, nats


def fit_board(votes: Contests, seed: int = 0) -> Fit:
    """Scores, labelers and style together; raises UserError where the votes do not put all items on one scale."""
    check_scoreable(votes.connectivity(), votes.items)
    return fit_labelers(votes, seed)


def fit_labelers(votes: Contests, seed: int = 0) -> Fit:
    """The same fit for what it says of labelers and style, which does not need a board in one piece.

    Votes on the two answers of each of many prompts are as many boards. The penalty gives their items
    scores, and the labelers who shared them are comparable; the scores of different boards are not.
    """
    found = [_minimum(start, votes) for start in _starts(votes, seed)]
    theta, loss = min(found, key=lambda one: one[1])
    return _as_fit(theta, loss, votes)


def refit(votes: Contests, near: Fit) -> Fit:
    """The fit of `votes` that is reached from one of nearly the same votes, such as all but one labeler's."""
    return _as_fit(*_minimum(near.parameters.flat(), votes), votes)


def _starts(votes: Contests, seed: int) -> list[Floats]:
    """Plain Bradley-Terry, then three opinions of the labelers: all good, as they did, and drawn.

    The likelihood has several minima: a labeler with few votes may be one who looks, or one who does not.
    """
    items, labelers = len(votes.items), len(votes.labelers)
    blank = Parameters.start(items, labelers)
    start = replace(blank, g=np.full(labelers, PLAIN)).flat()
    held = np.zeros(len(start), dtype=bool)
    held[items : items + 2 * labelers] = True
    plain = Parameters.from_flat(_minimum(start, votes, held)[0], items, labelers)
    rng = np.random.default_rng(seed)
    opinions = [
        (blank.g, blank.q),
        _as_they_did(plain, votes),
        tuple(rng.normal((TRUST, 0), 2, (labelers, 2)).T),
    ]
    return [replace(plain, g=g, q=q).flat() for g, q in opinions]


def _as_they_did(plain: Parameters, votes: Contests) -> tuple[Floats, Floats]:
    """g and q of each labeler from the share of decided votes that follow the scores, and that take the first."""
    lead = plain.s[votes.first] - plain.s[votes.second]
    follows = ((votes.said == FIRST) & (lead > 0)) | ((votes.said == SECOND) & (lead < 0))
    share = _share(follows, votes)
    first = _share(votes.said == FIRST, votes)
    return np.log(np.maximum(2 * share - 1, 0.02) / (2 - 2 * share)), 2 * np.log(first / (1 - first))


def _share(yes: npt.NDArray[np.bool_], votes: Contests) -> Floats:
    """Per labeler, of the decided votes; one of each is added, so that it is never 0 or 1."""
    weight = votes.weight * (votes.said != TIE)
    size = len(votes.labelers)
    said = np.bincount(votes.labeler, weight, size)
    return (np.bincount(votes.labeler, weight * yes, size) + 1) / (said + 2)


def _minimum(
    start: Floats, votes: Contests, held: npt.NDArray[np.bool_] | None = None
) -> tuple[Floats, float]:
    """Descend from `start`; `held` entries stay. Slopes are per vote: the tolerance means the same for any N."""
    scale = float(votes.weight.sum())
    bounds = None
    if held is not None:
        bounds = Bounds(np.where(held, start, -np.inf), np.where(held, start, np.inf))

    def per_vote(theta: Floats) -> tuple[float, Floats]:
        value, slope = objective(theta, votes)
        return value / scale, slope / scale

    done = minimize(per_vote, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_TOLERANCE)
    slope = np.abs(done.jac)[~held] if held is not None else np.abs(done.jac)
    if slope.max(initial=0.0) > _STUCK:
        raise UserError(
            f"the fit of {len(votes.said)} votes did not settle: {done.message}",
            where="the fit of scores and labelers",
            expected=f"slopes below {_STUCK} per vote, not {slope.max():.2g}",
            fix="look for weights or covariates of very different size",
        )
    return np.asarray(done.x), float(done.fun) * scale


def _as_fit(theta: Floats, loss: float, votes: Contests) -> Fit:
    found = Parameters.from_flat(theta, len(votes.items), len(votes.labelers))
    centred = replace(found, s=found.s - found.s.mean())
    rows = zip(
        votes.labelers, expit(found.g).tolist(), found.q.tolist(), votes.counts().tolist(), strict=True
    )
    standings = tuple(
        LabelerStanding(name, rho if n >= SHOWN_FROM else None, habit, n) for name, rho, habit, n in rows
    )
    return Fit(votes.items, centred, standings, loss)
