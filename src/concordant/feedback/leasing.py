"""Who answers what: leases are given, votes handed in, and counts kept, each within one write transaction.

A lease that ran out simply stops counting, so nothing has to sweep. Everybody uses these functions: a person
at a page for one task, a simulated labeler or a judge for hundreds at a time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.sql.elements import ColumnElement

from concordant.data.types import Completion, Prompt, messages_from
from concordant.errors import UserError
from concordant.feedback.database import chunks, upsert
from concordant.feedback.ids import new_id, order_shown
from concordant.feedback.overlap import settle
from concordant.feedback.rubric import check_dimensions
from concordant.feedback.schema import lease, task, vote
from concordant.feedback.schema import project as project_table
from concordant.feedback.statements import (
    HEADS,
    HELD,
    KNOWN,
    LEASES,
    LOCK,
    MEMBERS,
    RECOUNT,
    RETURN,
    TEXTS,
    free_tasks,
    free_tasks_locked,
    held_tasks,
)
from concordant.feedback.votes import Comparison, Lease, Receipt, Submission, check_payload
from concordant.feedback.writing import keep_texts

LEASE_MS = 15 * 60 * 1000
TRIES, PAUSE = 20, 0.01  # looks at a queue whose rows all are being looked at, and seconds between them


def of_project(key: str | None) -> ColumnElement[bool]:
    """Condition on `task`: of this project, or of any whose votes are for training."""
    if key is not None:
        return task.c.project == key
    return task.c.project.in_(select(project_table.c.id).where(project_table.c.purpose == "training"))


def prompt_from(row: Row[Any]) -> Prompt:
    """The prompt of a row that has the columns of `item`."""
    return Prompt(messages_from(row.messages), family=row.family, where=row.source, answer=row.answer)


def give_leases(
    connection: Connection,
    labeler: str,
    n: int,
    now: int,
    among: Sequence[str] | None = None,
    project: str | None = None,
) -> list[Lease]:
    """Up to `n` leases for `labeler`: those it still holds, then new ones, most urgent task first."""
    which = (among is not None, project is not None)
    given = {"labeler": labeler, "now": now, "n": n, "tasks": list(among or ()), "project": project}
    held = list(connection.scalars(held_tasks(*which), given))
    fresh: list[str] = []
    if len(held) < n:
        fresh = _pick(connection, which, given | {"n": n - len(held)})
    _hold(connection, labeler, fresh, now)
    return read_leases(connection, labeler, held + fresh)


def _pick(connection: Connection, which: tuple[bool, bool], given: Mapping[str, Any]) -> list[str]:
    """The first free tasks, so that nobody else takes them before this transaction ends.

    On PostgreSQL writers run side by side: rows that another one is looking at are passed over, and since
    the room left in a task was counted before its row was locked, it is counted again. That nothing was
    found may mean that all are looked at just now.
    """
    if connection.dialect.name == "sqlite":
        return list(connection.scalars(free_tasks(*which), given))
    for _ in range(TRIES):
        locked = list(connection.scalars(free_tasks_locked(*which), given))
        again = {**given, "tasks": locked}
        still = list(connection.scalars(free_tasks(True, which[1]), again)) if locked else []
        if still or not list(connection.scalars(free_tasks(*which), {**given, "n": 1})):
            return still
        time.sleep(PAUSE)
    return []


def _hold(connection: Connection, labeler: str, tasks: Sequence[str], now: int) -> None:
    if not tasks:
        return
    members: dict[str, list[str]] = {}
    salts: dict[str, str] = {}
    for some in chunks(tasks):
        for row in connection.execute(MEMBERS, {"tasks": some}):
            members.setdefault(row.task, []).extend([row.completion] if row.completion else [])
            salts[row.task] = row.salt
    rows = [
        {
            "task": task_id,
            "labeler": labeler,
            "token": secrets.token_urlsafe(16),
            "expires": now + LEASE_MS,
            "shown": order_shown(salts[task_id], task_id, labeler, members[task_id]),
        }
        for task_id in tasks
    ]
    connection.execute(_take_or_extend(connection.dialect.name), rows)


@cache
def _take_or_extend(dialect: str) -> Any:
    """A lease of mine that ran out is extended under its old token, so that a page left open can still submit."""
    statement = upsert(dialect, lease)
    extend = {"expires": statement.excluded.expires}
    return statement.on_conflict_do_update(index_elements=["task", "labeler"], set_=extend)


def read_leases(connection: Connection, labeler: str, tasks: Sequence[str]) -> list[Lease]:
    """The leases of `labeler` on `tasks`, in that order, with what is to be shown."""
    leases: dict[str, Lease] = {}
    for some in chunks(tasks):
        known = {
            row.id: Completion(row.text, id=row.id) for row in connection.execute(TEXTS, {"tasks": some})
        }
        for row in connection.execute(LEASES, {"labeler": labeler, "tasks": some}):
            completions = tuple(known[key] for key in row.shown)
            comparison = Comparison(row.task, prompt_from(row), completions, row.kind)
            leases[row.task] = Lease(row.token, comparison, row.expires, row.body)
    return [leases[task_id] for task_id in tasks]


def hand_in(
    connection: Connection, submissions: Sequence[Submission], now: int, labeler: str | None = None
) -> list[Receipt]:
    """Keep the votes of `submissions`, exactly once each, and give their leases back.

    Errors: UserError for an unknown lease, one that is not `labeler`'s where that is given, or a payload that
    does not answer its task; then nothing is kept.
    """
    lock_tasks(connection, {one.vote.task_id for one in submissions})
    receipts = _known_receipts(connection, submissions)
    new = {one.key: one for one in submissions if one.key not in receipts}
    held = _held(connection, [one.token for one in new.values()], labeler)
    heads = _heads(connection, [row.task for row in held.values()])
    rows = []
    for key, one in new.items():
        row = _vote_row(one, held.get(one.token), heads, now)
        rows.append(row)
        receipts[key] = Receipt(row["id"], row["task"], extra=row["extra"])
    if rows:
        check_dimensions(connection, rows)
        keep_texts(connection, rows)
        connection.execute(insert(vote), rows)
        for some in chunks([one.token for one in new.values()]):
            connection.execute(RETURN, {"tokens": some})
        recount(connection, [row["task"] for row in rows])
        settle(connection, [row.task for row in held.values() if row.policy.get("most")])
    return [receipts[one.key] for one in submissions]


def lock_tasks(connection: Connection, tasks: Collection[str]) -> None:
    """Let other writers to these tasks wait until this transaction ends, so that counts miss no vote."""
    if connection.dialect.name == "postgresql":
        for some in chunks(sorted(tasks)):
            connection.execute(LOCK, {"tasks": some})


def _known_receipts(connection: Connection, submissions: Sequence[Submission]) -> dict[str, Receipt]:
    known = {}
    for some in chunks([one.key for one in submissions]):
        for row in connection.execute(KNOWN, {"keys": some}):
            known[row.idempotency_key] = Receipt(row.id, row.task, repeated=True, extra=row.extra)
    return known


def _held(connection: Connection, tokens: Sequence[str], labeler: str | None) -> Mapping[str, Row[Any]]:
    rows = [row for some in chunks(tokens) for row in connection.execute(HELD, {"tokens": some})]
    return {row.token: row for row in rows if labeler in (None, row.labeler)}


def _heads(connection: Connection, tasks: Sequence[str]) -> dict[tuple[str, str, int], str]:
    """The newest vote of each chain (task, labeler, pass), retractions too: what a new vote supersedes."""
    rows = [row for some in chunks(tasks) for row in connection.execute(HEADS, {"tasks": some})]
    return {(row[1], row[2], row[3]): row.id for row in rows}


def _vote_row(
    one: Submission, held: Row[Any] | None, heads: dict[tuple[str, str, int], str], now: int
) -> dict[str, Any]:
    said = one.vote
    if held is None or held.task != said.task_id:
        raise UserError(
            "a vote without a lease",
            where=f"task {said.task_id}",
            expected="the token of a lease on this task",
            fix="ask for the task again; the vote was not kept",
        )
    check_payload(said.payload, held.kind, held.shown, f"task {held.task}")
    chain = (held.task, held.labeler, said.pass_index)
    row = {
        "id": new_id(now),
        "task": held.task,
        "labeler": held.labeler,
        "pass": said.pass_index,
        "rubric_version": held.rubric_version,
        "type": said.payload["type"],
        "shown": list(said.shown or held.shown),
        "payload": dict(said.payload),
        "active_ms": said.active_ms,
        "wall_ms": said.wall_ms,
        "client": dict(said.client) or None,
        "idempotency_key": one.key,
        "supersedes": heads.get(chain),
        "extra": held.n_done >= held.need,
        "created": now,
    }
    heads[chain] = row["id"]
    return row


def recount(connection: Connection, tasks: Sequence[str]) -> None:
    """Bring `n_done` (labelers with a live verdict) and the state of `tasks` up to date with their votes."""
    for some in chunks(tasks):
        connection.execute(RECOUNT, {"tasks": some})
