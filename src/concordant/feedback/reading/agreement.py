"""How far labelers agree, and whether what they chose was merely first or longer. Every figure has its n."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from concordant.errors import UserError
from concordant.feedback.reading.live_votes import LiveVote, LiveVotes, read_live_votes
from concordant.feedback.store import Store
from concordant.feedback.votes import Verdict, verdicts

Distance = Literal["nominal", "interval"]


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
    """A proportion with its n and 95 % interval; `value` is nan where n is 0."""

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


def clustered_rate(shares: Sequence[float], clusters: Sequence[Hashable]) -> Rate:
    """The same for shares of which those of one cluster, such as a prompt, go together; of one each it is `rate`.

    Wilson's interval for as many yes-or-no answers as would vary as much as the clusters do, with the quantile
    of Student's t for them (Korn and Graubard, Survey Methodology 24, 1998). Of five labelers each two agree or
    not on a prompt: counted one by one, intervals of 95 % would cover 71 % (`benchmarks/coverage.py`).
    """
    numbers: dict[Hashable, int] = {}
    of = [numbers.setdefault(one, len(numbers)) for one in clusters]
    count, n = len(numbers), len(shares)
    if count == n:
        return rate(shares)
    if count == 1:
        return replace(rate(shares), low=0.0, high=1.0)
    value = sum(shares) / n
    apart = np.bincount(of, np.array(shares) - value)
    variance = float(apart @ apart) * count / (count - 1) / n**2
    answers = min(n, value * (1 - value) / variance) if variance else count  # never more than there are
    low, high = wilson_interval(value * answers, answers, float(student.ppf(0.975, count - 1)))
    return Rate(value, n, low, high)


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
    return agreement_of(read_live_votes(store, project), labeler)


def agreement_of(live: LiveVotes, labeler: str | None = None) -> Agreement:
    """The figures of these votes; see `agreement`."""
    own = [one for one in live.votes if labeler in (None, one.labeler)]
    found = list(_agreeing(live, labeler))
    raw = clustered_rate([share for _, share in found], [prompt for prompt, _ in found])
    return Agreement(
        raw,
        Rate(implied_accuracy(raw.value), raw.n, implied_accuracy(raw.low), implied_accuracy(raw.high)),
        _shares(live, own, _first_won),
        _shares(live, own, _longer_won),
    )


def swap_consistency(live: LiveVotes) -> Rate:
    """How often a labeler who compared two texts in both orders preferred the same one.

    Texts count, not completions: what a model says twice comes before labelers again and again. Of several answers in
    one order the first counts; ties take no side. Source: Zheng et al. (2023), Judging LLM-as-a-Judge, section 3.3.
    """
    said: dict[tuple[str, str, frozenset[str]], dict[str, str]] = defaultdict(dict)
    for vote in live.votes:
        for pair, verdict in _sides(live, vote).items():
            if vote.shown is None or not pair <= set(vote.shown) or not live.erased.isdisjoint(pair):
                continue
            first = live.completions[min(pair, key=vote.shown.index)].text
            texts = frozenset(live.completions[key].text for key in pair)
            about = (vote.labeler, live.prompts[vote.task_id].id, texts)
            said[about].setdefault(first, live.completions[verdict.better].text)
    both = {about: winners for about, winners in said.items() if len(about[2]) == len(winners) == 2}
    same = [len(set(winners.values())) == 1 for winners in both.values()]
    return clustered_rate(same, [prompt for _, prompt, _ in both])


def _sides(live: LiveVotes, vote: LiveVote) -> dict[frozenset[str], Verdict]:
    """What a vote decided, by pair."""
    said = verdicts(vote.payload, live.members[vote.task_id])
    return {frozenset((one.better, one.worse)): one for one in said if one.decided}


def _agreeing(live: LiveVotes, labeler: str | None) -> Iterator[tuple[str, float]]:
    """For every two labelers of a task, its prompt and the share of the pairs both decided on which they agree."""
    touched = {one.task_id for one in live.votes if labeler in (None, one.labeler)}
    by_task: dict[str, dict[str, LiveVote]] = defaultdict(dict)
    for one in live.votes:
        if one.task_id in touched:
            by_task[one.task_id].setdefault(one.labeler, one)  # of several passes the first
    for task_id, votes in by_task.items():
        for a, b in combinations(votes.values(), 2):
            if labeler not in (None, a.labeler, b.labeler):
                continue
            first, second = _sides(live, a), _sides(live, b)
            same = [first[pair].better == second[pair].better for pair in first.keys() & second.keys()]
            if same:
                yield live.prompts[task_id].id, sum(same) / len(same)


Question = Callable[[LiveVotes, LiveVote, Verdict], bool | None]


def _shares(live: LiveVotes, votes: Iterable[LiveVote], question: Question) -> Rate:
    """For each vote, the share of its decided pairs answered yes; None leaves a pair out. Votes on a prompt go
    together."""
    shares, prompts = [], []
    for vote in votes:
        answers = [question(live, vote, verdict) for verdict in _sides(live, vote).values()]
        said = [answer for answer in answers if answer is not None]
        if said:
            shares.append(sum(said) / len(said))
            prompts.append(live.prompts[vote.task_id].id)
    return clustered_rate(shares, prompts)


def _first_won(_live: LiveVotes, vote: LiveVote, verdict: Verdict) -> bool | None:
    if vote.shown is None or vote.shown[0] not in (verdict.better, verdict.worse):
        return None
    return verdict.better == vote.shown[0]


def _longer_won(live: LiveVotes, _vote: LiveVote, verdict: Verdict) -> bool | None:
    if not live.erased.isdisjoint((verdict.better, verdict.worse)):
        return None
    better, worse = (len(live.completions[key].text.split()) for key in (verdict.better, verdict.worse))
    return None if better == worse else better > worse


# Agreement corrected for chance. Labels are columns of a table: a row per unit, a column per labeler.

Floats = npt.NDArray[np.float64]
ALPHA_REPLICATES = 1_000


def pair_labels(live: LiveVotes) -> tuple[Floats, list[int]]:
    """What labelers said of pairs, as (pairs, labelers) with nan for nothing, and the prompt of each pair by number.

    0: the completion with the smaller id is better, 1: the other, 2: a tie. Of several passes of a labeler
    the first counts.
    """
    said: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for one in live.votes:
        for verdict in verdicts(one.payload, live.members[one.task_id]):
            first, second = sorted((verdict.better, verdict.worse))
            label = (0.0 if verdict.better == first else 1.0) if verdict.decided else 2.0
            said[one.task_id, first, second].setdefault(one.labeler, label)
    labelers = sorted({one.labeler for one in live.votes})
    rows = [[labels.get(who, math.nan) for who in labelers] for labels in said.values()]
    numbers: dict[str, int] = {}
    prompts = [numbers.setdefault(live.prompts[task].id, len(numbers)) for task, _, _ in said]
    return np.array(rows).reshape(len(rows), len(labelers)), prompts


@dataclass(frozen=True, slots=True)
class Alpha:
    """Krippendorff's alpha with the interval of its bootstrap over clusters; nan where nothing can disagree."""

    value: float
    low: float
    high: float
    units: int  # with two labels or more
    clusters: int


