"""Prepared statements: the same rows on both engines, lists of any length, errors and connections as elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from sqlalchemy import delete, insert, select, text
from sqlalchemy.exc import IntegrityError
from test_store import answer, fill

from concordant.feedback.answering import leasing
from concordant.feedback.database.prepared import Prepared, one_of, together
from concordant.feedback.database.schema import judge_cache
from concordant.feedback.store import Store
from servers import Postgres

KEEP = Prepared(insert(judge_cache))
ALL = Prepared(select(judge_cache).order_by(judge_cache.c.key))
SOME = Prepared(select(judge_cache.c.key).where(one_of(judge_cache.c.key, "keys")))
DROP = Prepared(delete(judge_cache).where(one_of(judge_cache.c.key, "keys")))


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store.open(address) as opened:
        yield opened


def answer_row(key: str) -> dict[str, object]:
    return {
        "key": key,
        "request": {"café": ["☕", key]},
        "result": [1, 2.5, None],
        "usage": None,
        "created": 7,
    }


def test_values_go_in_and_come_out_as_the_columns_say(store: Store) -> None:
    with store.writing() as connection:
        *_, rows = together(connection, (KEEP, answer_row("a")), (KEEP, answer_row("b")), (ALL, {}))
        assert [row._asdict() for row in rows] == [answer_row("a"), answer_row("b")]
        assert connection.execute(select(judge_cache.c.result)).scalars().all() == [[1, 2.5, None]] * 2
        nothing = connection.execute(text("SELECT count(*) FROM judge_cache WHERE usage IS NULL"))
        assert nothing.scalar() == 2


def test_rows_are_those_of_the_moment_of_their_statement(store: Store) -> None:
    with store.writing() as connection:
        together(connection, *((KEEP, answer_row(f"{i:03}")) for i in range(300)))
        keys = [f"{i:03}" for i in range(300)]
        before, _, after = together(connection, (ALL, {}), (DROP, {"keys": keys[:299]}), (ALL, {}))
    assert [row.key for row in before] == keys
    assert [row.key for row in after] == ["299"]


def test_a_list_is_one_parameter_however_long_it_is(store: Store) -> None:
    strange = ["'", '"', "\\", "é☕", "{a,b}", "NULL", ""]
    with store.writing() as connection:
        together(connection, *((KEEP, answer_row(key)) for key in strange))
        many = [f"key {i}" for i in range(100_000)]  # SQLite takes 32,766 parameters, PostgreSQL 65,535
        found = SOME.rows(connection, keys=many + strange)
        assert sorted(row.key for row in found) == sorted(strange)
        assert SOME.rows(connection, keys=[]) == []


def test_errors_are_those_of_sqlalchemy_and_nothing_is_kept(store: Store) -> None:
    with pytest.raises(IntegrityError, match=r"UNIQUE|unique"), store.writing() as connection:
        together(connection, (KEEP, answer_row("a")), (KEEP, answer_row("a")))
    with store.writing() as connection:
        assert ALL.rows(connection) == []


def test_a_store_survives_that_its_server_hangs_up(postgres: Postgres) -> None:
    address = postgres.database()
    hang_up = text(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with Store.open(address) as store:
        fill(store, 3)
        ada = store.add_labeler("ada", "human")
        answer(store, ada)
        with Store.open(address) as other, other.reading() as connection:
            assert all(connection.scalars(hang_up).all())
        answer(store, ada)
        assert store.counts()["votes"] == 2


def test_on_postgresql_writers_walk_along_indexes_and_readers_may_scan(postgres: Postgres) -> None:
    with Store.open(postgres.database()) as store:
        ways = {}
        for name, transaction in (("writing", store.writing), ("reading", store.reading)):
            with transaction() as connection:
                ways[name] = connection.scalar(text("SHOW enable_seqscan"))
    assert ways == {"writing": "off", "reading": "on"}


def test_room_is_counted_again_once_a_task_is_locked(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the queue that began before another writer took a task may still find it, free to be locked."""
    with Store.open(postgres.database()) as store:
        fill(store, 2)
        ada, bob = store.add_labeler("ada", "human"), store.add_labeler("bob", "human")
        first = store.lease(ada)
        assert first is not None
        taken = SimpleNamespace(rows=lambda *_, **__: [SimpleNamespace(id=first.comparison.task_id)])
        looks, look = [taken], leasing.free_tasks_locked
        monkeypatch.setattr(
            leasing, "free_tasks_locked", lambda *which: looks.pop() if looks else look(*which)
        )
        second = store.lease(bob)
    assert second is not None
    assert not looks
    assert second.comparison.task_id != first.comparison.task_id
