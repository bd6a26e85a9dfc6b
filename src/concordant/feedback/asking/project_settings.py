"""What a lead sets for a project: read, and changed with an entry in the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, bindparam, select, update

from concordant.errors import UserError
from concordant.feedback.answering.leasing import lock_tasks, recount
from concordant.feedback.answering.statements import DECIDED
from concordant.feedback.asking.overlap import settle
from concordant.feedback.config import ProjectConfig
from concordant.feedback.database import schema
from concordant.feedback.database.queries import audit, chunks
from concordant.feedback.missing import no_project
from concordant.feedback.store import Store


def config_of(settings: Mapping[str, Any]) -> ProjectConfig:
    """What is set in the column `settings` of a project, with defaults for the rest."""
    return ProjectConfig(**{name: settings[name] for name in ProjectConfig.model_fields if name in settings})


def read_config(store: Store, project: str) -> ProjectConfig:
    """What is set for a project (id). Errors: UserError where there is none."""
    table = schema.project.c
    with store.reading() as connection:
        settings = connection.scalar(select(table.settings).where(table.id == project))
    if settings is None:
        raise no_project(project)
    return config_of(settings)


def configure(store: Store, project: str, changes: Mapping[str, Any], labeler: str | None = None) -> bool:
    """Change what is set for a project (id), and how many labelers its questions want; whether anything was new.

    Another number of votes holds for all its questions that no lead has decided: answered ones may open again,
    open ones may be done. Errors: UserError for a project that is not there, and for values out of range.
    """
    table = schema.project
    with store.writing() as connection:
        settings = connection.scalar(select(table.c.settings).where(table.c.id == project).with_for_update())
        if settings is None:
            raise no_project(project)
        before = config_of(settings).model_dump()
        after = checked({**before, **changes})
        new = {name: value for name, value in after.items() if value != before[name]}
        if not new:
            return False
        merged = {**settings, **new}
        connection.execute(update(table).where(table.c.id == project).values(settings=merged))
        if {"votes", "most_votes"} & new.keys():
            _ask(connection, project, after["votes"], after["most_votes"])
        detail = {"project": project, "from": {name: before[name] for name in new}, "to": new}
        audit(connection, "configure", "project", detail, store.now(), labeler=labeler)
    return True


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """All that is set by these values. Errors: UserError for one that is out of range, or unknown."""
    try:
        found = ProjectConfig(**values).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UserError(
            f"a setting {name or 'of a project'} that does not fit",
            where="settings of a project",
            expected=first["msg"],
            fix="change it, or leave it out",
        ) from None
    votes, most = found["votes"], found["most_votes"]
    if most and votes and most < votes:
        raise UserError(
            f"at most {most} votes, but {votes} each",
            where="settings of a project",
            expected="most_votes of as many as votes, or more",
            fix="raise the one or lower the other",
        )
    return found


def _ask(connection: Connection, project: str, votes: int | None, most: int | None) -> None:
    """Let the questions of a project want so many labelers; None leaves it as it is."""
    task = schema.task
    here = (task.c.project == project) & ~DECIDED
    keys = list(connection.scalars(select(task.c.id).where(here)))
    lock_tasks(connection, keys)
    for some in chunks(keys):
        if votes is not None:
            connection.execute(update(task).where(task.c.id.in_(some)).values(need=votes))
        if most is not None:
            rows = connection.execute(select(task.c.id, task.c.policy).where(task.c.id.in_(some)))
            wanted = [{"key": row.id, "most": {**(row.policy or {}), "most": most}} for row in rows]
            change = update(task).where(task.c.id == bindparam("key")).values(policy=bindparam("most"))
            connection.execute(change, wanted)
    recount(connection, keys)
    settle(connection, keys)
