"""The store: votes are kept for ever, counted once, blind, and in the order that was shown."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from clocks import Clock
from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.leasing import LEASE_MS
from concordant.feedback.database import engine
from concordant.feedback.database.schema import labeler_fit, vote
from concordant.feedback.store import Store
from concordant.feedback.votes import Submission, Vote, both_bad, prefer, ranking, skip
from telling import tells

PRODUCER = {"policy": "sft", "seed": 0}


def fill(store: Store, n: int, k: int = 2, kind: str = "pairwise", need: int = 1) -> list[str]:
    """`n` tasks of `k` completions each; return their ids."""
    prompts = [Prompt.user(f"question {i}") for i in range(n)]
    sampled = [
        (p, Completion(f"answer {j}", tokens=(j, 7)), PRODUCER, True) for p in prompts for j in range(k)
    ]
    ids = store.add_completions(sampled)
    created = store.create_tasks(kind, [ids[i : i + k] for i in range(0, n * k, k)], need=need)
    return [task for task in created.ids if task is not None]


def answer(store: Store, labeler: str) -> str:
    """Prefer what was shown first in the next task; return the id of the vote."""
    lease = store.lease(labeler)
    assert lease is not None
    vote = Vote(lease.comparison.task_id, prefer(lease.comparison.completions[0].id))
    return store.submit(lease.token, f"key of {lease.token}", vote).vote_id


def state(store: Store, task: str) -> tuple[int, str]:
    with store.reading() as connection:
        row = connection.execute(text("SELECT n_done, state FROM task WHERE id = :id"), {"id": task}).one()
    return row.n_done, row.state


def test_settings_of_every_connection(tmp_path: Path) -> None:
    with Store.open(tmp_path / "feedback.sqlite") as store, store.reading() as connection:
        asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked]
    assert found == ["wal", 1, 1, 5000]


def test_a_reader_sees_one_moment(store: Store) -> None:
    count = text("SELECT count(*) FROM task")
    with store.reading() as connection:
        before = connection.scalar(count)
        fill(store, 3)
        assert connection.scalar(count) == before
    with store.reading() as connection:
        assert connection.scalar(count) == 3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE vote SET payload = '{}'",
        "DELETE FROM vote",
        "INSERT OR REPLACE INTO vote SELECT * FROM vote",
        "TRUNCATE vote CASCADE",
        "UPDATE audit SET verb = 'nothing'",
        "DELETE FROM audit",
    ],
)
def test_votes_and_audit_refuse_change(store: Store, statement: str) -> None:
    fill(store, 1)
    answer(store, store.add_labeler("ada", "human"))
    with store.reading() as connection:
        own = {"INSERT OR": "sqlite", "TRUNCATE ": "postgresql"}.get(statement[:9], connection.dialect.name)
        if connection.dialect.name != own:
            pytest.skip(f"{own} alone knows this statement")
    with pytest.raises(DatabaseError, match="kept for ever"), store.writing() as connection:
        connection.exec_driver_sql(statement)
    assert store.counts()["votes"] == 1


def test_fits_of_labelers_stand_beside_each_other_and_are_kept(store: Store) -> None:
    ada = store.add_labeler("ada", "human")
    row = {"labeler": ada, "n": 10, "created": 0}
    with store.writing() as connection:
        for fit, reliability in (("first", 0.9), ("second", 0.8)):
            connection.execute(labeler_fit.insert(), row | {"fit": fit, "reliability": reliability})
    for statement in ("UPDATE labeler_fit SET n = 0", "DELETE FROM labeler_fit"):
        with pytest.raises(DatabaseError, match="kept for ever"), store.writing() as connection:
            connection.exec_driver_sql(statement)
    with pytest.raises(IntegrityError, match=r"UNIQUE|unique"), store.writing() as connection:
        connection.execute(labeler_fit.insert(), row | {"fit": "first", "reliability": 0.1})


def test_votes_for_nothing_are_refused(store: Store) -> None:
    with pytest.raises(IntegrityError, match=r"FOREIGN KEY|foreign key"), store.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO task_completion (task, completion, position) VALUES ('no', 'no', 0)"
        )


def test_retraction_is_a_newer_vote_and_opens_the_task(store: Store) -> None:
    (task,) = fill(store, 1)
    ada = store.add_labeler("ada", "human")
    first = answer(store, ada)
    assert state(store, task) == (1, "done")
    assert store.lease(ada) is None
    taken_back = store.retract(first)
    assert state(store, task) == (0, "open")
    assert store.counts()["votes"] == 2
    assert store.counts()["live_votes"] == 0
    assert store.retract(first) == taken_back, "asked for twice, done once"
    assert store.counts()["votes"] == 2
    with pytest.raises(UserError, match="no live vote"):
        store.retract(first, labeler=store.add_labeler("bob", "human"))
    answer(store, ada)  # ada may answer again, and the chain stays one
    assert state(store, task) == (1, "done")
    assert (store.counts()["votes"], store.counts()["live_votes"]) == (3, 1)


def test_order_is_stable_recorded_and_balanced(store: Store) -> None:
    tasks = fill(store, 600)
    ada, bob = store.add_labeler("ada", "human"), store.add_labeler("bob", "human")
    leases = store.lease_many(ada, 300)
    again = store.lease_many(ada, 300)
    orders = {one.comparison.task_id: [c.id for c in one.comparison.completions] for one in leases}
    assert orders == {one.comparison.task_id: [c.id for c in one.comparison.completions] for one in again}
    store.submit_many(
        [
            Submission(
                one.token, one.token, Vote(one.comparison.task_id, prefer(orders[one.comparison.task_id][0]))
            )
            for one in leases
        ]
    )
    with store.reading() as connection:
        recorded = connection.execute(select(vote.c.task, vote.c.shown)).all()
    assert {row.task: row.shown for row in recorded} == orders
    both = leases + store.lease_many(bob, 300)
    assert len({one.comparison.task_id for one in both}) == len(tasks)
    first = Counter(one.comparison.completions[0].text for one in both)
    assert abs(first["answer 0"] - 300) < 3 * (600 * 0.25) ** 0.5


def test_two_labelers_get_different_orders(store: Store) -> None:
    fill(store, 60, k=3, kind="ranking", need=2)
    seen = []
    for name in ("ada", "bob"):
        leases = store.lease_many(store.add_labeler(name, "human"), 60)
        seen.append({one.comparison.task_id: [c.text for c in one.comparison.completions] for one in leases})
    same = sum(seen[0][task] == seen[1][task] for task in seen[0])
    assert 1 <= same <= 25  # one in six by chance


def test_need_is_respected_and_nobody_gets_a_task_twice(store: Store) -> None:
    tasks = fill(store, 7, need=3)
    names = [store.add_labeler(f"labeler {i}", "human") for i in range(5)]
    seen: dict[str, list[str]] = {name: [] for name in names}
    busy = True
    while busy:
        busy = False
        for name in names:
            if (lease := store.lease(name)) is not None:
                busy = True
                seen[name].append(lease.comparison.task_id)
                answer(store, name)
    assert all(len(set(given)) == len(given) for given in seen.values())
    assert Counter(task for given in seen.values() for task in given) == dict.fromkeys(tasks, 3)
    assert all(state(store, task) == (3, "done") for task in tasks)


def test_live_leases_count_against_need_and_expired_ones_do_not(store: Store, clock: Clock) -> None:
    (task,) = fill(store, 1)
    ada, bob = store.add_labeler("ada", "human"), store.add_labeler("bob", "human")
    late = store.lease(ada)
    assert late is not None
    assert store.lease(bob) is None
    clock.now += LEASE_MS
    answer(store, bob)
    winner = late.comparison.completions[0].id
    receipt = store.submit(late.token, "late", Vote(task, prefer(winner)))
    assert receipt.extra  # the work of a labeler who was slow is kept all the same
    assert state(store, task) == (2, "done")


def test_an_expired_lease_keeps_its_token(store: Store, clock: Clock) -> None:
    fill(store, 1)
    ada = store.add_labeler("ada", "human")
    before = store.lease(ada)
    clock.now += 2 * LEASE_MS
    after = store.lease(ada)
    assert before is not None
    assert after is not None
    assert (after.token, after.comparison) == (before.token, before.comparison)
    assert after.expires > before.expires


def test_a_released_task_goes_to_the_next(store: Store) -> None:
    fill(store, 1)
    ada, bob = store.add_labeler("ada", "human"), store.add_labeler("bob", "human")
    store.release(store.lease_many(ada, 1))
    assert store.lease(bob) is not None


def test_a_key_handed_in_twice_counts_once(store: Store) -> None:
    (task,) = fill(store, 1, need=2)
    ada = store.add_labeler("ada", "human")
    lease = store.lease(ada)
    assert lease is not None
    vote = Vote(task, prefer(lease.comparison.completions[0].id))
    twice = store.submit_many([Submission(lease.token, "k", vote)] * 2)
    third = store.submit(lease.token, "k", vote)
    assert twice[0] == twice[1]
    assert third.repeated
    assert third.vote_id == twice[0].vote_id
    assert store.counts()["votes"] == 1
    with pytest.raises(UserError, match="without a lease"):
        store.submit(lease.token, "another key", vote)


def test_a_skip_leaves_the_task_to_others(store: Store) -> None:
    (task,) = fill(store, 1)
    ada, bob = store.add_labeler("ada", "human"), store.add_labeler("bob", "human")
    lease = store.lease(ada)
    assert lease is not None
    store.submit(lease.token, "k", Vote(task, skip("not my field")))
    assert store.lease(ada) is None
    assert state(store, task) == (0, "open")
    answer(store, bob)
    assert state(store, task) == (1, "done")


def test_nobody_judges_a_completion_of_their_own(store: Store) -> None:
    ada, bob = store.add_labeler("ada", "human"), store.add_labeler("bob", "human")
    prompt = Prompt.user("q")
    own = store.add_completions([(prompt, Completion("mine"), {}, True)], source="human", author=ada)
    other = store.add_completions([(prompt, Completion("theirs"), PRODUCER, True)])
    store.create_tasks("pairwise", [own + other])
    assert store.lease(ada) is None
    assert store.lease(bob) is not None


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (ranking([["a"], ["b"]]), "type 'ranking'"),
        (prefer("somebody else"), "winner"),
        (prefer("x") | {"winner": None}, "winner"),
        (both_bad() | {"verdict": "left"}, "verdict 'left'"),
        (both_bad() | {"strength": 4}, "strength 4"),
        (both_bad() | {"left": 1}, "unknown key 'left'"),
    ],
)
def test_payloads_that_do_not_answer_the_task(
    store: Store, payload: dict[str, object], complaint: str
) -> None:
    (task,) = fill(store, 1)
    lease = store.lease(store.add_labeler("ada", "human"))
    assert lease is not None
    with pytest.raises(UserError, match=complaint) as caught:
        store.submit(lease.token, "k", Vote(task, payload))
    assert task in caught.value.where
    assert store.counts()["votes"] == 0


def test_a_ranking_must_hold_each_completion_once(store: Store) -> None:
    (task,) = fill(store, 1, k=3, kind="ranking")
    lease = store.lease(store.add_labeler("ada", "human"))
    assert lease is not None
    a, b, c = (one.id for one in lease.comparison.completions)
    for tiers in ([[a], [b]], [[a], [b], [c], [a]], [[a, b, "d"]]):
        with pytest.raises(UserError, match="not of the completions shown"):
            store.submit(lease.token, "k", Vote(task, ranking(tiers)))
    store.submit(lease.token, "k", Vote(task, ranking([[a, b], [c]], unacceptable=[c])))
    assert state(store, task) == (1, "done")


def test_writing_again_adds_nothing(store: Store) -> None:
    first = fill(store, 5, k=3, kind="ranking")
    before = store.counts()
    assert fill(store, 5, k=3, kind="ranking") == first
    assert store.counts() == before


def test_completions_differ_by_producer_and_tokens(store: Store) -> None:
    prompt = Prompt.user("q")
    rows = [
        (prompt, Completion("yes", tokens=(1,)), PRODUCER, True),
        (prompt, Completion("yes", tokens=(2,)), PRODUCER, True),
        (prompt, Completion("yes", tokens=(1,)), PRODUCER | {"seed": 1}, True),
        (prompt, Completion("yes", tokens=(1,)), PRODUCER, True),
    ]
    ids = store.add_completions(rows)
    assert len(set(ids)) == 3
    assert ids[0] == ids[3]


def test_equal_texts_are_shown_once_and_counted(store: Store) -> None:
    prompt, other = Prompt.user("q"), Prompt.user("p")
    texts = ["a", "b", "a", "c"]
    ids = store.add_completions([(prompt, Completion(t, (i,)), PRODUCER, True) for i, t in enumerate(texts)])
    created = store.create_tasks("ranking", [ids, [ids[0], ids[2]]])
    assert (created.added, created.alike, created.too_few) == (1, 2, 1)
    assert created.ids[1] is None
    lease = store.lease(store.add_labeler("ada", "human"))
    assert lease is not None
    assert sorted(c.text for c in lease.comparison.completions) == ["a", "b", "c"]
    stranger = store.add_completions([(other, Completion("z"), PRODUCER, True)])
    for groups, complaint in (
        ([[ids[0], stranger[0]]], "2 prompts"),
        ([[ids[0], "missing"]], "no completion has the id missing"),
        ([ids], "a pairwise task of 3"),
    ):
        with pytest.raises(UserError, match=complaint):
            store.create_tasks("pairwise", groups)


def test_asking_for_more_labelers_opens_a_task(store: Store) -> None:
    (task,) = fill(store, 1)
    answer(store, store.add_labeler("ada", "human"))
    assert fill(store, 1, need=2) == [task]
    assert state(store, task) == (1, "open")
    assert [(one.missing, len(one.answered_by)) for one in store.unfinished()] == [(1, 1)]


def test_urgent_tasks_come_first(store: Store) -> None:
    fill(store, 20)
    prompt = Prompt.user("urgent")
    ids = store.add_completions([(prompt, Completion(t), PRODUCER, True) for t in "ab"])
    created = store.create_tasks("pairwise", [ids], priority=1)
    lease = store.lease(store.add_labeler("ada", "human"))
    assert lease is not None
    assert lease.comparison.task_id == created.ids[0]


def test_an_open_store_survives_being_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "feedback.sqlite"
    with Store.open(path) as store:
        fill(store, 2)
    with Store.open(f"sqlite:///{path}") as store:
        assert store.counts()["tasks_open"] == 2
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(UserError, match="layout 0099"):
        Store.open(path)


def test_places_that_cannot_hold_a_store(tmp_path: Path) -> None:
    (tmp_path / "notes.sqlite").write_text("this is not a database, it is a text of some length " * 9)
    for address, complaint in (
        ("sqlite://", "cannot live here"),
        ("mysql://user:secret@host/db", "cannot live here"),
        ("postgresql://user:secret@/", "names no database"),
        ("postgresql://user:secret@/db?host=/nowhere", "No such file"),
        (tmp_path / "nowhere" / "feedback.sqlite", "unable to open"),
        (tmp_path / "notes.sqlite", "not a database"),
    ):
        with pytest.raises(UserError, match=complaint) as caught:
            Store.open(address)
        assert "secret" not in str(caught.value)


def test_many_writers_at_once(store: Store) -> None:
    """Eight threads, 20 tasks of three votes each: no lock errors, none over-assigned, all counted."""
    tasks = fill(store, 20, need=3)
    labelers = [store.add_labeler(f"labeler {i}", "human") for i in range(8)]
    failures: list[BaseException] = []

    def work(labeler: str) -> None:
        try:
            while (lease := store.lease(labeler)) is not None:
                vote = Vote(lease.comparison.task_id, prefer(lease.comparison.completions[0].id))
                store.submit(lease.token, lease.token, vote)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(labeler,)) for labeler in labelers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.counts()["votes"] == 60
    assert all(state(store, task) == (3, "done") for task in tasks)


def test_an_address_that_is_none() -> None:
    for address in ("postgresql:/host/x://", "postgresql://u@host:port/db", "postgresql://u@[::1/db"):
        with tells(
            "not a database address", where=address, expected="postgresql+psycopg://", fix="file name"
        ):
            Store.open(address)


@pytest.mark.parametrize("address", ["postgresql://u:se@cr:et@host:port/db", "postgresql://u:secret@[::1/db"])
def test_a_message_about_an_address_keeps_its_password(address: str) -> None:
    with pytest.raises(UserError, match="not a database address") as caught:
        Store.open(address)
    assert caught.value.where == f"postgresql://u:***@{address.rpartition('@')[2]}"


def test_sqlite_is_spoken_to_by_the_driver_that_is_here(tmp_path: Path) -> None:
    with Store.open(f"sqlite+another:///{tmp_path}/feedback.sqlite") as store:
        assert store.counts()["votes"] == 0


def test_postgresql_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with tells("the driver for PostgreSQL", where="host/db", expected="psycopg", fix="concordant[postgres]"):
        Store.open("postgresql://user:secret@host/db")


def test_a_file_system_without_shared_memory(tmp_path: Path) -> None:
    """SQLite then keeps another journal mode than it was asked for."""
    path = str(tmp_path / "feedback.sqlite")
    with (
        closing(sqlite3.connect(f"file:{path}?vfs=unix-dotfile", uri=True)) as connection,
        tells("this file system cannot hold", where=path, expected="mode 'delete'", fix="local disk"),
    ):
        engine._settings(connection, None)


@pytest.mark.parametrize(("said", "expected", "fix"), engine.FAILURES)
def test_what_a_database_says_is_told_with_what_to_do(
    tmp_path: Path, said: str, expected: str, fix: str
) -> None:
    path = str(tmp_path / "feedback.sqlite")
    with (
        tells(f"the feedback store: FATAL: {said}", where=path, expected=expected, fix=fix),
        engine.database_errors(engine.connect(path)),
    ):
        raise OperationalError("SELECT 1", {}, Exception(f"FATAL: {said}\nand more"))


def test_other_errors_of_a_database_are_defects_and_pass(tmp_path: Path) -> None:
    with pytest.raises(OperationalError), engine.database_errors(engine.connect(tmp_path / "x.sqlite")):
        raise OperationalError("SELECT 1", {}, Exception("no such column"))


def test_what_the_store_does_not_know_is_said(store: Store) -> None:
    with tells("a project for 'fun'", where="'mine'", expected="training, evaluation", fix="one of these"):
        store.add_project("mine", "fun")
    with tells("labeler kind 'cat'", where="'tom'", expected="human, simulated", fix="one of these"):
        store.add_labeler("tom", "cat")
    with tells("no labeler has the id 'x'", where="labelers", expected="add_labeler", fix="register it"):
        store.lease_many("x", 1)
    with tells("no task has the id x", where="tasks", expected="lease", fix="ask for a lease"):
        store.project_of_task("x")
    with tells("no vote has the id x", where="votes", expected="receipt", fix="id that came back"):
        store.task_of("x")
    with tells("no live vote has the id x", where="votes", expected="not superseded", fix="load the page"):
        store.retract("x")
