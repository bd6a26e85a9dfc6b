"""Who answers what: leases are given, votes handed in, and counts kept, each within one write transaction.

A lease that ran out simply stops counting, so nothing has to sweep. Everybody uses these functions: a person
at a page for one task, a simulated labeler or a judge for hundreds at a time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.sql.elements import ColumnElement

from concordant.data.types import Completion, Prompt, messages_from
from concordant.errors import UserError
from concordant.feedback.answering.statements import (
    ASKED,
    HEADS,
    HELD,
    KEEP,
    KNOWN,
    LOCK,
    MEMBERS,
    RECOUNT,
    RETURN,
    TEXTS,
    free_tasks,
    free_tasks_locked,
    held_leases,
    take,
)
from concordant.feedback.answering.writing import keep_texts
from concordant.feedback.asking.overlap import settle
from concordant.feedback.asking.rubric import check_dimensions
from concordant.feedback.database.prepared import Given, together
from concordant.feedback.database.schema import project as project_table
from concordant.feedback.database.schema import task
from concordant.feedback.ids import new_id, order_shown
from concordant.feedback.votes import Comparison, Lease, Receipt, Submission, check_payload

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
) -> list[Any]:
    """Up to `n` rows of leases for `labeler`: those it still holds, then new ones, most urgent task first."""
    which = (among is not None, project is not None)
    given = {"labeler": labeler, "now": now, "n": n, "tasks": among, "project": project}
    held = held_leases(*which).rows(connection, **given)
    if len(held) == n:
        return held
    members = _pick(connection, which, given | {"n": n - len(held)})
    wanted = [_lease_row(labeler, task_id, members[task_id], now) for task_id in members]
    take_one = take(connection.dialect.name)
    return held + [row for (row,) in together(connection, *((take_one, one) for one in wanted))]


def _pick(connection: Connection, which: tuple[bool, bool], given: Given) -> dict[str, list[Any]]:
    """The first free tasks, so that nobody else takes them before this transaction ends, and their members.

    On PostgreSQL writers run side by side: rows that another one is looking at are passed over, and since
    the room left in a task was counted before its row was locked, it is counted again. That nothing was
    found may mean that all are looked at just now.
    """
    if connection.dialect.name == "sqlite":
        free = free_tasks(*which).rows(connection, **given)
        return _with_members(free, MEMBERS.rows(connection, tasks=_ids(free)))
    for _ in range(TRIES):
        if locked := _ids(free_tasks_locked(*which).rows(connection, **given)):
            again = {**given, "tasks": locked}
            free, members = together(connection, (free_tasks(True, which[1]), again), (MEMBERS, again))
            if free:
                return _with_members(free, members)
        elif free_tasks(*which).rows(connection, **given):
            time.sleep(PAUSE)
        else:
            break
    return {}


def _ids(rows: Sequence[Any]) -> list[str]:
    return [row.id for row in rows]


def _with_members(tasks: Sequence[Any], members: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {row.id: [] for row in tasks}
    for row in members:
        if row.task in found:
            found[row.task].append(row)
    return found


def _lease_row(labeler: str, task_id: str, members: Sequence[Any], now: int) -> dict[str, Any]:
    return {
        "task": task_id,
        "labeler": labeler,
        "token": secrets.token_urlsafe(16),
        "expires": now + LEASE_MS,
        "shown": order_shown(
            members[0].salt, task_id, labeler, [row.completion for row in members if row.completion]
        ),
    }


def with_questions(connection: Connection, rows: Sequence[Any]) -> list[Lease]:
    """These rows of leases with what is to be shown. It never changes, so nobody has to wait while it is read."""
    tasks = [row.task for row in rows]
    asked, texts = together(connection, (ASKED, {"tasks": tasks}), (TEXTS, {"tasks": tasks}))
    questions = {one.id: one for one in asked}
    completions = {one.id: Completion(one.text, id=one.id) for one in texts}
    leases = []
    for row in rows:
        question = questions[row.task]
        shown = tuple(completions[key] for key in row.shown)
        comparison = Comparison(row.task, prompt_from(question), shown, question.kind)
        leases.append(Lease(row.token, comparison, row.expires, question.body))
    return leases


def hand_in(
    connection: Connection, submissions: Sequence[Submission], now: int, labeler: str | None = None
) -> list[Receipt]:
    """Keep the votes of `submissions`, exactly once each, and give their leases back.

    Errors: UserError for an unknown lease, one that is not `labeler`'s where that is given, or a payload that
    does not answer its task; then nothing is kept.
    """
    leases, known, newest = together(
        connection,
        (HELD, {"tokens": [one.token for one in submissions]}),
        (KNOWN, {"keys": [one.key for one in submissions]}),
        (HEADS, {"tasks": [one.vote.task_id for one in submissions]}),
    )
    receipts = {row.idempotency_key: Receipt(row.id, row.task, True, row.extra) for row in known}
    held = {row.token: row for row in leases if labeler in (None, row.labeler)}
    heads = {(row.task, row.labeler, row[3]): row.id for row in newest}
    new = {one.key: one for one in submissions if one.key not in receipts}
    rows = []
    for key, one in new.items():
        row = _vote_row(one, held.get(one.token), heads, now)
        rows.append(row)
        receipts[key] = Receipt(row["id"], row["task"], extra=row["extra"])
    if rows:
        check_dimensions(connection, rows)
        keep_texts(connection, rows)
        together(
            connection,
            *((KEEP, row) for row in rows),
            (RETURN, {"tokens": [one.token for one in new.values()]}),
            (RECOUNT, {"tasks": [row["task"] for row in rows]}),
        )
        answered = [held[one.token] for one in new.values()]
        settle(connection, [row.task for row in answered if row.policy.get("most")])
    return [receipts[one.key] for one in submissions]


def lock_tasks(connection: Connection, tasks: Collection[str]) -> None:
    """Let other writers to these tasks wait until this transaction ends, so that counts miss no vote."""
    LOCK.rows(connection, tasks=sorted(tasks))


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
    RECOUNT.rows(connection, tasks=tasks)
