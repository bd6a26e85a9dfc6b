"""More labelers where they disagree, then a lead; what the lead decides is read in place of the votes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.disputes import adjudicate, disputes
from concordant.feedback.asking.overlap import in_agreement
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.agreement import agreement
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.views import judgements, preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, both_bad, prefer, ranking, tie


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store.open(address) as opened:
        yield opened


def ask(store: Store, *, need: int = 2, most: int = 5) -> tuple[str, tuple[str, str]]:
    """A pair to compare: the task, and the ids of its completions."""
    prompt = Prompt.user("question")
    one, other = store.add_completions([(prompt, Completion(t), {}, True) for t in ("one", "other")])
    (task,) = store.create_tasks("pairwise", [[one, other]], need=need, policy={"most": most}).ids
    assert task is not None
    return task, (one, other)


def votes(store: Store, winners: list[str]) -> None:
    for winner in winners:
        labeler = store.add_labeler(f"labeler {store.counts()['labelers']}", "human")
        lease = store.lease(labeler)
        assert lease is not None, "nobody is asked any more"
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(winner)))


def state(store: Store, task: str) -> tuple[str, int]:
    with store.reading() as connection:
        row = connection.execute(text("SELECT state, need FROM task WHERE id = :id"), {"id": task}).one()
    return row.state, row.need


def test_what_counts_as_agreed() -> None:
    assert in_agreement([prefer("a")])
    assert in_agreement([prefer("a"), prefer("a", strength=3)])
    assert not in_agreement([prefer("a"), tie()])
    assert not in_agreement([both_bad(), prefer("a"), prefer("a")])
    assert in_agreement([prefer("b"), prefer("a"), prefer("a"), prefer("a")])
    assert in_agreement([ranking([["a"], ["b"], ["c"]]), ranking([["a"], ["c"], ["b"]])])
    assert not in_agreement([ranking([["a"], ["b"]]), ranking([["a", "b"]])])


def test_two_who_agree_are_enough(store: Store) -> None:
    task, (one, _) = ask(store)
    votes(store, [one, one])
    assert state(store, task) == ("done", 2)


def test_more_are_asked_up_to_the_most_and_then_a_lead(store: Store) -> None:
    task, (one, other) = ask(store)
    votes(store, [one, other])
    assert state(store, task) == ("open", 4)
    votes(store, [one])
    assert state(store, task) == ("open", 4)
    votes(store, [other])
    assert state(store, task) == ("open", 5)
    votes(store, [other])
    assert state(store, task) == ("adjudication", 5)
    (dispute,) = disputes(store, DEFAULT_PROJECT)
    assert [payload["winner"] for _, payload in dispute.said] == [one, other, one, other, other]
    assert store.unfinished() == []


def test_agreement_ends_it_early(store: Store) -> None:
    task, (one, other) = ask(store)
    votes(store, [one, other, one, one])
    assert state(store, task) == ("done", 4)


def test_a_decision_is_read_in_place_of_the_votes_which_stay(store: Store) -> None:
    task, (one, other) = ask(store, most=2)
    votes(store, [one, other])
    assert len(preferences(store)) == 2
    before = digest(store)
    lead = store.add_labeler("lead", "human")
    with pytest.raises(UserError, match="winner"):
        adjudicate(store, task, lead, prefer("nobody"), "")
    adjudicate(store, task, lead, prefer(other), "it says what was asked")
    assert state(store, task) == ("done", 2)
    (pair,) = preferences(store)
    assert (pair.chosen.id, pair.rejected.id, pair.weight) == (other, one, 1.0)
    assert {row.completion.id: row.desirable for row in judgements(store)} == {other: True, one: False}
    assert digest(store) != before, "a decision makes another reward model"
    assert store.counts()["live_votes"] == 2
    assert agreement(store).raw.value == 0.0, "agreement is that of the labelers"
    assert disputes(store, DEFAULT_PROJECT) == []
    with pytest.raises(UserError, match="does not wait"):
        adjudicate(store, task, lead, prefer(one), "again")


def test_who_caused_a_dispute_may_take_the_vote_back(store: Store) -> None:
    task, (one, other) = ask(store, most=2)
    votes(store, [one])
    bob = store.add_labeler("bob", "human")
    lease = store.lease(bob)
    assert lease is not None
    receipt = store.submit(lease.token, "k", Vote(task, prefer(other)))
    assert state(store, task)[0] == "adjudication"
    store.retract(receipt.vote_id, labeler=bob)
    assert state(store, task)[0] == "open"
    again = store.lease(bob)
    assert again is not None
    store.submit(again.token, "k2", Vote(task, prefer(one)))
    assert state(store, task)[0] == "done"


def test_what_is_decided_stays_decided(store: Store) -> None:
    task, (one, other) = ask(store, most=2)
    votes(store, [one, other])
    lead = store.add_labeler("lead", "human")
    adjudicate(store, task, lead, prefer(other), "")
    assert store.answered(DEFAULT_PROJECT) == []
    with store.reading() as connection:
        first = connection.execute(text("SELECT id FROM vote ORDER BY created")).scalars().first()
    store.retract(str(first))
    assert state(store, task)[0] == "done"


def test_more_may_be_asked_of_tasks_that_are_there(store: Store) -> None:
    prompt = Prompt.user("question")
    group = store.add_completions([(prompt, Completion(t), {}, True) for t in ("one", "other")])
    (task,) = store.create_tasks("pairwise", [group], need=2).ids
    assert task is not None
    votes(store, [group[0], group[1]])
    assert state(store, task) == ("done", 2)
    store.create_tasks("pairwise", [group], need=2, policy={"most": 4})
    assert state(store, task) == ("open", 4)
