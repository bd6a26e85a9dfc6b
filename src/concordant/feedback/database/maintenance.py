"""Keeping a store: backups, copies from one engine to the other, and upgrades that keep a backup first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import CheckConstraint, Connection, Engine, MetaData, Table, event, insert, select, text

from concordant.errors import UserError
from concordant.feedback.database import schema
from concordant.feedback.database.engine import connect, database_errors, place
from concordant.feedback.database.layout import layout_of, prepare, upgrade
from concordant.feedback.database.queries import chunks
from concordant.feedback.ids import canonical, content_id

ROWS = 1_000  # copied at once

Progress = Callable[[str, int], None]  # table, rows of it that were copied


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied: rows by table, and a digest of all of them, the same on both sides."""

    rows: dict[str, int]
    digest: str


def backup(address: str | Path, target: Path) -> Path:
    """A copy of a store as one SQLite file, taken at one moment while others go on writing; returns `target`.

    Errors: UserError where there is no store, or something stands at `target` already.
    """
    engine = _existing(address)
    _refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if engine.dialect.name != "sqlite":
        copy(address, target)
        return target
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    with (
        database_errors(engine),
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        connection.rollback()
        connection.connection.driver_connection.execute("VACUUM INTO ?", (str(partial),))  # type: ignore[union-attr]
    partial.rename(target)
    engine.dispose()
    return target


def copy(source: str | Path, target: str | Path, *, progress: Progress | None = None) -> Copied:
    """Copy a store into a new one, SQLite or PostgreSQL on either side, and compare what arrived.

    Errors: UserError where there is no store to copy, where it has another layout, or where `target` holds one.
    """
    old, new = _existing(source), connect(target)
    with database_errors(old), _snapshot(old) as reader:
        _refuse_empty(reader, old)
        prepare(reader, old, 0)
        with database_errors(new), new.begin() as writer:
            if layout_of(writer) is not None:
                raise UserError(
                    "there is a feedback store already",
                    where=place(new),
                    expected="a new file, or an empty database",
                    fix="choose another target",
                )
            schema.metadata.create_all(writer)
            copied = _copy_tables(reader, writer, schema.metadata, progress)
            there, here = digest_of(reader), digest_of(writer)
            if there != here:
                raise RuntimeError(f"the copy in {place(new)} differs from {place(old)}; it was not kept")
    old.dispose()
    new.dispose()
    return Copied(copied, here)


def bring_up_to_date(address: str | Path, *, now: float | None = None) -> Path | None:
    """Upgrade a store of an older layout, after a backup beside it; returns the backup, None if it was current.

    The upgrade is one transaction: it happens or it does not. The backup of a store on PostgreSQL lies in the
    working directory.
    """
    engine = _existing(address)
    with database_errors(engine), engine.connect() as connection:
        _refuse_empty(connection, engine)
        found = layout_of(connection)
    if found == schema.LAYOUT:
        return None
    if found is None or found > schema.LAYOUT:
        with engine.begin() as connection:
            prepare(connection, engine, 0)  # says what is wrong
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    name = Path(str(engine.url.database)).name
    folder = Path(str(engine.url.database)).parent if engine.dialect.name == "sqlite" else Path()
    kept = _backup_as_it_is(engine, folder / f"{name}.layout-{found}.{stamp}.backup")
    with database_errors(engine), engine.begin() as connection:
        upgrade(connection)
    engine.dispose()
    return kept


def _backup_as_it_is(engine: Engine, target: Path) -> Path:
    """A backup of a store whose layout today's tables do not describe: what is there is copied as it stands."""
    if engine.dialect.name == "sqlite":
        return backup(Path(str(engine.url.database)), target)
    _refuse_existing(target)
    found, new = MetaData(), connect(target)

    @event.listens_for(found, "column_reflect")
    def plain(_inspector: Any, _table: Any, column: dict[str, Any]) -> None:
        column["type"] = column["type"].as_generic()
        column["default"] = None

    with database_errors(engine), _snapshot(engine) as reader, new.begin() as writer:
        found.reflect(reader)
        for (
            table
        ) in found.tables.values():  # rows are what counts; rules are in the words of the other engine
            table.indexes.clear()
            for rule in [one for one in table.constraints if isinstance(one, CheckConstraint)]:
                table.constraints.remove(rule)
        found.create_all(writer)
        _copy_tables(reader, writer, found, None)
    new.dispose()
    return target


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one moment of the store and lets others go on writing."""
    with engine.connect().execution_options(read_only=True) as reader, reader.begin():
        if engine.dialect.name == "postgresql":
            reader.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        yield reader


def digest_of(connection: Connection) -> str:
    """A digest of every row of every table, the same on both engines."""
    parts: list[Any] = []
    for table in schema.metadata.sorted_tables:
        rows = connection.execute(select(table).execution_options(yield_per=ROWS))
        hashed = sorted(content_id(canonical(dict(row._mapping))) for row in rows)
        parts.append((table.name, content_id(*hashed)))
    return content_id(*parts)


def _copy_tables(
    reader: Connection, writer: Connection, metadata: MetaData, progress: Progress | None
) -> dict[str, int]:
    copied = {}
    for table in metadata.sorted_tables:
        rows = [dict(row._mapping) for row in reader.execute(select(table))]
        for some in chunks(_parents_first(table, rows), ROWS):
            writer.execute(insert(table), list(some))
        copied[table.name] = len(rows)
        if progress is not None:
            progress(table.name, len(rows))
    return copied


def _parents_first(table: Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in an order in which those that others of the same table point to come first."""
    own = [key.parent.name for key in table.foreign_keys if key.column.table is table]
    if not own:
        return rows
    waiting = {row["id"]: row for row in rows}
    ordered: list[dict[str, Any]] = []
    while waiting:
        ready = [row for row in waiting.values() if not any(row[name] in waiting for name in own)]
        ordered += ready
        for row in ready:
            del waiting[row["id"]]
    return ordered


def _existing(address: str | Path) -> Engine:
    """An engine on a store that is there."""
    engine = connect(address)
    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).is_file():
        raise _no_store(engine)
    return engine


def _refuse_empty(connection: Connection, engine: Engine) -> None:
    if layout_of(connection) is None:
        raise _no_store(engine)


def _no_store(engine: Engine) -> UserError:
    return UserError(
        "there is no feedback store",
        where=place(engine),
        expected="the feedback.sqlite of a run, or a database that a run has filled",
        fix="check the name",
    )


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError(
            "there is something already", where=str(target), expected="a new file", fix="choose another name"
        )
