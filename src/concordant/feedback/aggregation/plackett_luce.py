"""Scores from rankings of several items at once (Plackett 1975, Luce 1959), fitted by the spectral method.

Maystre and Grossglauser, "Fast and accurate inference of Plackett-Luce models" (2015), as `choix` has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, permutations

import choix
import numpy as np
import numpy.typing as npt

from concordant.errors import UserError
from concordant.feedback.aggregation.connectivity import check_scoreable, of_rankings

Floats = npt.NDArray[np.float64]
Tiers = Sequence[Sequence[str]]

ALPHA = 1e-3  # comparisons with every rival that each item is taken to have won and lost beforehand
MOST_COPIES = 120
EXACT = 4  # items in a tie of which every order is entered


@dataclass(frozen=True, slots=True)
class Scored:
    """An item and its centred score in log odds."""

    item: str
    score: float


def plackett_luce(rankings: Sequence[Tiers], alpha: float = ALPHA) -> list[Scored]:
    """Scores of all items in `rankings` (tiers of names, best first), best first.

    The model knows no ties. Here a tie says that either order is as good: the log-likelihood of a ranking is
    the mean over the orders of its ties, got by entering every ranking several times with its tied items in
    another order each time. That is exact for ties of up to four. Larger ones are rotated, so that everybody
    stands in each place equally often, and items with the same record still get the same score. A ranking
    counts once however many copies it takes (MOST_COPIES at most), and `alpha` with it.

    Raises UserError where wins and ties do not lead from every item to every other, or an item stands twice.
    """
    if not alpha > 0:
        raise UserError(
            f"alpha {alpha}",
            where="plackett_luce",
            expected="above 0: the fit divides by it where nobody lost",
            fix=f"leave alpha out, for {ALPHA}",
        )
    names = sorted({name for tiers in rankings for name in chain.from_iterable(tiers)})
    number = {name: index for index, name in enumerate(names)}
    known = [_numbered(tiers, number) for tiers in rankings]
    check_scoreable(of_rankings(len(names), known), names)
    copies = _copies({len(tier) for tiers in known for tier in tiers})
    data = [_untied(tiers, turn) for tiers in known for turn in range(copies)]
    try:
        scores = choix.ilsr_rankings(len(names), data, alpha=alpha * copies)
    except RuntimeError as error:
        raise UserError(
            f"the fit of {len(known)} rankings did not settle: {error}",
            where="plackett_luce",
            expected="rankings that determine the scores",
            fix="raise alpha, or compare the items at either end more often",
        ) from error
    centred = scores - scores.mean()
    rows = [Scored(name, float(score)) for name, score in zip(names, centred, strict=True)]
    return sorted(rows, key=lambda one: (-one.score, one.item))


def _numbered(tiers: Tiers, number: dict[str, int]) -> list[list[int]]:
    known = [[number[name] for name in tier] for tier in tiers if tier]
    flat = list(chain.from_iterable(known))
    if len(set(flat)) != len(flat) or len(flat) < 2:
        raise UserError(
            f"a ranking of {tiers}",
            where="plackett_luce",
            expected="two items or more, each of them once",
            fix="leave this ranking out, or mend it",
        )
    return known


def _copies(sizes: set[int]) -> int:
    """As many as give every tie of these sizes each of its orders equally often, as far as MOST_COPIES allows."""
    return min(MOST_COPIES, math.lcm(*(len(_orders(size)) for size in sizes)))


def _orders(size: int) -> list[tuple[int, ...]]:
    """All orders of a small tie, the rotations of a large one, which has too many."""
    if size <= EXACT:
        return list(permutations(range(size)))
    ahead = tuple(range(size))
    return [ahead[k:] + ahead[:k] for k in range(size)]


def _untied(tiers: Sequence[Sequence[int]], turn: int) -> tuple[int, ...]:
    """A ranking without ties: the copy of this number."""
    placed: list[int] = []
    for tier in tiers:
        orders = _orders(len(tier))
        placed += [tier[k] for k in orders[turn % len(orders)]]
    return tuple(placed)
