"""The truth of pairs from labelers of unequal worth, the view that reads it, and what is kept of labelers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.aggregation.bradley_terry import LabelerStanding, fit_labelers
from concordant.feedback.aggregation.contests import from_live_votes
from concordant.feedback.aggregation.dawid_skene import (
    LARGER,
    SMALLER,
    TIE,
    PairVotes,
    dawid_skene,
    pair_votes,
)
from concordant.feedback.aggregation.fits import LabelerFit, keep_fit, read_fit
from concordant.feedback.reading.agreement import krippendorff_alpha, pair_labels
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.reading.views import demonstrations, preferences, view_preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Submission, Vote, both_bad, prefer, ranking, tie


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite") as opened:
        yield opened


# The estimate.


def votes_of(rows: Sequence[tuple[int, int, int]], weight: Sequence[float] | None = None) -> PairVotes:
    """(pair, labeler, said) as votes."""
    pair, who, said = (np.array(column) for column in zip(*rows, strict=True))
    return PairVotes(
        pair,
        who,
        said,
        np.ones(len(rows)) if weight is None else np.array(weight),
        tuple((f"task {t}", "a", "b") for t in range(pair.max() + 1)),
        tuple(f"labeler {w}" for w in range(who.max() + 1)),
    )


def crowd(seed: int, tasks: int = 4_000, each: int = 3) -> tuple[PairVotes, np.ndarray, np.ndarray]:
    """30 good labelers (right 75 to 95 %) and 20 who answer at random; the truth, and how often each is right."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, tasks, p=[0.45, 0.45, 0.1])
    right = np.concatenate([rng.uniform(0.75, 0.95, 30), np.full(20, 1 / 3)])
    who = np.argsort(rng.random((tasks, 50)), axis=1)[:, :each].ravel()
    pair = np.repeat(np.arange(tasks), each)
    other = (truth[pair] + rng.integers(1, 3, len(pair))) % 3
    said = np.where(rng.random(len(pair)) < right[who], truth[pair], other)
    return votes_of(list(zip(pair, who, said, strict=True))), truth, right


