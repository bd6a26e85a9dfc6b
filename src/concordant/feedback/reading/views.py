"""What training reads: preferences and judgements derived from the live votes, anew each time and never edited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, get_args

from concordant.data.types import Demonstration, Judgement, Preference
from concordant.errors import UserError
from concordant.feedback.aggregation.dawid_skene import dawid_skene, pair_votes
from concordant.feedback.reading.live_votes import LiveVote, LiveVotes, read_live_votes, written
from concordant.feedback.store import Store
from concordant.feedback.votes import Verdict, endorsed, opinions, refused, revision, verdicts

Mode = Literal["each", "majority", "posterior"]
Ties = Literal["drop", "half"]

DESIRABLE = 4.0  # ratings from here on, the middle of the scale, speak for a completion


@dataclass(frozen=True)
class PreferenceView:
    """Preferences and the count of what the votes said beside them."""

    preferences: list[Preference]
    votes: int
    tied_pairs: int  # dropped, or kept with p_chosen = 0.5, as asked
    both_bad: int  # votes that like neither: no preference
    erased: int = 0  # pairs with a text whose author was erased: left out


def preferences(
    store: Store, mode: Mode = "each", ties: Ties = "drop", dimension: str = ""
) -> list[Preference]:
    """The preferences of `view_preferences`, without its counts."""
    return view_preferences(store, mode, ties, dimension).preferences


def view_preferences(
    store: Store, mode: Mode = "each", ties: Ties = "drop", dimension: str = ""
) -> PreferenceView:
    """Pairs derived from the live votes, in the order in which their tasks were created.

    mode: "each" has a row per vote and pair; "majority" a row per pair of a task, decided by its votes;
    "posterior" a row per pair with p_chosen from Dawid-Skene, which weighs labelers by what they agree on
    elsewhere, and the vote itself where one labeler alone spoke of the pair. Where everybody was alone its
    rows are those of "each"; where several spoke, p_chosen says how sure the pair is and the margin is 0, as
    a loss reads one of the two. Either way a pair weighs what one vote does, however many it has.
    ties: "drop" leaves undecided pairs out; "half" keeps them with p_chosen 0.5. Both are counted.
    A ranking of K gives its pairs across tiers (and ties within them, if kept) the weight 2/(K(K-1)), so that
    a prompt counts once however many answers it has (Ouyang et al., arXiv:2203.02155, equation 1).
    An edit gives the pair of the new text and the one it began from, whatever the mode.
    dimension: takes what the votes say of this dimension of their rubric in place of what they say overall, as
    Llama 2 keeps helpfulness and safety apart (arXiv:2307.09288, section 3.2).
    """
    return preferences_of(read_live_votes(store, dimension=dimension), mode, ties)


def preferences_of(live: LiveVotes, mode: Mode = "each", ties: Ties = "drop") -> PreferenceView:
    """The view of these votes alone; see `view_preferences`."""
    if mode not in get_args(Mode) or ties not in ("drop", "half"):
        raise UserError(
            f"a view with mode {mode!r}, ties {ties!r}",
            where="the view of preferences",
            expected=f"{', '.join(get_args(Mode))}; drop or half",
            fix="take one of each",
        )
    modes = {"each": _each, "majority": _majority, "posterior": _posterior}
    stated = chain(modes[mode](live.deciding), _revised(live.deciding))
    rows: list[Preference] = []
    tied = erased = 0
    for task_id, verdict in stated:
        if not live.erased.isdisjoint((verdict.better, verdict.worse)):
            erased += 1
            continue
        tied += not verdict.decided
        if verdict.decided or ties == "half":
            rows.append(_preference(live, task_id, verdict))
    both_bad = sum(one.payload.get("verdict") == "both_bad" for one in live.votes)
    return PreferenceView(rows, len(live.votes), tied, both_bad, erased)


def judgements(store: Store, threshold: float = DESIRABLE, dimension: str = "") -> list[Judgement]:
    """Completions called good or bad by the live votes, in the order in which their tasks were created.

    A rating of `threshold` or more speaks for its completion; `opinions` has what the other votes say. What
    one vote says of a completion is added up: of a ranking the best comes out desirable, the worst
    undesirable, each by how many it stands above and below, and what stands in the middle says nothing.
    `dimension` as in `view_preferences`.
    """
    return judgements_of(read_live_votes(store, dimension=dimension), threshold)


def judgements_of(live: LiveVotes, threshold: float = DESIRABLE) -> list[Judgement]:
    """The judgements of these votes alone; see `judgements`."""
    rows = []
    for one in live.deciding.votes:
        net: dict[str, float] = {}
        for said in opinions(one.payload, live.members[one.task_id], threshold):
            sign = 1 if said.desirable else -1
            net[said.completion] = net.get(said.completion, 0.0) + sign * said.weight
        rows += [
            Judgement(live.prompts[one.task_id], live.completions[key], lean > 0, abs(lean) * one.weight)
            for key, lean in net.items()
            if abs(lean) > 1e-9 and key not in live.erased
        ]
    return rows


@dataclass(frozen=True)
class DemonstrationView:
    """Demonstrations and the count of what was left out."""

    demonstrations: list[Demonstration]
    tasks: list[str]  # the task of each; "" for what came as written
    written: int  # of them, written by people
    unacceptable: int  # called unacceptable or both bad by some vote
    erased: int = 0  # their author was erased, and their text with them


def demonstrations(store: Store, threshold: float = DESIRABLE) -> DemonstrationView:
    """Completions to imitate: what people wrote, then, in the order of the tasks, what the votes on one put first.

    Of a comparison that is what stands above most of its rivals, counted over its votes with ties as half; of
    ratings what they call good on the whole; of an edit the answer that was left as it is. Each completion
    once. One that any live vote calls unacceptable, or both bad, is left out and counted.
    """
    return demonstrations_of(read_live_votes(store), written(store), threshold)


def demonstrations_of(
    live: LiveVotes, came_written: Mapping[str, Demonstration], threshold: float = DESIRABLE
) -> DemonstrationView:
    """The demonstrations of these votes, and of what came written; see `demonstrations`."""
    live = live.deciding
    by_task: dict[str, list[LiveVote]] = defaultdict(list)
    for one in live.votes:
        by_task[one.task_id].append(one)
    task_of = dict.fromkeys(came_written, "")
    for one in live.votes:
        if (good := endorsed(one.payload)) is not None and not one.payload.get("accept"):
            task_of.setdefault(good, one.task_id)
    people = set(task_of)
    for task_id, votes in by_task.items():
        for key in _first(replace(live, votes=tuple(votes)), task_id, threshold):
            task_of.setdefault(key, task_id)
    bad = {key for one in live.votes for key in refused(one.payload, live.members[one.task_id])}
    kept = {key: task_id for key, task_id in task_of.items() if key not in bad | live.erased}
    rows = [
        Demonstration(live.prompts[task_id], live.completions[key]) if task_id else came_written[key]
        for key, task_id in kept.items()
    ]
    gone = len(task_of.keys() & live.erased)
    out = len(task_of) - len(kept) - gone
    return DemonstrationView(rows, list(kept.values()), len(people & kept.keys()), out, gone)


def _first(live: LiveVotes, task_id: str, threshold: float) -> list[str]:
    """What the votes on one task put first among what it shows."""
    if all(one.payload["type"] == "rating" for one in live.votes):
        net: dict[str, float] = defaultdict(float)
        for judged in judgements_of(live, threshold):
            net[judged.completion.id] += judged.weight if judged.desirable else -judged.weight
        return [key for key, lean in net.items() if lean > 0]
    accepted = [one.payload["parent"] for one in live.votes if one.payload.get("accept")]
    shares = standings(live, {task_id})
    most = max(shares.values(), default=0.0)
    return accepted + [key for key, share in shares.items() if share == most > 0.5]


def standings(live: LiveVotes, tasks: Collection[str]) -> dict[str, float]:
    """For each completion of these tasks the share of its rivals that the votes put it above, ties as half."""
    above: dict[str, list[float]] = defaultdict(list)
    for one in live.votes:
        if one.task_id in tasks:
            rivals = len(live.members[one.task_id]) - 1
            share = dict.fromkeys(live.members[one.task_id], 0.0)
            for said in verdicts(one.payload, live.members[one.task_id]):
                share[said.better] += said.p / rivals
                share[said.worse] += (1 - said.p) / rivals
            for key, value in share.items():
                above[key].append(value)
    return {key: sum(values) / len(values) for key, values in above.items()}


def _preference(live: LiveVotes, task_id: str, verdict: Verdict) -> Preference:
    return Preference(
        live.prompts[task_id],
        live.completions[verdict.better],
        live.completions[verdict.worse],
        verdict.p,
        verdict.margin,
        verdict.weight,
        group=task_id,
    )


def _each(live: LiveVotes) -> Iterator[tuple[str, Verdict]]:
    for one in live.votes:
        for said in verdicts(one.payload, live.members[one.task_id]):
            yield one.task_id, _weighed(said, one.weight)


def _revised(live: LiveVotes) -> Iterator[tuple[str, Verdict]]:
    """Every edit by itself: no two labelers write the same text, so there is nothing to decide between them."""
    for one in live.votes:
        if (said := revision(one.payload)) is not None:
            yield one.task_id, _weighed(said, one.weight)


def _weighed(said: Verdict, weight: float) -> Verdict:
    return replace(said, weight=said.weight * weight)


def _majority(live: LiveVotes) -> Iterator[tuple[str, Verdict]]:
    """One verdict per pair of a task; a tie counts half for each side, and even sides are a tie."""
    for task_id, pair, said in _by_pair(live):
        yield task_id, _decide(*pair, [(one.weight, verdict) for one, verdict in said])


def _posterior(live: LiveVotes) -> Iterator[tuple[str, Verdict]]:
    """One verdict per pair of a task of which several labelers spoke, with the votes of the others between.

    How sure a judge is goes into the posterior: its p is two votes weighted p and 1 - p. Each pair of a
    ranking has a posterior of its own, weighted as in the ranking.
    Votes that stand alone are kept out of the estimate: nobody can say whether they are right, and a labeler
    who has many of them would be believed for agreeing with itself.
    """
    votes = pair_votes(live, least=2)
    truth = {} if votes is None else dawid_skene(votes).posterior
    for task_id, pair, said in _by_pair(live):
        found = truth.get((task_id, *pair))
        if found is None:
            yield from ((task_id, _weighed(verdict, one.weight)) for one, verdict in said)
        else:
            yield task_id, _believed(*pair, found, [(one.weight, verdict) for one, verdict in said])


def _believed(
    first: str, second: str, found: tuple[float, float, float], said: Sequence[tuple[float, Verdict]]
) -> Verdict:
    """A tie where the tie is the most probable class or the sides are even; a tie counts half for each side."""
    lead = found[0] - found[1]
    weight = _mean([(w, one.weight) for w, one in said])
    if found[2] > max(found[:2]) or abs(lead) < 1e-9:
        return Verdict(first, second, 0.5, weight=weight)
    better, worse = (first, second) if lead > 0 else (second, first)
    return Verdict(better, worse, (1 + abs(lead)) / 2, weight=weight)


Spoken = tuple[str, tuple[str, str], list[tuple[LiveVote, Verdict]]]


def _by_pair(live: LiveVotes) -> Iterator[Spoken]:
    """Every pair of every task in the order of its first mention, smaller id first, and what was said of it."""
    by_task: dict[str, dict[tuple[str, str], list[tuple[LiveVote, Verdict]]]] = {}
    for one in live.votes:
        pairs = by_task.setdefault(one.task_id, defaultdict(list))
        for said in verdicts(one.payload, live.members[one.task_id]):
            first, second = sorted((said.better, said.worse))
            pairs[first, second].append((one, said))
    for task_id, pairs in by_task.items():
        for pair, said_of_it in pairs.items():
            yield task_id, pair, said_of_it


def _mean(weighted: Sequence[tuple[float, float]]) -> float:
    """Weighted mean of (weight, value); 0 of none."""
    total = sum(weight for weight, _ in weighted)
    return sum(weight * value for weight, value in weighted) / total if total else 0.0


def _decide(first: str, second: str, said: Sequence[tuple[float, Verdict]]) -> Verdict:
    lead = sum(w * (one.p - 0.5) * (1 if one.better == first else -1) for w, one in said)
    weight = _mean([(w, one.weight) for w, one in said])
    if abs(lead) < 1e-9:
        return Verdict(first, second, 0.5, weight=weight)
    better, worse = (first, second) if lead > 0 else (second, first)
    agreeing = [(w, one.margin) for w, one in said if one.decided and one.better == better]
    return Verdict(better, worse, 1.0, _mean(agreeing), weight)
