"""The truth of a pair and the confusions of each labeler, estimated from each other.

Dawid and Skene, Applied Statistics 28 (1979). The classes of a pair are its two completions in the order of
their ids, and the tie. With sides as classes ("the left one") a pull of the side would hide in the prior.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from concordant.errors import UserError
from concordant.feedback.columns import check_columns
from concordant.feedback.reading.live_votes import LiveVotes
from concordant.feedback.votes import verdicts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pair = tuple[str, str, str]  # task, and completions in the order of their ids

SMALLER, LARGER, TIE = 0, 1, 2  # classes: the completion with the smaller id is better, the other, neither
CLASSES = 3
ITERATIONS = 50
SMOOTHING = 0.5  # what is counted before any vote, so that no labeler is certain


@dataclass(frozen=True)
class PairVotes:
    """What labelers said of pairs, a row per vote (N); `weight` counts it."""

    pair: Ints
    labeler: Ints
    said: Ints  # SMALLER, LARGER or TIE
    weight: Floats
    pairs: tuple[Pair, ...]
    labelers: tuple[str, ...]

    def __post_init__(self) -> None:
        check_columns(self.pair, self.labeler, self.said, self.weight, of="votes")
        if not np.isin(self.said, range(CLASSES)).all() or not (self.weight > 0).all():
            raise UserError(
                "an unknown verdict or weight in the votes",
                where="the votes on pairs",
                expected="verdicts 0, 1 or 2; weights above 0",
                fix="take pair_votes, or mend this column",
            )


@dataclass(frozen=True, slots=True)
class LabelerConfusion:
    """A labeler: confusion[k][l] is the probability of saying l where the truth is k."""

    labeler: str
    confusion: tuple[tuple[float, ...], ...]
    reliability: float  # probability of agreeing with the estimated truth
    n: float  # weight of the votes it rests on


@dataclass(frozen=True)
class Truth:
    """posterior[pair] = (P smaller id better, P larger id better, P tie); labelers in the order of the votes."""

    posterior: dict[Pair, tuple[float, float, float]]
    prior: tuple[float, float, float]
    labelers: tuple[LabelerConfusion, ...]


def dawid_skene(votes: PairVotes, iterations: int = ITERATIONS) -> Truth:
    """Expectation maximisation from the majority of each pair, in log space.

    E: q_tk ~ pi_k prod_w theta_w[k, y_tw].  M: theta_w[k, l] ~ 1/2 + sum_t q_tk 1[y_tw = l], pi_k ~ sum_t q_tk.
    A weight is a power in E and a count in M.
    """
    if iterations < 1:
        raise UserError(
            f"{iterations} iterations",
            where="dawid_skene",
            expected="1 or more",
            fix=f"leave iterations out, for {ITERATIONS}",
        )
    counts = np.zeros((len(votes.pairs), CLASSES))
    np.add.at(counts, (votes.pair, votes.said), votes.weight)
    q = counts / counts.sum(
        axis=1, keepdims=True
    )  # shares of the votes: the majority, and doubt where it is small
    for _ in range(iterations):
        prior, theta = _estimate(q, votes)
        q = _expect(prior, theta, votes)
    prior, theta = _estimate(q, votes)
    agreeing = np.einsum("k,wkk->w", prior, theta)
    n = np.bincount(votes.labeler, votes.weight, len(votes.labelers))
    labelers = tuple(
        LabelerConfusion(name, tuple(map(tuple, theta[w].tolist())), float(agreeing[w]), float(n[w]))
        for w, name in enumerate(votes.labelers)
    )
    return Truth(dict(zip(votes.pairs, map(_three, q), strict=True)), _three(prior), labelers)


def _estimate(q: Floats, votes: PairVotes) -> tuple[Floats, Floats]:
    """Prior (3) and confusions (W, 3, 3) from the classes of pairs q (T, 3)."""
    mass = np.full((len(votes.labelers), CLASSES, CLASSES), SMOOTHING)
    for k in range(CLASSES):
        np.add.at(mass[:, k], (votes.labeler, votes.said), votes.weight * q[votes.pair, k])
    total = q.sum(axis=0) + SMOOTHING
    return total / total.sum(), mass / mass.sum(axis=2, keepdims=True)


def _expect(prior: Floats, theta: Floats, votes: PairVotes) -> Floats:
    """Classes of pairs (T, 3) from prior and confusions."""
    said = np.log(theta)[votes.labeler, :, votes.said] * votes.weight[:, None]  # (N, 3)
    size = len(votes.pairs)
    summed = np.stack([np.bincount(votes.pair, said[:, k], size) for k in range(CLASSES)], axis=1)
    return np.asarray(softmax(np.log(prior) + summed, axis=1))


def _three(row: Floats) -> tuple[float, float, float]:
    a, b, c = row.tolist()
    return a, b, c


def pair_votes(live: LiveVotes, least: int = 1) -> PairVotes | None:
    """The live votes on pairs about which `least` labelers or more spoke; None where there are none.

    Passes of one labeler share one vote. A judge's p is two votes weighted p and 1 - p. "Both bad" prefers
    neither and is in no view a tie: it is left out.
    """
    rows = [row for row in _rows(live) if row[3] > 0]
    voters: dict[Pair, set[str]] = {}
    for pair, who, _, _ in rows:
        voters.setdefault(pair, set()).add(who)
    kept = [row for row in rows if len(voters[row[0]]) >= least]
    if not kept:
        return None
    pairs = {pair: number for number, pair in enumerate(dict.fromkeys(row[0] for row in kept))}
    labelers = {who: number for number, who in enumerate(sorted({row[1] for row in kept}))}
    return PairVotes(
        _ints([pairs[row[0]] for row in kept]),
        _ints([labelers[row[1]] for row in kept]),
        _ints([row[2] for row in kept]),
        np.array([row[3] for row in kept]),
        tuple(pairs),
        tuple(labelers),
    )


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _rows(live: LiveVotes) -> Iterator[tuple[Pair, str, int, float]]:
    """(pair, labeler, said, weight) of everything the votes decided."""
    for one in live.votes:
        for said in verdicts(one.payload, live.members[one.task_id]):
            first, second = sorted((said.better, said.worse))
            pair = (one.task_id, first, second)
            if not said.decided:
                yield pair, one.labeler, TIE, one.weight
                continue
            better, worse = (SMALLER, LARGER) if said.better == first else (LARGER, SMALLER)
            yield pair, one.labeler, better, one.weight * said.p
            yield pair, one.labeler, worse, one.weight * (1 - said.p)
