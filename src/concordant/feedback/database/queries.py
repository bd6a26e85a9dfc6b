"""Statements that every part of the store uses, in the words of either engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite

from concordant.feedback.database import schema
from concordant.feedback.ids import new_id
from concordant.seeds import derive

IN_LIST = 5_000  # values in one IN (...): SQLite takes 32,766 parameters in a statement

T = TypeVar("T")


def chunks(values: Sequence[T], size: int = IN_LIST) -> Iterator[Sequence[T]]:
    """`values` in pieces of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def upsert(dialect: str, table: Table) -> Any:
    """An INSERT into `table` that knows ON CONFLICT, in the words of an engine."""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


def serialise(connection: Connection, purpose: str) -> None:
    """Let one writer at a time go on from here, until its transaction ends. On SQLite every writer is alone already."""
    if connection.dialect.name == "postgresql":
        key = derive("lock", purpose) % 2**62
        connection.execute(select(func.pg_advisory_xact_lock(key)))


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert `rows` whose primary key is new; return how many were."""
    if not rows:
        return 0
    keys = list(table.primary_key.columns)
    statement = upsert(connection.dialect.name, table).on_conflict_do_nothing(index_elements=keys)
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