def majority(votes: PairVotes, rng: np.random.Generator) -> np.ndarray:
    """The most frequent verdict of each pair, even ones drawn."""
    counts = np.zeros((len(votes.pairs), 3))
    np.add.at(counts, (votes.pair, votes.said), 1)
    return np.argmax(counts + rng.random(counts.shape) / 2, axis=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_dawid_skene_beats_the_majority_on_a_planted_crowd(seed: int) -> None:
    votes, truth, right = crowd(seed)
    found = dawid_skene(votes)
    posterior = np.array([found.posterior[pair] for pair in votes.pairs])
    counted = (majority(votes, np.random.default_rng(seed)) == truth).mean()
    estimated = (posterior.argmax(axis=1) == truth).mean()
    assert estimated > counted + 0.03
    sure = posterior.max(axis=1)
    assert sure.mean() == pytest.approx(estimated, abs=0.04)  # it is as right as it says
    reliability = np.array([one.reliability for one in found.labelers])
    assert spearmanr(reliability, right).statistic >= 0.9
    assert np.abs(reliability - right).mean() < 0.05
    assert sum(one.n for one in found.labelers) == len(votes.said)


def test_one_iteration_by_hand() -> None:
    """Two pairs; ada says a, a; bob says a, b. Majority: q = (1, 0, 0) and (1/2, 1/2, 0).
    M: prior ~ 1/2 + (3/2, 1/2, 0) = (4/7, 2/7, 1/7). ada[a] ~ (2, 1/2, 1/2) and ada[b] ~ (1, 1/2, 1/2);
    bob[a] ~ (3/2, 1, 1/2), bob[b] ~ (1/2, 1, 1/2); a third of all in row tie.
    E, first pair: 4/7 2/3 1/2 = 4/21;  2/7 1/2 1/4 = 1/28;  1/7 1/9 = 1/63. All over 61/252."""
    found = dawid_skene(votes_of([(0, 0, SMALLER), (0, 1, SMALLER), (1, 0, SMALLER), (1, 1, LARGER)]), 1)
    assert found.posterior["task 0", "a", "b"] == pytest.approx((48 / 61, 9 / 61, 4 / 61))


def test_a_contrary_labeler_is_read_the_other_way_round() -> None:
    """Confusions say more than accuracies: who is always wrong is worth as much as who is always right."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 300)
    rows = []
    for t in range(300):
        rows += [(t, w, truth[t] if rng.random() < 0.8 else 1 - truth[t]) for w in range(3)]
        rows.append((t, 3, 1 - truth[t]))
    found = dawid_skene(votes_of(rows))
    contrary = found.labelers[3]
    assert contrary.reliability < 0.1
    assert contrary.confusion[0][1] > 0.9
    posterior = np.array([found.posterior[f"task {t}", "a", "b"] for t in range(300)])
    assert (posterior.argmax(axis=1) == truth).mean() > 0.99


def test_a_vote_of_weight_two_is_two_votes() -> None:
    rows = [(0, 0, SMALLER), (0, 1, LARGER), (1, 0, SMALLER), (1, 1, TIE), (1, 2, TIE)]
    doubled = dawid_skene(votes_of([*rows, rows[0]]))
    weighted = dawid_skene(votes_of(rows, [2, 1, 1, 1, 1]))
    for pair, three in doubled.posterior.items():
        assert weighted.posterior[pair] == pytest.approx(three)


def test_thousands_of_votes_on_one_pair_stay_finite() -> None:
    """The product of their probabilities is below the smallest float."""
    rows = [(0, w, SMALLER) for w in range(3_000)] + [(1, w, LARGER) for w in range(3_000)]
    found = dawid_skene(votes_of(rows))
    assert found.posterior["task 0", "a", "b"] == pytest.approx((1, 0, 0))
    assert found.posterior["task 1", "a", "b"] == pytest.approx((0, 1, 0))


def test_votes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="unknown verdict"):
        votes_of([(0, 0, 3)])
    with pytest.raises(UserError, match="0 iterations"):
        dawid_skene(votes_of([(0, 0, 1)]), 0)


# The store.


def ask(store: Store, texts: Sequence[str], question: str, need: int, kind: str = "pairwise") -> list[str]:
    rows = [(Prompt.user(question), Completion(one), {"text": one}, True) for one in texts]
    ids = store.add_completions(rows)
    store.create_tasks(kind, [ids], need=need)
    return ids


def say(store: Store, name: str, *payloads: dict) -> None:
    """The labeler answers its next task, once for each pass."""
    lease = store.lease(store.add_labeler(name, "human"))
    assert lease is not None
    task = lease.comparison.task_id
    votes = [Vote(task, payload, pass_index=index) for index, payload in enumerate(payloads)]
    store.submit_many([Submission(lease.token, f"{lease.token}{v.pass_index}", v) for v in votes])


def test_ballots_become_votes_on_pairs(store: Store) -> None:
    """Passes share a vote, a judge's p is two, both bad is none; pairs with one labeler can be left out."""
    a, b = ask(store, ["a", "b"], "one", 4)
    low, high = sorted((a, b))
    say(store, "ada", prefer(high))
    say(store, "bob", tie())
    say(store, "cyd", prefer(low), prefer(low) | {"p": 0.75})
    say(store, "dan", both_bad())
    other = ask(store, ["c", "d", "e"], "two", 1, "ranking")
    say(store, "ada", ranking([other[:2], other[2:]]))
    votes = pair_votes(read_live_votes(store))
    assert votes is not None
    assert len(votes.pairs) == 4
    assert len(votes.labelers) == 3
    several = pair_votes(read_live_votes(store), least=2)
    assert several is not None
    assert [pair[1:] for pair in several.pairs] == [(low, high)]
    assert sorted(zip(several.said.tolist(), several.weight.tolist(), strict=True)) == [
        (SMALLER, 0.375),
        (SMALLER, 0.5),
        (LARGER, 0.125),
        (LARGER, 1.0),
        (TIE, 1.0),
    ]
    assert pair_votes(read_live_votes(store), least=9) is None


def many(store: Store, n: int = 40) -> list[tuple[str, str]]:
    """Pairs on which three labelers agree but for a few, and two are wrong on every second; ids of (right, wrong)."""
    rows = [
        (Prompt.user(f"question {i}"), Completion(f"{side} {i}"), {}, True)
        for i in range(n)
        for side in ("right", "wrong")
    ]
    ids = store.add_completions(rows)
    asked = list(zip(ids[::2], ids[1::2], strict=True))
    tasks = dict(zip(store.create_tasks("pairwise", asked, need=5).ids, asked, strict=True))
    number = {pair: i for i, pair in enumerate(asked)}
    wrong = {
        "ada": set[int](),
        "bob": set(range(0, n, 8)),
        "cyd": set(range(4, n, 8)),
        "dan": set(range(0, n, 2)),
        "eve": {*range(0, n, 4), *range(1, n, 4)},
    }
    for name, errs in wrong.items():
        votes = []
        for lease in store.lease_many(store.add_labeler(name, "human"), n):
            task = lease.comparison.task_id
            winner = tasks[task][int(number[tasks[task]] in errs)]
            vote = Vote(task, prefer(winner, strength=3 if name == "ada" else 0))
            votes.append(Submission(lease.token, lease.token, vote))
        store.submit_many(votes)
    return asked


def test_the_posterior_view_believes_labelers_who_are_borne_out(store: Store) -> None:
    asked = many(store)
    rows = preferences(store, "posterior")
    assert len(rows) == len(asked)
    votes = pair_votes(read_live_votes(store))
    assert votes is not None
    truth = dawid_skene(votes).posterior
    for row, (right, wrong) in zip(rows, asked, strict=True):
        assert (row.chosen.id, row.rejected.id) == (right, wrong)
        q = truth[row.group, *sorted((right, wrong))]
        assert row.p_chosen == pytest.approx(max(q[:2]) + q[2] / 2)
        assert 0.5 < row.p_chosen < 1
        assert row.margin == 0  # a loss that reads a margin would take the pair for certain
    wrongly = [row for row in preferences(store, "majority") if row.chosen.text.startswith("wrong")]
    assert len(wrongly) == 10  # where those two side with the one who erred


def test_a_single_vote_is_itself_in_the_posterior_view(store: Store) -> None:
    """With its p and margin, and without a word in what is believed of the labelers."""
    many(store)
    before = [one.p_chosen for one in preferences(store, "posterior")]
    a, b = ask(store, ["a", "b"], "alone", 1)
    say(store, "ada", prefer(b, strength=2) | {"p": 0.8})
    rows = preferences(store, "posterior")
    assert [one.p_chosen for one in rows[:-1]] == before
    last = rows[-1]
    assert (last.chosen.id, last.rejected.id, last.p_chosen) == (b, a, 0.8)
    assert (last.margin, last.weight) == (pytest.approx(2 / 3), 1.0)
    each = preferences(store, "each")[-1]
    assert last == each


def test_with_one_vote_a_question_the_posterior_view_is_that_of_each_vote(store: Store) -> None:
    """Row by row, in the same order: rankings, ties, strength, a judge's doubt, several labelers."""
    rng = random.Random(0)
    for n in range(12):
        k = 2 + n % 4
        kind = "pairwise" if k == 2 else "ranking"
        keys = ask(store, [f"{n} {i}" for i in range(k)], f"question {n}", 1, kind)
        rng.shuffle(keys)
        tiers = [keys[:2], *([key] for key in keys[2:])]
        payload = prefer(keys[0], strength=n % 4) | {"p": 0.7 + n / 50} if k == 2 else ranking(tiers)
        say(store, ("ada", "bob", "cyd")[n % 3], tie() if n == 4 else payload)
    for ties in ("drop", "half"):
        each = view_preferences(store, "each", ties)
        assert view_preferences(store, "posterior", ties) == each
        assert len(each.preferences) > 40
    ask(store, ["a", "b"], "asked of two", 2)
    for name in ("ada", "bob"):
        say(store, name, tie())
    assert view_preferences(store, "posterior").preferences == view_preferences(store, "each").preferences
    assert view_preferences(store, "posterior").tied_pairs < view_preferences(store, "each").tied_pairs


def test_the_posterior_says_how_often_it_is_right() -> None:
    """Two of ten labelers a pair: its log loss is far below that of the votes' shares, its confidence honest."""
    rng = np.random.default_rng(1)
    accuracy = rng.uniform(0.6, 0.95, 10)
    truth = rng.integers(0, 2, 2_000)
    who = np.concatenate([rng.permutation(10)[:2] for _ in range(2_000)])
    pair = np.repeat(np.arange(2_000), 2)
    said = np.where(rng.random(4_000) < accuracy[who], truth[pair], 1 - truth[pair])
    pairs = tuple((f"task {t}", "a", "b") for t in range(2_000))
    votes = PairVotes(pair, who, said, np.ones(4_000), pairs, tuple(map(str, range(10))))
    q = np.array(list(dawid_skene(votes).posterior.values()))
    right = q[np.arange(2_000), truth] + q[:, 2] / 2
    sure = np.maximum(right, 1 - right)
    assert float(sure.mean()) == pytest.approx(float((right > 0.5).mean()), abs=0.03)
    shares = np.where(said.reshape(-1, 2) == truth[:, None], 1, 0).mean(axis=1)
    smoothed = (shares * 2 + 0.5) / 3
    assert -np.log(right).mean() < -np.log(smoothed).mean() - 0.03


def test_labels_of_pairs_for_the_figures_of_agreement(store: Store) -> None:
    many(store)
    ask(store, ["a", "b"], "alone", 1)
    say(store, "ada", tie())
    labels, prompts = pair_labels(read_live_votes(store))
    assert labels.shape == (41, 5)
    assert prompts == list(range(41))
    assert np.isfinite(labels).sum(axis=1).tolist() == [5] * 40 + [1]
    assert set(labels[-1][np.isfinite(labels[-1])]) == {2.0}
    shares = sorted(float(np.mean(labels[:40, i] == labels[:40, j])) for i in range(5) for j in range(i))
    assert (shares[0], shares[-2:]) == (0.5, [0.875, 0.875])
    assert 0 < krippendorff_alpha(labels, clusters=prompts, replicates=50).value < 0.5


def test_passes_of_one_judge_are_no_second_opinion(store: Store) -> None:
    a, b = ask(store, ["a", "b"], "one", 1)
    say(store, "judge", prefer(a), prefer(b))
    assert [(one.p_chosen, one.weight) for one in preferences(store, "posterior")] == [(1.0, 0.5), (1.0, 0.5)]


def test_ties_in_the_posterior_view(store: Store) -> None:
    many(store)
    ask(store, ["a", "b"], "even", 3)
    for name in ("ada", "bob", "cyd"):
        say(store, name, tie())
    dropped, half = view_preferences(store, "posterior"), view_preferences(store, "posterior", "half")
    assert (len(dropped.preferences), dropped.tied_pairs) == (40, 1)
    assert [one.p_chosen for one in half.preferences if one.chosen.text in "ab"] == [0.5]


def test_demonstrations_are_what_people_wrote_and_what_votes_put_first(store: Store) -> None:
    """c leads and is unacceptable to one labeler; of a pair that is even nothing leads."""
    ada = store.add_labeler("ada", "human")
    prompt = Prompt.user("write")
    store.add_completions([(prompt, Completion("by hand"), {}, True)], source="human", author=ada)
    a, b, c = ask(store, list("abc"), "rank", 2, "ranking")
    say(store, "bob", ranking([[a], [b], [c]]))
    say(store, "cyd", ranking([[a], [c], [b]]))
    d, e, f = ask(store, list("def"), "refused", 2, "ranking")
    say(store, "bob", ranking([[f], [d], [e]]))
    say(store, "cyd", ranking([[f], [e], [d]], unacceptable=[f]))
    g, h = ask(store, ["g", "h"], "even", 2)
    say(store, "bob", prefer(g))
    say(store, "cyd", prefer(h))
    k, _ = ask(store, ["k", "l"], "pair", 1)
    say(store, "bob", prefer(k))
    view = demonstrations(store)
    assert [one.completion.text for one in view.demonstrations] == ["by hand", "a", "k"]
    assert [one.prompt.text for one in view.demonstrations] == ["write", "rank", "pair"]
    assert (view.written, view.unacceptable, view.tasks[0]) == (1, 1, "")


# What is kept of labelers.


def test_fits_are_added_and_never_overwritten(store: Store) -> None:
    ada, bob = (store.add_labeler(name, "human") for name in ("ada", "bob"))
    standings = [LabelerStanding(ada, 0.9, 0.1, 40), LabelerStanding(bob, None, 0.0, 3)]
    first = keep_fit(store, standings, {ada: 0.8})
    assert (first.labelers, first.hidden) == (1, 1)
    second = keep_fit(store, [LabelerStanding(ada, 0.4, 0.1, 60)])
    assert first.fit != second.fit
    assert read_fit(store, first.fit) == {ada: LabelerFit(0.9, 0.8, 40)}
    assert read_fit(store, second.fit) == {ada: LabelerFit(0.4, None, 60)}
    with pytest.raises(IntegrityError, match="kept for ever"), store.writing() as connection:
        connection.execute(text("UPDATE labeler_fit SET reliability = 1"))


def test_from_the_votes_of_a_store_to_a_kept_fit(store: Store) -> None:
    """Each completion is an item: forty boards of two, from which only the labelers can be fitted."""
    many(store)
    live = read_live_votes(store)
    votes = from_live_votes(live, {key: key for key in live.completions})
    pairs = pair_votes(live)
    assert pairs is not None
    quality = {one.labeler: one.reliability for one in dawid_skene(pairs).labelers}
    kept = read_fit(store, keep_fit(store, fit_labelers(votes).labelers, quality).fit)
    ada, bob, cyd, dan, eve = (
        kept[store.add_labeler(name, "human")] for name in ("ada", "bob", "cyd", "dan", "eve")
    )
    assert {one.n for one in kept.values()} == {40}
    for good in (ada, bob, cyd):
        assert good.reliability > max(dan.reliability, eve.reliability)
        assert good.quality > max(dan.quality, eve.quality) + 0.1


def test_a_fit_of_strangers_is_refused_whole(store: Store) -> None:
    ada = store.add_labeler("ada", "human")
    with pytest.raises(UserError, match="'nobody'"):
        keep_fit(store, [LabelerStanding(ada, 0.9, 0.1, 40), LabelerStanding("nobody", 0.9, 0.0, 40)])
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM labeler_fit")).scalar() == 0
