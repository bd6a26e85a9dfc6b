"""Simulated labelers: what was planted is what the votes show, and nowhere else."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.labelers import Labeler, collect
from concordant.feedback.answering.simulated import (
    PRESETS,
    SimulatedLabeler,
    Traits,
    p_over,
    simulated_labelers,
    utility,
)
from concordant.feedback.reading.agreement import Agreement, agreement
from concordant.feedback.reading.live_votes import LiveVote, LiveVotes, read_live_votes
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Comparison, Vote, verdicts
from telling import tells

PRODUCER = {"policy": "sft", "seed": 0}


@dataclass(frozen=True)
class Known:
    """A gold score read off the text: "g=0.5 agree refuse pad pad"."""

    total: float
    flags: dict[str, Any] = field(default_factory=dict)


def gold(_prompt: Prompt, text: str) -> Known:
    words = text.split()
    act = "refuse" if "refuse" in words else "answer"
    flags = {"act": act, "agrees_with_claim": "agree" in words, "backed_down": "yield" in words}
    return Known(float(words[0].removeprefix("g=")), flags | {"words": len(words)})


def comparison(task: int, texts: Sequence[str], kind: str = "pairwise") -> Comparison:
    """A task shown in an order drawn from its number."""
    shown = list(enumerate(texts))
    random.Random(task).shuffle(shown)
    completions = tuple(Completion(text, id=f"c{index}") for index, text in shown)
    return Comparison(f"task {task}", Prompt.user("q"), completions, kind)


def winners(votes: Sequence[Vote]) -> list[str]:
    return [vote.payload["winner"] for vote in votes]


def share(yes: Sequence[bool]) -> tuple[float, float]:
    """Mean and its standard error."""
    mean = sum(yes) / len(yes)
    return mean, math.sqrt(mean * (1 - mean) / len(yes))


def test_utility_by_hand() -> None:
    traits = Traits(length=0.1, sycophancy=3, refusal=2, first=0.5)
    assert utility(gold(Prompt.user("q"), "g=1"), traits, shown_first=False) == pytest.approx(1.1)
    score = gold(Prompt.user("q"), "g=-0.5 agree refuse yield")  # agreeing twice is agreeing
    assert utility(score, traits, shown_first=True) == pytest.approx(-0.5 + 0.4 + 3 + 2 + 0.5)


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["pairwise", "ranking"])
def test_draws_follow_the_logistic_rule(kind: str, epsilon: float) -> None:
    """By hand: u = 0.4 and 0, tau = 0.5, s = sigmoid(0.8) = 0.68997; with epsilon 0.2, 0.61398."""
    traits = Traits(epsilon=epsilon)
    expected = p_over(0.4, 0.0, traits)
    assert expected == pytest.approx({0.0: 0.68997, 0.2: 0.61398}[epsilon], abs=1e-5)
    votes = SimulatedLabeler("x", traits, gold, 1).label(
        [comparison(i, ["g=0.4", "g=0"], kind) for i in range(2500)]
    )
    best = winners(votes) if kind == "pairwise" else [vote.payload["tiers"][0][0] for vote in votes]
    mean, se = share([key == "c0" for key in best])
    assert abs(mean - expected) < 3 * se


def test_a_ranking_of_two_is_the_pairwise_vote() -> None:
    labeler = SimulatedLabeler("x", Traits(epsilon=0.1, first=0.3, delta=0.2), gold)
    texts = [["g=0.4", f"g={0.1 * (i % 7):.1f}"] for i in range(500)]
    pairs = labeler.label([comparison(i, two) for i, two in enumerate(texts)])
    ranks = labeler.label([comparison(i, two, "ranking") for i, two in enumerate(texts)])
    for pair, rank in zip(pairs, ranks, strict=True):
        tiers = rank.payload["tiers"]
        assert (pair.payload["verdict"] == "tie") == (len(tiers) == 1)
        if len(tiers) == 2:
            assert [pair.payload["winner"]] == tiers[0]
    ties = sum(pair.payload["verdict"] == "tie" for pair in pairs)
    assert 0 < ties < 500


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_every_pair_of_a_ranking_follows_the_same_rule(epsilon: float) -> None:
    traits = Traits(epsilon=epsilon)
    utilities = [0.9, 0.5, 0.3, -0.4]
    texts = [f"g={u}" for u in utilities]
    labeler = SimulatedLabeler("x", traits, gold)
    votes = labeler.label([comparison(i, texts, "ranking") for i in range(1500)])
    ranks = [{tier[0]: rank for rank, tier in enumerate(vote.payload["tiers"])} for vote in votes]
    for a in range(4):
        for b in range(a + 1, 4):
            mean, se = share([rank[f"c{a}"] < rank[f"c{b}"] for rank in ranks])
            assert abs(mean - p_over(utilities[a], utilities[b], traits)) < 3.5 * se


def test_planted_epsilon_and_first_position_are_recovered() -> None:
    """Far apart, wrong choices are epsilon; equally good, first choices are sigmoid(first / tau)."""
    labeler = SimulatedLabeler("x", Traits(epsilon=0.15), gold)
    far = labeler.label([comparison(i, ["g=9", "g=-9"]) for i in range(2000)])
    mean, se = share([key == "c1" for key in winners(far)])
    assert abs(mean - 0.15) < 3 * se
    puller = SimulatedLabeler("y", Traits(first=0.4), gold)
    tasks = [comparison(i, ["g=0", "g=0"]) for i in range(2000)]
    votes = puller.label(tasks)
    mean, se = share([key == one.completions[0].id for key, one in zip(winners(votes), tasks, strict=True)])
    assert abs(0.5 * math.log(mean / (1 - mean)) - 0.4) < 3 * 0.5 * se / (mean * (1 - mean))


def test_ties_are_pairs_closer_than_delta() -> None:
    labeler = SimulatedLabeler("x", Traits(delta=0.25), gold)
    near, far = labeler.label([comparison(0, ["g=0.2", "g=0"]), comparison(1, ["g=0.3", "g=0"])])
    assert near.payload["verdict"] == "tie"
    assert far.payload["verdict"] == "prefer"


def test_fatigue_costs_accuracy_late_in_the_day() -> None:
    labeler = SimulatedLabeler("x", Traits(fatigue=0.4), gold)
    votes = labeler.label([comparison(i, ["g=9", "g=-9"]) for i in range(1500)])
    late = [vote.payload["winner"] == "c1" for vote in votes if vote.client["epsilon"] > 0.3]
    mean, se = share(late)
    assert abs(mean - 0.35) < 3 * se
    assert not any(v.payload["winner"] == "c1" for v in votes if v.client["epsilon"] < 0.001)


def test_draws_do_not_depend_on_the_order_of_work_but_on_seed_and_name() -> None:
    tasks = [comparison(i, ["g=0.4", "g=0"]) for i in range(200)]
    labeler = SimulatedLabeler("x", Traits(), gold)
    assert labeler.label(tasks) == labeler.label(tasks[::-1])[::-1]
    for other in (SimulatedLabeler("x", Traits(), gold, 1), SimulatedLabeler("y", Traits(), gold)):
        assert 40 < sum(map(str.__ne__, winners(labeler.label(tasks)), winners(other.label(tasks)))) < 160


def test_the_log_holds_what_was_drawn_from() -> None:
    shown = comparison(3, ["g=0.4", "g=0 agree"])
    (vote,) = SimulatedLabeler("x", Traits(sycophancy=2), gold).label([shown])
    assert vote.client["labeler"] == "x"
    assert vote.client["u"] == {"c0": 0.4, "c1": 2.0}
    assert list(vote.client["u"]) == [one.id for one in shown.completions]


def test_presets_and_pool() -> None:
    pool = simulated_labelers("pool", gold)
    assert [labeler.name for labeler in pool] == list(PRESETS)
    assert len({labeler.traits for labeler in pool}) == 5
    with pytest.raises(UserError, match="carefull") as caught:
        simulated_labelers("carefull", gold)
    assert "'careful'" in caught.value.fix
    with pytest.raises(UserError, match="epsilon"):
        Traits(epsilon=0.6)


# Each bias shows in its own diagnostic and in no other.


def independent_pairs(n: int) -> Iterator[list[str]]:
    """Pairs whose gold, length, agreement and refusal are drawn independently of one another."""
    rng = random.Random(7)
    for i in range(n):
        two = []
        for _ in range(2):
            marks = [mark for mark in ("agree", "refuse") if rng.random() < 0.5]
            filler = ["pad"] * (10 - len(marks) if rng.random() < 0.5 else 4 - len(marks))
            two.append(" ".join([f"g={rng.choice((0.0, 1.0))}", *marks, *filler]))
        if two[0] != two[1]:
            yield [*two, str(i)]


DIAGNOSTICS: dict[str, Callable[[str], float]] = {
    "gold": lambda text: gold(Prompt.user(""), text).total,
    "length": lambda text: len(text.split()),
    "sycophancy": lambda text: "agree" in text,
    "refusal": lambda text: "refuse" in text,
}


BIASES = {
    "length": Traits(length=0.2),
    "sycophancy": Traits(sycophancy=1.0),
    "refusal": Traits(refusal=1.0),
    "first": Traits(first=1.0),
    "none": Traits(),
}


Figures = dict[str, tuple[Agreement, list[tuple[str, str]]]]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """Agreement, and texts (preferred, other), of a labeler of each bias, from votes on the same pairs."""
    with Store.open(tmp_path_factory.mktemp("biased") / "feedback.sqlite") as store:
        rows = [
            (Prompt.user(f"question {i}"), Completion(text), PRODUCER, True)
            for *two, i in independent_pairs(600)
            for text in two
        ]
        ids = store.add_completions(rows)
        store.create_tasks("pairwise", list(zip(ids[::2], ids[1::2], strict=True)), need=len(BIASES))
        labelers = [SimulatedLabeler(name, traits, gold, 2) for name, traits in BIASES.items()]
        collect(store, labelers)
        live = read_live_votes(store)
        found: Figures = {}
        for labeler in labelers:
            who = store.add_labeler(labeler.name, "simulated", labeler.identity.settings)
            said = [vote for vote in live.votes if vote.labeler == who]
            found[labeler.name] = (agreement(store, who), [texts(live, vote) for vote in said])
    return found


def texts(live: LiveVotes, vote: LiveVote) -> tuple[str, str]:
    (said,) = verdicts(vote.payload, live.members[vote.task_id])
    return live.completions[said.better].text, live.completions[said.worse].text


@pytest.mark.parametrize("bias", BIASES)
def test_each_bias_shows_in_its_own_diagnostic(figures: Figures, bias: str) -> None:
    rates, pairs = figures[bias]
    pulls = {"first": (rates.first_chosen.value - 0.5) * 2 * math.sqrt(rates.first_chosen.n)}
    for name, feature in DIAGNOSTICS.items():
        signs = [feature(better) - feature(worse) for better, worse in pairs]
        won = [sign > 0 for sign in signs if sign]
        pulls[name] = (sum(won) / len(won) - 0.5) * 2 * math.sqrt(len(won))
        if name == "length":
            assert rates.longer_chosen.value == pytest.approx(sum(won) / len(won))
    for name, z in pulls.items():
        if name in (bias, "gold"):
            assert z > 5, pulls
        else:
            assert abs(z) < 3.5, pulls


# The driver.


class Dies:
    """A labeler whose process ends when the batches it shares with others are used up."""

    def __init__(self, labeler: SimulatedLabeler, batches: list[int]) -> None:
        self.labeler, self.batches = labeler, batches
        self.identity = labeler.identity

    def label(self, comparisons: Sequence[Comparison]) -> list[Vote]:
        if not self.batches:
            raise KeyboardInterrupt
        self.batches.pop()
        return self.labeler.label(comparisons)


def open_store(path: Path, n: int = 300, need: int = 2) -> Store:
    store = Store.open(path)
    rng = random.Random(1)
    rows = [
        (Prompt.user(f"question {i}"), Completion(f"g={rng.random():.3f} {j}"), PRODUCER, True)
        for i in range(n)
        for j in range(3)
    ]
    ids = store.add_completions(rows)
    store.create_tasks("ranking", [ids[i : i + 3] for i in range(0, 3 * n, 3)], need=need)
    return store


def payloads(store: Store) -> list[tuple[str, str, object]]:
    return [(one.task_id, one.labeler, one.payload) for one in read_live_votes(store).votes]


def test_collect_killed_and_made_again_equals_collect(tmp_path: Path) -> None:
    whole, cut = open_store(tmp_path / "whole.sqlite"), open_store(tmp_path / "cut.sqlite")
    labelers = simulated_labelers("pool", gold, seed=4)
    assert collect(whole, labelers).votes == 600
    batches = [1, 2, 3]
    dying: list[Labeler] = [Dies(labeler, batches) for labeler in labelers]
    with pytest.raises(KeyboardInterrupt):
        collect(cut, dying)
    some = cut.counts()["votes"]
    assert 200 < some < 500
    assert cut.counts()["leases"] == 0  # what the dead labeler held was given back
    assert collect(cut, labelers).votes == 600 - some
    assert payloads(cut) == payloads(whole)
    assert preferences(cut) == preferences(whole)
    before = cut.counts()
    told: list[tuple[int, int]] = []
    assert collect(cut, labelers, progress=lambda done, planned: told.append((done, planned))).votes == 0
    assert cut.counts() == before
    assert not told
    whole.close()
    cut.close()


def test_collect_takes_up_leases_that_a_killed_process_held(tmp_path: Path) -> None:
    with open_store(tmp_path / "feedback.sqlite", n=50, need=1) as store:
        (labeler,) = simulated_labelers("careful", gold)
        who = labeler.identity
        store.lease_many(store.add_labeler(who.name, who.kind, who.settings), 20)
        assert store.counts()["leases"] == 20
        told: list[tuple[int, int]] = []
        done = collect(store, [labeler], progress=lambda kept, planned: told.append((kept, planned)))
        assert (done.votes, done.open_tasks) == (50, 0)
        assert told == [(50, 50)]
        assert store.counts()["leases"] == 0


def test_collect_says_what_it_could_not_do(tmp_path: Path) -> None:
    with open_store(tmp_path / "feedback.sqlite", n=10, need=3) as store:
        done = collect(store, simulated_labelers("pool", gold)[:2])
        assert (done.votes, done.open_tasks) == (20, 10)


def test_a_pool_shares_the_work(tmp_path: Path) -> None:
    with open_store(tmp_path / "feedback.sqlite", n=500, need=1) as store:
        collect(store, simulated_labelers("pool", gold))
        live = read_live_votes(store)
    per_labeler = [sum(one.labeler == who for one in live.votes) for who in {v.labeler for v in live.votes}]
    assert len(per_labeler) == 5
    assert all(abs(n - 100) < 3.5 * math.sqrt(500 * 0.2 * 0.8) for n in per_labeler)


def test_labelers_that_cannot_be() -> None:
    with tells("epsilon 0.4 with fatigue 0.2", where="traits", expected="0 to 0.5", fix="lower"):
        Traits(epsilon=0.4, fatigue=0.2)
    for traits in ({"tau": 0.0}, {"delta": -1.0}):
        with tells("tau 0", where="traits", expected="tau above 0, delta 0 or more", fix="raise"):
            Traits(**traits)
    with tells("called 'carefull'", where="feedback.labelers", expected="careful, ", fix="'careful'"):
        simulated_labelers("carefull", gold)
    with tells("called 'zzz'", where="feedback.labelers", expected="careful, ", fix="take one of these"):
        simulated_labelers("zzz", gold)
    (labeler,) = simulated_labelers("careful", gold)
    with tells("of kind 'rating'", where="the task", expected="pairwise or ranking", fix="people"):
        labeler.label([comparison(0, ["g=1", "g=0"], "rating")])
