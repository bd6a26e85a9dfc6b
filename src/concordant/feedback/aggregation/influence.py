"""What a board would be without each labeler: who moves it, and who holds it together.

Deletion of one cluster at a time, refitted (Belsley, Kuh and Welsch, Regression Diagnostics, 1980). On public
boards some hundred votes of one hand are enough to move ranks (arXiv:2501.17858).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from concordant.errors import UserError
from concordant.feedback.aggregation.bradley_terry import refit
from concordant.feedback.aggregation.contests import Contests
from concordant.feedback.aggregation.intervals import Uncertainty

CLEARLY = 2.0  # standard errors


@dataclass(frozen=True, slots=True)
class Absence:
    """The board without one labeler: the item whose score moves furthest, and the largest change of a rank."""

    labeler: str
    n: int  # votes that are gone
    item: str
    shift: float  # of its score, log odds
    errors: float  # the same in standard errors that the score of all votes had if votes were independent
    ranks: int
    needed: bool = (
        False  # without this labeler the items are not on one scale; the other figures are nan and 0
    )

    @property
    def matters(self) -> bool:
        """Whether the board rests on this labeler: it falls apart, or ranks change with a score that moves clearly."""
        return self.needed or (self.ranks > 0 and self.errors > CLEARLY)


def without_each(votes: Contests, whole: Uncertainty) -> list[Absence]:
    """An `Absence` for each labeler, who matters most first; `whole` is the fit of all votes with its errors."""
    rows = [_absence(votes, whole, w, int(n)) for w, n in enumerate(votes.counts())]
    return sorted(rows, key=lambda one: (not one.needed, -one.ranks, -abs(one.shift), one.labeler))


def _absence(votes: Contests, whole: Uncertainty, labeler: int, n: int) -> Absence:
    fit, name = whole.fit, votes.labelers[labeler]
    kept = np.where(votes.labeler == labeler, 0.0, votes.weight)
    needed = Absence(name, n, "", np.nan, np.nan, 0, needed=True)
    if not kept.any():
        return needed
    others = replace(votes, weight=kept)
    if not others.connectivity().scoreable:
        return needed
    scores = refit(others, fit).parameters.s
    moved = scores - fit.parameters.s
    furthest = int(np.abs(moved).argmax())
    ranks = int(np.abs(_ranks(scores) - _ranks(fit.parameters.s)).max())
    errors = float(np.abs(moved[furthest]) / whole.alone[furthest])
    return Absence(name, n, votes.items[furthest], float(moved[furthest]), errors, ranks)


def _ranks(scores: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(-scores, kind="stable"))


def capped(votes: Contests, most: int) -> Contests:
    """The same votes with each labeler's weighing as much as `most` of them, where there are more.

    No vote is dropped: a labeler with n votes has the weight of each scaled by most / n. A few who vote very
    often then decide no more than the others. Errors: UserError for a cap below 1.
    """
    if most < 1:
        raise UserError(
            f"at most {most} votes of a labeler", where="--most", expected="1 or more", fix="leave --most out"
        )
    counts = np.maximum(votes.counts(), 1)
    return replace(votes, weight=votes.weight * np.minimum(1.0, most / counts)[votes.labeler])
