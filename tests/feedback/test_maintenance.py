"""Stores are kept: upgraded with a backup, copied from one engine to the other, backed up while others write."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text
from test_store import answer, fill

from concordant.errors import UserError
from concordant.feedback.database import layout, schema
from concordant.feedback.database.engine import connect
from concordant.feedback.database.maintenance import backup, bring_up_to_date, copy, digest_of
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from servers import Postgres


def used(address: str | Path) -> str | Path:
    """A store with votes, a vote taken back, a ranking and an audit trail; umlauts and emoji in its texts."""
    with Store.open(address) as store:
        fill(store, 30, need=2)
        ada, bob = (store.add_labeler(name, "human", {"café": "☕ 日本"}) for name in ("ada", "bob"))
        votes = [answer(store, ada) for _ in range(30)] + [answer(store, bob) for _ in range(10)]
        store.retract(votes[3])
        answer(store, ada)
    return address


OLD = [layout.FIRST, "0002"]


def old_layout(address: str | Path, number: str = layout.FIRST) -> None:
    """A store as it was at an earlier layout, with one vote; of the first it does not say which layout it has."""
    engine = connect(address)
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(layout.__file__).parent / "migrations"))
        command.upgrade(config, layout.FIRST)
        for statement in (
            "INSERT INTO project VALUES ('default', 'default', 'default', 1, 0)",
            "INSERT INTO rubric_version VALUES ('r', 's', '{}', 0)",
            "INSERT INTO item VALUES ('i', 'default', '[{\"role\": \"user\", \"content\": \"q\"}]', '', '', '', 0)",
            "INSERT INTO labeler VALUES ('l', 'human', 'ada', '{}', 0)",
            *(
                "INSERT INTO completion (id, item, text, sha256, producer, source, created) "
                f"VALUES ('{key}', 'i', '{key}', '{key}', '{{}}', 'policy', 0)"
                for key in "ab"
            ),
            "INSERT INTO task (id, item, rubric_version, seq, kind, need, n_done, priority, policy, state, "
            "random_key, created) VALUES ('t', 'i', 'r', 1, 'pairwise', 1, 1, 0, '{}', 'done', 7, 0)",
            "INSERT INTO task_completion VALUES ('t', 'a', 0), ('t', 'b', 1)",
            "INSERT INTO vote (id, task, labeler, pass, rubric_version, type, payload, idempotency_key, extra, "
            "created) VALUES ('v', 't', 'l', 0, 'r', 'pairwise', "
            '\'{"type": "pairwise", "verdict": "prefer", "winner": "b"}\', \'k\', false, 0)',
        ):
            connection.exec_driver_sql(statement)
        if number == layout.FIRST:
            connection.execute(text("DROP TABLE alembic_version"))
        else:
            command.upgrade(config, number)
    engine.dispose()


def shape(address: str | Path) -> dict[str, object]:
    """The tables, columns and indexes of a store."""
    engine = connect(address)
    found = inspect(engine)
    shape = {
        name: (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)),
            sorted(str(index["name"]) for index in found.get_indexes(name)),
            sorted(
                (key["constrained_columns"], key["referred_table"]) for key in found.get_foreign_keys(name)
            ),
        )
        for name in found.get_table_names()
    }
    engine.dispose()
    return shape


@pytest.mark.parametrize("number", OLD)
def test_an_old_store_is_refused_and_then_upgraded_with_a_backup(
    address: str, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old_layout(address, number)
    with pytest.raises(UserError, match=f"layout {number}") as caught:
        Store.open(address)
    assert "concordant db upgrade" in caught.value.fix
    kept = bring_up_to_date(address)
    assert kept is not None
    assert kept.is_file()
    with Store.open(address) as store:
        (pair,) = preferences(store)
        assert (pair.chosen.text, pair.rejected.text) == ("b", "a")
        fill(store, 2)
        with pytest.raises(Exception, match="kept for ever"), store.writing() as connection:
            connection.exec_driver_sql("DELETE FROM vote")
    assert bring_up_to_date(address) is None
    old = create_engine(f"sqlite:///{kept}")
    with old.connect() as connection:
        assert connection.exec_driver_sql("SELECT payload FROM vote").scalar() is not None
        assert layout.layout_of(connection) == number
    old.dispose()


def test_an_upgraded_store_is_like_a_new_one(
    address: str, tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    new = str(tmp_path / "new.sqlite") if address.endswith("sqlite") else postgres.database()
    Store.open(new).close()
    old_layout(address)
    bring_up_to_date(address)
    assert shape(address) == shape(new)


def test_copies_arrive_whole_on_the_other_engine_and_back(tmp_path: Path, postgres: Postgres) -> None:
    first = used(tmp_path / "first.sqlite")
    between, last = postgres.database(), tmp_path / "last.sqlite"
    there = copy(first, between)
    back = copy(between, last)
    assert there == back
    assert there.rows["vote"] == 42
    digests = []
    for address in (first, between, last):
        with Store.open(address) as store:
            digests.append(digest(store))
            assert len(preferences(store)) == 40
    assert len(set(digests)) == 1
    with pytest.raises(UserError, match="already"):
        copy(first, last)
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(UserError, match="no feedback store"):
        copy(tmp_path / "empty.sqlite", tmp_path / "new.sqlite")
    with pytest.raises(UserError, match="no feedback store"):
        bring_up_to_date(tmp_path / "empty.sqlite")
    with pytest.raises(UserError, match="no feedback store"):
        copy(tmp_path / "none.sqlite", tmp_path / "new.sqlite")
    assert not (tmp_path / "new.sqlite").exists()


def test_a_backup_is_one_moment_while_others_write(address: str, tmp_path: Path) -> None:
    used(address)
    stop = threading.Event()

    def go_on() -> None:
        with Store.open(address) as store:
            while not stop.is_set():
                store.add_labeler(f"labeler {store.counts()['labelers']}", "human")

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        for number in range(3):
            backup(address, tmp_path / f"kept{number}.sqlite")
    finally:
        stop.set()
        writer.join()
    for number in range(3):
        with Store.open(tmp_path / f"kept{number}.sqlite") as store:
            assert len(preferences(store)) == 40
    with pytest.raises(UserError, match="already"):
        backup(address, tmp_path / "kept0.sqlite")


def test_the_digest_sees_every_row(tmp_path: Path) -> None:
    used(tmp_path / "one.sqlite")
    engine = connect(tmp_path / "one.sqlite")
    with engine.connect() as connection:
        before = digest_of(connection)
        connection.rollback()
    with engine.begin() as connection:
        connection.execute(schema.task.update().where(schema.task.c.seq == 7).values(priority=1.5))
    with engine.connect() as connection:
        assert digest_of(connection) != before
    engine.dispose()
