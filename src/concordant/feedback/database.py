"""SQLite opened so that a second writer waits instead of failing, and a crash loses nothing that was said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError

from concordant.errors import UserError
from concordant.feedback import schema
from concordant.feedback.ids import new_id

IN_LIST = 5_000  # values in one IN (...): SQLite takes 32,766 parameters in a statement

T = TypeVar("T")


def chunks(values: Sequence[T], size: int = IN_LIST) -> Iterator[Sequence[T]]:
    """`values` in pieces of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _url(address: str | Path) -> URL:
    if isinstance(address, Path) or "://" not in address:
        return URL.create("sqlite", database=str(address))
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise UserError("this is not a database address", where=address, expected="a file name") from error
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        raise UserError(
            "the feedback store cannot live here",
            where=url.render_as_string(hide_password=True),
            expected="an SQLite file: a path, or sqlite:///path",
        )
    return url


def _settings(connection: Any, _record: object) -> None:
    # Transactions are begun by us (see `_begin`), not by the driver, which would begin them deferred.
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout=5000")
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise UserError(
            "this file system cannot hold the feedback store",
            expected=f"write-ahead logging, but SQLite chose journal mode {mode!r}",
            fix="put the run on a local disk, not a network share",
        )
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    # Without this an INSERT OR REPLACE would remove a vote without asking the trigger.
    connection.execute("PRAGMA recursive_triggers=ON")


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another committed in between,
    # whatever the timeout. Taking the write lock at the start makes it wait instead.
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def connect(address: str | Path) -> Engine:
    """An engine on the SQLite file at `address`, with every connection set up for several writers."""
    url = _url(address)
    engine = create_engine(url, json_serializer=_dump)
    event.listen(engine, "connect", _settings)
    event.listen(engine, "begin", _begin)
    return engine


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def database_errors(engine: Engine) -> Iterator[None]:
    """Turn the failures of the file itself into messages that name it; other errors pass."""
    try:
        yield
    except DatabaseError as error:
        said = str(error.orig)
        for sign, expected, fix in _FAILURES:
            if sign in said:
                where = str(engine.url.database)
                raise UserError(
                    f"the feedback store: {said}", where=where, expected=expected, fix=fix
                ) from error
        raise


_FAILURES = (
    ("database is locked", "a free turn within five seconds", "stop the other process that holds the file"),
    (
        "disk is full",
        "room for the next write; what was written before is safe",
        "free some space, run again",
    ),
    ("unable to open", "a folder that exists and may be written to", "make the folder, or choose another"),
    ("not a database", "an SQLite file made by concordant", "choose another name, or move the file away"),
    ("readonly database", "a file this user may write to", "change its owner or its mode"),
)


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert `rows` whose primary key is new; return how many were."""
    if not rows:
        return 0
    keys = list(table.primary_key.columns)
    statement = insert(table).on_conflict_do_nothing(index_elements=keys)
    return connection.execute(statement, list(rows)).rowcount


def known(connection: Connection, column: Any, values: Sequence[str]) -> set[str]:
    """Those of `values` that are in `column`."""
    return {
        found
        for some in chunks(values)
        for found in connection.scalars(select(column).where(column.in_(some)))
    }


def audit(
    connection: Connection, verb: str, subject: str, detail: Any, now: int, labeler: str | None = None
) -> None:
    """Write down that `verb` happened to `subject`."""
    row = {
        "id": new_id(now),
        "labeler": labeler,
        "verb": verb,
        "object": subject,
        "detail": detail,
        "created": now,
    }
    connection.execute(schema.audit.insert(), row)
