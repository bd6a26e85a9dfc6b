"""Two models compared blind: what is asked, what is counted, and what labelers get to see, on both engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.disputes import adjudicate
from concordant.feedback.asking.project_settings import configure
from concordant.feedback.asking.questions import ask_more
from concordant.feedback.database import schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.projects import project_of
from concordant.feedback.reading.versus import Asked, Pair, Side, ask_versus, result
from concordant.feedback.store import Store
from concordant.feedback.votes import Payload, Vote, both_bad, edit, prefer, tie

SIDES = (Side("sft", "one"), Side("policy", "two"))


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store.open(address) as opened:
        yield opened


def ask(store: Store, n: int, same: int = 0, sides: tuple[Side, Side] = SIDES, votes: int = 1) -> Asked:
    """`n` prompts to which the two say different things, and `same` to which they say the same."""
    pairs = [Pair(Prompt.user(f"question {i}"), (f"old {i}", f"new {i}"), (True, False)) for i in range(n)]
    pairs += [Pair(Prompt.user(f"easy {i}"), ("yes", "yes")) for i in range(same)]
    return ask_versus(store, sides, pairs, votes=votes)


def say(store: Store, asked: Asked, verdicts: str, labeler: str = "ada") -> list[str]:
    """Answer as many questions: (n)ew is better, (o)ld is, (t)ie, (b)oth bad; the tasks."""
    who = store.add_labeler(labeler, "human")
    leases = store.lease_many(who, len(verdicts), project=asked.project)
    for lease, letter in zip(leases, verdicts, strict=True):
        by_word = {one.text.split()[0]: one.id for one in lease.comparison.completions}
        payload: Payload = {"t": tie(), "b": both_bad()}.get(letter) or prefer(
            by_word["new" if letter == "n" else "old"]
        )
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, payload))
    return [lease.comparison.task_id for lease in leases]


def test_who_wins_with_ties_as_half_and_prompts_as_observations(store: Store) -> None:
    asked = ask(store, 10, same=2)
    assert (asked.name, asked.added, asked.repeated, asked.alike) == ("sft or policy", 10, 0, 2)
    say(store, asked, "nnnnnnotbn")
    found = result(store, asked.project)
    assert (found.first, found.second) == ("sft", "policy")
    assert (found.second_better, found.first_better, found.ties, found.neither) == (7, 1, 1, 1)
    assert (found.alike, found.unanswered) == (2, 0)
    assert found.rate.value == pytest.approx((7 + 4 * 0.5) / 12)
    assert found.rate.n == 12
    assert (found.rate.low, found.rate.high) == (
        pytest.approx(0.4677, abs=1e-3),
        pytest.approx(0.9111, abs=1e-3),
    )
    assert found.sure is None


def test_many_votes_on_one_prompt_are_one_observation(store: Store) -> None:
    asked = ask(store, 3, votes=8)
    for number in range(8):
        say(store, asked, "nnn", f"labeler {number}")
    found = result(store, asked.project)
    assert (found.second_better, found.rate.n, found.rate.value) == (24, 3, 1.0)
    assert found.rate.low < 0.5, "24 votes, and still three prompts"
    assert found.sure is None


def test_who_surely_wins_is_said(store: Store) -> None:
    asked = ask(store, 20)
    assert result(store, asked.project).sure is None
    say(store, asked, "o" * 20)
    assert result(store, asked.project).sure == "sft"


def test_same_answers_count_as_far_as_the_others_are_answered(store: Store) -> None:
    asked = ask(store, 10, same=20)
    assert result(store, asked.project).rate.n == 0
    say(store, asked, "nnn")
    found = result(store, asked.project)
    assert (found.rate.n, found.unanswered) == (9, 7)
    only = ask(store, 0, same=3, sides=(Side("base", "x"), SIDES[1]))
    assert result(store, only.project).rate.value == 0.5


def test_asked_again_nothing_is_added_and_another_model_is_another_project(store: Store) -> None:
    first, again = ask(store, 4, same=1), ask(store, 6, same=2)
    assert (again.project, again.added, again.repeated) == (first.project, 2, 4)
    assert result(store, again.project).alike == 2
    configure(store, first.project, {"instructions": "Be kind."})
    other = ask(store, 4, sides=(SIDES[0], Side("policy", "three")))
    assert (other.name, other.added) == ("sft or policy (2)", 4)
    assert ask(store, 6).project == first.project, "settings of a lead leave it what it is"
    with pytest.raises(UserError, match="no two models"):
        result(store, DEFAULT_PROJECT)


def test_what_a_lead_decides_counts_in_place_of_the_votes(store: Store) -> None:
    asked = ask(store, 1, votes=2)
    configure(store, asked.project, {"most_votes": 2, "votes": 2})
    (task,) = say(store, asked, "n")
    say(store, asked, "o", "bob")
    assert project_of(store, asked.project).disputed == 1
    with store.reading() as connection:
        texts = {row.text.split()[0]: row.id for row in connection.execute(select(schema.completion))}
    adjudicate(store, task, store.add_labeler("lead", "human"), prefer(texts["old"]), "")
    found = result(store, asked.project)
    assert (found.first_better, found.second_better, found.rate.value) == (1, 0, 0.0)


def test_it_never_trains_and_labelers_see_no_producer(store: Store) -> None:
    nothing = digest(store)
    asked = ask(store, 5)
    say(store, asked, "nnn")
    assert digest(store) == nothing
    lease = store.lease(store.add_labeler("bob", "human"), project=asked.project)
    assert lease is not None
    assert "sft" not in repr(lease)
    assert "policy" not in repr(lease)


def test_what_else_is_asked_in_the_project_counts_for_nothing(store: Store) -> None:
    asked = ask(store, 2)
    say(store, asked, "nn")
    mine = store.add_completions([(Prompt.user("mine"), Completion(text), {}, None) for text in "ab"])
    store.create_tasks("pairwise", [mine], project=asked.project)
    assert ask_more(store, "edit", 2, project=asked.project) == 2
    who = store.add_labeler("ben", "human")
    for lease in store.lease_many(who, 3, project=asked.project):
        first = lease.comparison.completions[0].id
        said = edit(first, "better") if lease.comparison.kind == "edit" else prefer(first)
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, said))
    found = result(store, asked.project)
    assert (found.second_better, found.first_better, found.rate.n, found.unanswered) == (2, 0, 2, 0)
