"""Whether a board can be scored at all: who was beaten by whom has to lead from everybody to everybody.

Where it does not, the maximum of the likelihood lies at infinity, and what a program reports there is its
stopping rule or its penalty: an even chain a > b > c gets a score for each of its items and means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from concordant.errors import UserError

Ints = npt.NDArray[np.int64]

NAMED = 5  # items named in a message


@dataclass(frozen=True)
class Connectivity:
    """What stands in the way of one board; all empty or 1 where nothing does. Items are indices."""

    items: int
    components: tuple[tuple[int, ...], ...]  # of the graph of comparisons, whoever won; largest first
    strong: int  # components of the graph of wins in which everybody can be reached from everybody
    all_win: tuple[int, ...]  # compared, and neither beaten nor tied
    all_loss: tuple[int, ...]

    @property
    def scoreable(self) -> bool:
        """Whether scores of all items on one scale exist (Ford, American Mathematical Monthly 64, 1957)."""
        return self.strong == 1

    def reason(self, names: Sequence[str]) -> str:
        """Why not, in words; empty where it is scoreable."""
        if self.scoreable:
            return ""
        if len(self.components) > 1:
            apart = "; ".join(_some(part, names) for part in self.components[1:3])
            return f"component: {len(self.components)} groups that were never compared, apart are {apart}"
        said = []
        if self.all_win:
            said.append(f"all-win: {_some(self.all_win, names)}")
        if self.all_loss:
            said.append(f"all-loss: {_some(self.all_loss, names)}")
        return ", ".join(said) or f"component: {self.strong} groups, one of which never lost to another"


def _some(items: Sequence[int], names: Sequence[str]) -> str:
    more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(names[one] for one in items[:NAMED]) + more


def connectivity(items: int, better: Ints, worse: Ints, tied: npt.NDArray[np.bool_]) -> Connectivity:
    """What the graph of wins of `items` looks like.

    better, worse (E): item indices of each win; tied (E): True where neither won, which joins them both ways.
    """
    heads = np.concatenate([worse, better[tied]])
    tails = np.concatenate([better, worse[tied]])
    graph = coo_array((np.ones(len(heads), dtype=np.int8), (heads, tails)), shape=(items, items)).tocsr()
    strong, _ = connected_components(graph, directed=True, connection="strong")
    _, weak = connected_components(graph, directed=True, connection="weak")
    groups = [np.flatnonzero(weak == one) for one in np.unique(weak)]
    beaten = np.bincount(heads, minlength=items) > 0
    beats = np.bincount(tails, minlength=items) > 0
    return Connectivity(
        items,
        tuple(sorted((tuple(group.tolist()) for group in groups), key=lambda group: (-len(group), group))),
        int(strong),
        tuple(np.flatnonzero(beats & ~beaten).tolist()),
        tuple(np.flatnonzero(beaten & ~beats).tolist()),
    )


def of_rankings(items: int, rankings: Sequence[Sequence[Sequence[int]]]) -> Connectivity:
    """The same for rankings given as tiers of item indices, best first."""
    better, worse, tied = [], [], []
    for tiers in rankings:
        # Neighbours are enough: what stands further apart is reached through what stands between.
        for tier in tiers:
            edges = list(pairwise(tier))
            better += [a for a, _ in edges]
            worse += [b for _, b in edges]
            tied += [True] * len(edges)
        for upper, lower in pairwise(tiers):
            better.append(upper[0])
            worse.append(lower[0])
            tied.append(False)
    as_ints = [np.array(one, dtype=np.int64) for one in (better, worse)]
    return connectivity(items, as_ints[0], as_ints[1], np.array(tied, dtype=np.bool_))


def check_scoreable(found: Connectivity, names: Sequence[str]) -> None:
    """Raise UserError, saying which items stand apart, unless the board can be scored."""
    if not found.scoreable:
        raise UserError(
            f"not scoreable: {found.reason(names)}",
            where="the votes of a fit",
            expected="wins and ties that lead from every item to every other",
            fix="compare the items named with the others, or score the groups one by one",
        )
