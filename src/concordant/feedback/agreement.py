"""How far labelers agree, and whether what they chose was merely first or longer. Every figure has its n."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from concordant.feedback.ballots import Ballots, LiveVote, read_ballots
from concordant.feedback.store import Store
from concordant.feedback.votes import Verdict, verdicts


def wilson_interval(successes: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """Interval of a proportion that stays within 0 and 1 and is honest for small n; (0, 1) for n = 0.

    Wilson, JASA 22 (1927): the values p for which `successes` lies within z standard errors of n p.
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion with its n and 95 % Wilson interval; `value` is nan where n is 0."""

    value: float
    n: int
    low: float
    high: float


def rate(shares: Sequence[float]) -> Rate:
    """The mean of `shares`, each in 0..1 and one observation.

    A vote with several pairs is one share, however many pairs it has: they are not independent. The interval
    is that of n yes-or-no answers, which is never too narrow for shares between.
    """
    if not shares:
        return Rate(math.nan, 0, 0.0, 1.0)
    low, high = wilson_interval(sum(shares), len(shares))
    return Rate(sum(shares) / len(shares), len(shares), low, high)


def implied_accuracy(agreement: float) -> float:
    """Accuracy q of two equally good, independent labelers who agree so often: a = q^2 + (1-q)^2.

    q = (1 + sqrt(2a - 1)) / 2; 0.5 where they agree no more than by chance, nan where a is unknown.
    """
    if math.isnan(agreement):
        return math.nan
    return (1 + math.sqrt(max(0.0, 2 * agreement - 1))) / 2


@dataclass(frozen=True, slots=True)
class Agreement:
    """The figures of a set of votes; a tie or "both bad" takes no side and is in none of them."""

    raw: Rate  # two labelers of one task prefer the same side
    accuracy: Rate  # of one labeler, as implied by `raw`
    first_chosen: Rate  # the completion shown first was preferred to another
    longer_chosen: Rate  # the one with more words was preferred


def agreement(store: Store, labeler: str | None = None, *, project: str | None = None) -> Agreement:
    """The figures of all live votes, or of one labeler (id), who is then compared with the others.

    `project` (id) takes the votes of that project instead of all that are for training.
    """
    ballots = read_ballots(store, project)
    own = [one for one in ballots.votes if labeler in (None, one.labeler)]
    raw = rate(list(_agreeing(ballots, labeler)))
    return Agreement(
        raw,
        Rate(implied_accuracy(raw.value), raw.n, implied_accuracy(raw.low), implied_accuracy(raw.high)),
        rate(list(_shares(ballots, own, _first_won))),
        rate(list(_shares(ballots, own, _longer_won))),
    )


def _sides(ballots: Ballots, vote: LiveVote) -> dict[frozenset[str], Verdict]:
    """What a vote decided, by pair."""
    said = verdicts(vote.payload, ballots.members[vote.task_id])
    return {frozenset((one.better, one.worse)): one for one in said if one.decided}


def _agreeing(ballots: Ballots, labeler: str | None) -> Iterator[float]:
    """For every two labelers of a task, the share of the pairs both decided on which they agree."""
    by_task: dict[str, dict[str, LiveVote]] = defaultdict(dict)
    for one in ballots.votes:
        by_task[one.task_id].setdefault(one.labeler, one)  # of several passes the first
    for votes in by_task.values():
        for a, b in combinations(votes.values(), 2):
            if labeler not in (None, a.labeler, b.labeler):
                continue
            first, second = _sides(ballots, a), _sides(ballots, b)
            same = [first[pair].better == second[pair].better for pair in first.keys() & second.keys()]
            if same:
                yield sum(same) / len(same)


Question = Callable[[Ballots, LiveVote, Verdict], bool | None]


def _shares(ballots: Ballots, votes: Iterable[LiveVote], question: Question) -> Iterator[float]:
    """For each vote, the share of its decided pairs answered yes; None leaves a pair out."""
    for vote in votes:
        answers = [question(ballots, vote, verdict) for verdict in _sides(ballots, vote).values()]
        said = [answer for answer in answers if answer is not None]
        if said:
            yield sum(said) / len(said)


def _first_won(_ballots: Ballots, vote: LiveVote, verdict: Verdict) -> bool | None:
    if vote.shown is None or vote.shown[0] not in (verdict.better, verdict.worse):
        return None
    return verdict.better == vote.shown[0]


def _longer_won(ballots: Ballots, _vote: LiveVote, verdict: Verdict) -> bool | None:
    better, worse = (len(ballots.completions[key].text.split()) for key in (verdict.better, verdict.worse))
    return None if better == worse else better > worse
