"""The layout of a store's tables: made new, recognised, or brought up to date by the steps in `migrations/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, inspect, select

from concordant.errors import UserError
from concordant.feedback.database import schema
from concordant.feedback.database.engine import place
from concordant.feedback.database.queries import insert_missing, serialise

DEFAULT_PROJECT = "default"
FIRST = "0001"  # of stores that do not say: they were made before there was a second layout


def layout_of(connection: Connection) -> str | None:
    """The layout of the tables that are there; None where there are none."""
    there = inspect(connection)
    if there.has_table(schema.layout.name):
        found = connection.scalar(select(schema.layout.c.version_num))
        if found is not None:
            return str(found)
    return FIRST if there.has_table(schema.project.name) else None


def prepare(connection: Connection, engine: Engine, now: int) -> None:
    """Make the tables of a new store; UserError for a store of another layout, which stays as it is."""
    found = layout_of(connection)
    if found == schema.LAYOUT:
        return
    if found is not None:
        older = found < schema.LAYOUT
        raise UserError(
            f"this feedback store has layout {found}",
            where=place(engine),
            expected=f"layout {schema.LAYOUT}",
            fix=f"concordant db upgrade {place(engine)} (it keeps a backup)"
            if older
            else "open it with the version of concordant that made it",
        )
    serialise(connection, "layout")
    if layout_of(connection) is None:  # on PostgreSQL somebody else may have been faster
        schema.metadata.create_all(connection)
        connection.execute(insert(schema.layout), {"version_num": schema.LAYOUT})
        insert_missing(connection, schema.project, [project_row(DEFAULT_PROJECT, DEFAULT_PROJECT, now)])


def upgrade(connection: Connection) -> None:
    """Bring the tables of an older store up to date; the caller keeps a backup first."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    if not inspect(connection).has_table(schema.layout.name):
        command.stamp(config, FIRST)
    command.upgrade(config, schema.LAYOUT)


def project_row(key: str, name: str, now: int, purpose: str = "training") -> dict[str, Any]:
    """A project; its id also salts the order in which completions are shown."""
    return {"id": key, "name": name, "salt": key, "purpose": purpose, "settings": {}, "created": now}