def krippendorff_alpha(
    labels: Floats,
    *,
    clusters: Sequence[int] | None = None,
    distance: Distance = "nominal",
    replicates: int = ALPHA_REPLICATES,
    seed: int = 0,
    level: float = 0.95,
) -> Alpha:
    """alpha = 1 - observed / expected disagreement (Krippendorff, Content Analysis, 2018, chapter 12).

    labels: (units, labelers), numbers, nan where a labeler said nothing. clusters: (units), the same number
    for units that are not independent, such as pairs of one prompt; each unit by itself without. Replicates
    draw clusters with replacement and compute both disagreements anew; intervals of 95 % cover 92 to 95 %
    (`benchmarks/coverage.py`). (The bootstrap of evalica 0.4 draws
    disagreements of single pairs of labels and keeps the expected one: it knows no clusters.)
    """
    from evalica import alpha  # brings half a second of imports, which readers of shares need not wait for
    from pandas import DataFrame

    table = _table(labels)
    kept = np.isfinite(table).sum(axis=1) > 1
    groups = np.arange(len(table)) if clusters is None else np.asarray(clusters)
    if len(groups) != len(table):
        raise _unfit(f"{len(groups)} clusters for {len(table)} units", "one cluster for each unit")
    if not kept.any():
        return Alpha(math.nan, math.nan, math.nan, 0, 0)
    found = alpha(DataFrame(table[kept].T), distance)
    if found.expected == 0:
        return Alpha(math.nan, math.nan, math.nan, int(kept.sum()), len(np.unique(groups[kept])))
    draws = _alpha_draws(table[kept], groups[kept], distance, replicates, seed)
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Alpha(found.alpha, float(low), float(high), int(kept.sum()), len(np.unique(groups[kept])))


