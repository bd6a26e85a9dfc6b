"""Questions with a known answer among the others, and what a lead sets for a project, on both engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.asking.known import (
    add_known,
    asked_for,
    below_others,
    beside,
    gold_scores,
    known_answers,
    make_known,
    next_leases,
    origins,
    withdraw,
)
from concordant.feedback.asking.project_settings import config_of, configure
from concordant.feedback.asking.rubric import DEFAULT_RUBRIC
from concordant.feedback.database import schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.agreement import rate
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.projects import done_by, project_of, projects
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Lease, Vote, prefer, ranking, skip, tie


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store.open(address) as opened:
        yield opened


def ask(store: Store, n: int, need: int = 1, k: int = 2, **more: object) -> list[str]:
    """`n` questions with `k` answers; their tasks."""
    prompts = [Prompt.user(f"question {i}") for i in range(n)]
    rows = [(p, Completion(f"answer {j}"), {}, True) for p in prompts for j in range(k)]
    ids = store.add_completions(rows)
    kind = "pairwise" if k == 2 else "ranking"
    made = store.create_tasks(kind, [ids[i : i + k] for i in range(0, n * k, k)], need=need, **more)  # type: ignore[arg-type]
    return [key for key in made.ids if key]


def know(store: Store, n: int) -> list[str]:
    """`n` questions with a known answer: the better one says so."""
    made = []
    for i in range(n):
        prompt = Prompt.user(f"known {i}")
        group = store.add_completions([(prompt, Completion(t), {}, True) for t in ("right", "wrong")])
        made.append(add_known(store, DEFAULT_PROJECT, group, group[0], "so it is", rubric=DEFAULT_RUBRIC))
    return made


def answer(store: Store, lease: Lease, want: str = "right") -> None:
    by_text = {one.text: one.id for one in lease.comparison.completions}
    winner = by_text.get(want, lease.comparison.completions[0].id)
    store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(winner)))


def is_known(lease: Lease) -> bool:
    return lease.comparison.prompt.text.startswith("known")


def work(
    store: Store, labeler: str, n: int, every: int = 5, ahead: int = 4, want: str = "right"
) -> list[bool]:
    """Answer `n` questions, fetched `ahead` of being shown, as the page does; which of them were known."""
    queue: list[Lease] = []
    said = []
    while len(said) < n:
        if len(queue) < ahead / 2 or not queue:
            there = {one.comparison.task_id for one in queue}
            found = next_leases(store, labeler, ahead, DEFAULT_PROJECT, every)
            queue += [one for one in found if one.comparison.task_id not in there]
        if not queue:
            break
        said.append(is_known(queue[0]))
        answer(store, queue.pop(0), want)
    return said


def test_one_of_so_many_is_known_at_places_that_differ(store: Store) -> None:
    ask(store, 200)
    known = know(store, 30)
    orders = {}
    for name in ("ada", "bob"):
        labeler = store.add_labeler(name, "human")
        said = work(store, labeler, 60)
        orders[name] = [at for at, one in enumerate(said) if one]
        assert 10 <= sum(said) <= 14, "one in five, however the page fetches ahead"
        with store.reading() as connection:
            voted = list(
                connection.scalars(select(schema.vote.c.task).where(schema.vote.c.labeler == labeler))
            )
        assert len(voted) == len(set(voted)) == 60
        assert done_by(store, DEFAULT_PROJECT, labeler) == (60, sum(said))
    assert orders["ada"] != orders["bob"]
    assert len({at % 5 for at in orders["ada"]}) > 1, "not every fifth"
    assert len(known_answers(store, DEFAULT_PROJECT)) == len(known)


def test_everybody_meets_each_once_and_nothing_else_changes(store: Store) -> None:
    ask(store, 100)
    know(store, 3)
    before = digest(store)
    people = [store.add_labeler(name, "human") for name in ("ada", "bob", "eve")]
    for labeler in people:
        assert sum(work(store, labeler, 25)) == 3
    (project,) = projects(store)[:1]
    assert (project.id, project.tasks, project.finished) == (DEFAULT_PROJECT, 100, 66)
    assert len(preferences(store)) == 66
    assert digest(store) != before
    assert store.counts()["tasks"] == 100
    scores = gold_scores(store, DEFAULT_PROJECT)
    assert {(one.n, one.value) for one in scores.values()} == {(3, 1.0)}
    assert scores.keys() == set(people)


def test_leases_come_again_as_they_are_and_a_lone_question_is_known(store: Store) -> None:
    ask(store, 20)
    (task,) = know(store, 1)
    ada = store.add_labeler("ada", "human")
    first = next_leases(store, ada, 10, DEFAULT_PROJECT, 2)
    again = next_leases(store, ada, 10, DEFAULT_PROJECT, 2)
    assert {one.token for one in first} == {one.token for one in again}
    assert [is_known(one) for one in first].count(True) == 1
    (lease,) = [one for one in first if is_known(one)]
    store.submit(lease.token, "skipped", Vote(task, skip("no idea")))
    assert not any(map(is_known, next_leases(store, ada, 10, DEFAULT_PROJECT, 2))), "a skip is behind it too"
    assert gold_scores(store, DEFAULT_PROJECT) == {}
    assert not any(
        map(is_known, next_leases(store, store.add_labeler("bob", "human"), 10, DEFAULT_PROJECT, 0))
    )


def test_an_answered_question_becomes_known_and_is_decided(store: Store) -> None:
    task, other = ask(store, 2, need=3)
    ada, bob, lead = (store.add_labeler(name, "human") for name in ("ada", "bob", "lead"))
    leases = store.lease_many(ada, 2)
    for lease in leases:
        answer(store, lease, "answer 0")
    by_text = {one.text: one.id for one in leases[0].comparison.completions}
    asked = leases[0].comparison.task_id
    with pytest.raises(UserError, match="no single answer"):
        make_known(store, asked, lead, tie(), "")
    known = make_known(store, asked, lead, prefer(by_text["answer 1"]), "it says more")
    assert asked_for(store, store.project_of_task(known)) == DEFAULT_PROJECT
    assert origins(store, DEFAULT_PROJECT) == {asked}
    assert [one.chosen.text for one in preferences(store)].count("answer 1") == 1, "learnt from once"
    assert [one.task_id for one in store.unfinished()] == [key for key in (task, other) if key != asked]
    assert not any(
        one.comparison.task_id == known for one in next_leases(store, ada, 5, DEFAULT_PROJECT, 1)
    ), "ada has answered it before"
    (lease,) = [
        one for one in next_leases(store, bob, 5, DEFAULT_PROJECT, 1) if one.comparison.task_id == known
    ]
    answer(store, lease, "answer 0")
    (one,) = known_answers(store, DEFAULT_PROJECT)
    assert (one.better, one.why, one.right) == (by_text["answer 1"], "it says more", (0.0,))
    assert one.rate.n == 1
    with pytest.raises(UserError, match="cannot be one"):
        make_known(store, known, lead, prefer(by_text["answer 1"]), "")
    withdraw(store, known, lead)
    assert known_answers(store, DEFAULT_PROJECT) == []
    assert gold_scores(store, DEFAULT_PROJECT) == {}
    with store.reading() as connection:
        verbs = list(connection.scalars(select(schema.audit.c.verb).where(schema.audit.c.labeler == lead)))
    assert verbs == ["adjudicate", "make", "withdraw"]


def test_who_holds_a_question_that_becomes_known_is_not_asked_it_again(store: Store) -> None:
    ask(store, 1, need=3)
    ada, bob, lead = (store.add_labeler(name, "human") for name in ("ada", "bob", "lead"))
    (held,) = store.lease_many(bob, 1)
    (lease,) = store.lease_many(ada, 1)
    answer(store, lease, "answer 0")
    make_known(store, held.comparison.task_id, lead, prefer(held.comparison.completions[0].id), "")
    asked = [one.comparison.task_id for one in next_leases(store, bob, 5, DEFAULT_PROJECT, 1)]
    assert asked == [held.comparison.task_id]
    answer(store, held)
    assert next_leases(store, bob, 5, DEFAULT_PROJECT, 1) == []


def test_a_ranking_with_one_best_answer_can_be_known(store: Store) -> None:
    (task,) = ask(store, 1, k=3)
    ada, lead = store.add_labeler("ada", "human"), store.add_labeler("lead", "human")
    with pytest.raises(UserError, match="cannot be one"):
        make_known(store, task, lead, prefer("x"), "")
    lease = store.lease(ada)
    assert lease is not None
    a, b, c = (one.id for one in lease.comparison.completions)
    store.submit(lease.token, "k", Vote(task, ranking([[a], [b], [c]])))
    make_known(store, task, lead, ranking([[b], [a, c]]), "")
    bob = store.add_labeler("bob", "human")
    (lease,) = next_leases(store, bob, 1, DEFAULT_PROJECT, 1)
    store.submit(lease.token, "l", Vote(lease.comparison.task_id, ranking([[a], [b], [c]])))
    assert gold_scores(store, DEFAULT_PROJECT)[bob].value == 0.5


def test_a_known_answer_said_anew_holds_from_then_on(store: Store) -> None:
    prompt = Prompt.user("known")
    group = store.add_completions([(prompt, Completion(t), {}, True) for t in ("right", "wrong")])
    first = add_known(store, DEFAULT_PROJECT, group, group[1], "a mistake", rubric=DEFAULT_RUBRIC)
    withdraw(store, first)
    assert add_known(store, DEFAULT_PROJECT, group, group[0], "so it is", rubric=DEFAULT_RUBRIC) == first
    (one,) = known_answers(store, DEFAULT_PROJECT)
    assert (one.better, one.why) == (group[0], "so it is")
    for better, members, said in (("x", group, "not among"), (group[0], group[:1], "same text")):
        with pytest.raises(UserError, match=said):
            add_known(store, DEFAULT_PROJECT, members, better, "", rubric=DEFAULT_RUBRIC)
    with pytest.raises(UserError, match="no question with a known answer"):
        withdraw(store, "nothing")


def test_who_is_below_the_others_is_not_said_of_few_answers_or_hard_questions() -> None:
    good, few, bad = rate([1.0] * 45 + [0.0] * 5), rate([0.0]), rate([0.0] * 15 + [1.0] * 5)
    assert set(below_others({"a": good, "b": few, "c": bad})) == {"c"}
    assert set(below_others({"a": bad, "b": bad})) == set(), "hard for everybody"
    assert set(below_others({"a": bad})) == set()


def test_settings_are_kept_with_who_changed_what(store: Store) -> None:
    lead = store.add_labeler("lead", "human")
    ask(store, 4, need=1)
    labeler = store.add_labeler("ada", "human")
    for lease in store.lease_many(labeler, 2):
        answer(store, lease)
    assert configure(store, DEFAULT_PROJECT, {"instructions": "Be *kind*.", "known_every": 7}, lead)
    assert not configure(store, DEFAULT_PROJECT, {"known_every": 7}, lead), "nothing new"
    assert project_of(store, DEFAULT_PROJECT).finished == 2
    assert configure(store, DEFAULT_PROJECT, {"votes": 2, "most_votes": 5}, lead)
    assert project_of(store, DEFAULT_PROJECT).finished == 0, "answered ones open again"
    assert configure(store, DEFAULT_PROJECT, {"votes": 1}, lead)
    assert project_of(store, DEFAULT_PROJECT).finished == 2
    config = config_of(project_of(store, DEFAULT_PROJECT).settings)
    assert (config.instructions, config.votes, config.most_votes, config.known_every) == (
        "Be *kind*.",
        1,
        5,
        7,
    )
    with store.reading() as connection:
        rows = connection.execute(select(schema.audit).where(schema.audit.c.verb == "configure")).all()
    assert [row.labeler for row in rows] == [lead] * 3
    assert rows[1].detail["to"] == {"votes": 2, "most_votes": 5}
    assert rows[1].detail["from"] == {"votes": None, "most_votes": None}
    for wrong in (
        {"votes": 0},
        {"known_every": -1},
        {"instructions": "x" * 20_001},
        {"votes": 6},
        {"nonsense": 1},
    ):
        with pytest.raises(UserError):
            configure(store, DEFAULT_PROJECT, wrong)
    with pytest.raises(UserError, match="no such project"):
        configure(store, beside(DEFAULT_PROJECT), {"votes": 1})


def test_more_votes_put_a_disagreement_to_work_again(store: Store) -> None:
    (task,) = ask(store, 1, need=2)
    configure(store, DEFAULT_PROJECT, {"most_votes": 2})
    for name, want in (("ada", "answer 0"), ("bob", "answer 1")):
        lease = store.lease(store.add_labeler(name, "human"))
        assert lease is not None
        answer(store, lease, want)
    assert project_of(store, DEFAULT_PROJECT).disputed == 1
    configure(store, DEFAULT_PROJECT, {"most_votes": 4, "votes": 2})
    assert [one.missing for one in store.unfinished()] == [2]
    assert store.unfinished()[0].task_id == task