def _alpha_draws(
    table: Floats, groups: npt.NDArray[np.int64], distance: Distance, n: int, seed: int
) -> Floats:
    """Alpha of `n` draws of clusters; nan for one in which all labels are equal.

    The coincidences of units add up, so a draw is a weighted sum over clusters: no table is copied.
    """
    values, codes = np.unique(table[np.isfinite(table)], return_inverse=True)
    k = len(values)
    counts = np.zeros((len(table), k))
    np.add.at(counts, (np.nonzero(np.isfinite(table))[0], codes), 1)
    spoken = counts.sum(axis=1)
    coincident = np.einsum("uk,ul->ukl", counts, counts) - np.einsum("uk,kl->ukl", counts, np.eye(k))
    _, cluster = np.unique(groups, return_inverse=True)
    by_cluster = np.zeros((int(cluster.max()) + 1, k, k))
    np.add.at(by_cluster, cluster, coincident / (spoken - 1)[:, None, None])
    apart = (values[:, None] - values) ** 2 if distance == "interval" else 1 - np.eye(k)
    rng = np.random.default_rng(seed)
    even = np.full(len(by_cluster), 1 / len(by_cluster))
    draws = np.empty(n)
    for row in range(n):
        drawn = np.tensordot(rng.multinomial(len(by_cluster), even), by_cluster, axes=1)
        total = drawn.sum(axis=0)
        expected = float(total @ apart @ total) / (total.sum() - 1)
        draws[row] = 1 - float((drawn * apart).sum()) / expected if expected else math.nan
    return draws


def cohen_kappa(a: Sequence[int], b: Sequence[int], *, weighted: bool = False) -> float:
    """(observed - expected) / (1 - expected) agreement of two labelers on the same units.

    Cohen, Educational and Psychological Measurement 20 (1960). Labels are integers. weighted: labels are
    steps of a scale, and disagreement i against j costs (i - j)^2 / (k - 1)^2 (Cohen, Psychological Bulletin
    70, 1968). nan where both say the same one thing throughout: then there is no chance to correct for.
    """
    if len(a) != len(b) or not len(a):
        raise _unfit(f"{len(a)} and {len(b)} labels", "as many of each, one or more")
    values, codes = np.unique([list(a), list(b)], return_inverse=True)
    k = len(values)
    first, second = codes.reshape(2, -1)
    table = np.zeros((k, k))
    np.add.at(table, (first, second), 1 / len(a))
    span = max(values[-1] - values[0], 1)
    cost = ((values[:, None] - values) / span) ** 2 if weighted else 1 - np.eye(k)
    expected = float(table.sum(axis=1) @ cost @ table.sum(axis=0))
    return 1 - float((table * cost).sum()) / expected if expected else math.nan


def fleiss_kappa(labels: Floats) -> float:
    """The same for several labelers, any of them on any unit, who all label equally often.

    Fleiss, Psychological Bulletin 76 (1971). labels: (units, labelers), none missing. nan as in `cohen_kappa`.
    """
    table = _table(labels)
    if not np.isfinite(table).all() or table.shape[1] < 2:
        raise _unfit(f"labels of shape {table.shape}", "two labelers or more and no gaps")
    counts = np.stack([(table == value).sum(axis=1) for value in np.unique(table)], axis=1)
    n = table.shape[1]
    observed = float((counts * (counts - 1)).sum(axis=1).mean()) / (n * (n - 1))
    expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else math.nan


def unanimous(labels: Floats) -> Rate:
    """Share of units on which everybody who spoke says the same; of units with two labels or more."""
    table = _table(labels)
    spoken = table[np.isfinite(table).sum(axis=1) > 1]
    return rate([float(len(set(row[np.isfinite(row)])) == 1) for row in spoken])


def _table(labels: Floats) -> Floats:
    table = np.asarray(labels, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise _unfit(f"labels of shape {table.shape}", "(units, labelers), one of each or more")
    return table


def _unfit(what: str, expected: str) -> UserError:
    return UserError(
        what, where="labels of the same units", expected=expected, fix="give a row for each unit"
    )
