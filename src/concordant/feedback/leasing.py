"""Who answers what: leases are given, votes handed in, and counts kept, each within one write transaction.

A lease that ran out simply stops counting, so nothing has to sweep. Everybody uses these functions: a person
at a page for one task, a simulated labeler or a judge for hundreds at a time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, case, delete, exists, func, insert, or_, select, text, update
from sqlalchemy.sql.elements import ColumnElement

from concordant.data.types import Completion, Prompt, messages_from
from concordant.errors import UserError
from concordant.feedback.database import chunks, upsert
from concordant.feedback.ids import new_id, order_shown
from concordant.feedback.schema import completion, item, lease, rubric_version, task, task_completion, vote
from concordant.feedback.schema import project as project_table
from concordant.feedback.votes import VERDICT_TYPES, Comparison, Lease, Receipt, Submission, check_payload

LEASE_MS = 15 * 60 * 1000
TRIES, PAUSE = 20, 0.01  # looks at a queue whose rows all are being looked at, and seconds between them


def is_live() -> ColumnElement[bool]:
    """Condition on `vote`: nothing supersedes it, and it is not itself a retraction."""
    later = vote.alias("later")
    return ~exists().where(later.c.supersedes == vote.c.id) & (vote.c.type != "retract")


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
    wanted: list[ColumnElement[bool]] = []
    if among is not None:
        wanted.append(task.c.id.in_(among))
    if project is not None:
        wanted.append(task.c.project == project)
    mine = select(lease.c.task).join(task).where(lease.c.labeler == labeler, lease.c.expires > now, *wanted)
    held = list(connection.scalars(mine.order_by(lease.c.task).limit(n)))
    fresh: list[str] = []
    if len(held) < n:
        fresh = _pick(connection, _free_tasks(labeler, now).where(*wanted), n - len(held))
    _hold(connection, labeler, fresh, now)
    return read_leases(connection, labeler, held + fresh)


def _pick(connection: Connection, free: Select[str], n: int) -> list[str]:
    """The first `n` of `free`, so that nobody else takes them before this transaction ends.

    On PostgreSQL writers run side by side: rows that another one is looking at are passed over, and since
    the room left in a task was counted before its row was locked, it is counted again. That nothing was
    found may mean that all are looked at just now.
    """
    if connection.dialect.name == "sqlite":
        return list(connection.scalars(free.limit(n)))
    for _ in range(TRIES):
        locked = list(connection.scalars(free.limit(n).with_for_update(of=task, skip_locked=True)))
        still = list(connection.scalars(free.where(task.c.id.in_(locked)))) if locked else []
        if still or connection.scalar(free.limit(1)) is None:
            return still
        time.sleep(PAUSE)
    return []


def _free_tasks(labeler: str, now: int) -> Select[str]:
    """Tasks this labeler may take: room left, no lease or vote of its own, no completion of its own."""
    leased = (lease.c.task == task.c.id) & (lease.c.expires > now)
    taken = select(func.count()).where(leased).scalar_subquery()
    held = exists().where(leased, lease.c.labeler == labeler)
    answered = exists().where(vote.c.task == task.c.id, vote.c.labeler == labeler, is_live())
    own = (
        select(task_completion.c.task)
        .join(completion, completion.c.id == task_completion.c.completion)
        .where(completion.c.author == labeler)
    )
    free = select(task.c.id).where(
        task.c.state == "open", task.c.n_done + taken < task.c.need, ~held, ~answered, task.c.id.not_in(own)
    )
    return free.order_by(task.c.priority.desc(), text("(task.n_done > 0) DESC"), task.c.random_key)


def _hold(connection: Connection, labeler: str, tasks: Sequence[str], now: int) -> None:
    if not tasks:
        return
    members, salts = _members(connection, tasks), _salts(connection, tasks)
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
    # A lease of mine that ran out is extended under its old token, so that a page left open can still submit.
    statement = upsert(connection, lease)
    extend = {"expires": statement.excluded.expires}
    connection.execute(statement.on_conflict_do_update(index_elements=["task", "labeler"], set_=extend), rows)


def _salts(connection: Connection, tasks: Sequence[str]) -> dict[str, str]:
    """What goes into the order in which the completions of each task are shown."""
    query = select(task.c.id, project_table.c.salt).join(project_table, project_table.c.id == task.c.project)
    return {
        row.id: row.salt
        for some in chunks(tasks)
        for row in connection.execute(query.where(task.c.id.in_(some)))
    }


def _members(connection: Connection, tasks: Sequence[str]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {task_id: [] for task_id in tasks}
    for some in chunks(tasks):
        rows = select(task_completion.c.task, task_completion.c.completion).where(
            task_completion.c.task.in_(some)
        )
        for row in connection.execute(rows.order_by(task_completion.c.task, task_completion.c.position)):
            members[row.task].append(row.completion)
    return members


def read_leases(connection: Connection, labeler: str, tasks: Sequence[str]) -> list[Lease]:
    """The leases of `labeler` on `tasks`, in that order, with what is to be shown."""
    leases: dict[str, Lease] = {}
    for some in chunks(tasks):
        texts = select(completion.c.id, completion.c.text).join(task_completion)
        shown = connection.execute(texts.where(task_completion.c.task.in_(some)).distinct())
        known = {row.id: Completion(row.text, id=row.id) for row in shown}
        columns = (lease, task.c.kind, item.c.messages, item.c.family, item.c.source, item.c.answer)
        query = select(*columns, rubric_version.c.body).join(task, task.c.id == lease.c.task)
        query = query.join(item, item.c.id == task.c.item)
        query = query.join(rubric_version, rubric_version.c.id == task.c.rubric_version)
        for row in connection.execute(query.where(lease.c.labeler == labeler, lease.c.task.in_(some))):
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
        connection.execute(insert(vote), rows)
        for some in chunks([one.token for one in new.values()]):
            connection.execute(delete(lease).where(lease.c.token.in_(some)))
        recount(connection, [row["task"] for row in rows])
    return [receipts[one.key] for one in submissions]


def lock_tasks(connection: Connection, tasks: Collection[str]) -> None:
    """Let other writers to these tasks wait until this transaction ends, so that counts miss no vote."""
    if connection.dialect.name == "postgresql":
        for some in chunks(sorted(tasks)):
            locked = select(task.c.id).where(task.c.id.in_(some)).order_by(task.c.id).with_for_update()
            connection.execute(locked)


def _known_receipts(connection: Connection, submissions: Sequence[Submission]) -> dict[str, Receipt]:
    known = {}
    for some in chunks([one.key for one in submissions]):
        query = select(vote.c.idempotency_key, vote.c.id, vote.c.task, vote.c.extra)
        for row in connection.execute(query.where(vote.c.idempotency_key.in_(some))):
            known[row.idempotency_key] = Receipt(row.id, row.task, repeated=True, extra=row.extra)
    return known


def _held(connection: Connection, tokens: Sequence[str], labeler: str | None) -> Mapping[str, Row[Any]]:
    columns = (lease, task.c.kind, task.c.need, task.c.n_done, task.c.rubric_version)
    query = select(*columns).join(task, task.c.id == lease.c.task)
    if labeler is not None:
        query = query.where(lease.c.labeler == labeler)
    rows = [
        row for some in chunks(tokens) for row in connection.execute(query.where(lease.c.token.in_(some)))
    ]
    return {row.token: row for row in rows}


def _heads(connection: Connection, tasks: Sequence[str]) -> dict[tuple[str, str, int], str]:
    """The newest vote of each chain (task, labeler, pass), retractions too: what a new vote supersedes."""
    later = vote.alias("later")
    newest = select(vote.c.id, vote.c.task, vote.c.labeler, vote.c["pass"])
    newest = newest.where(~exists().where(later.c.supersedes == vote.c.id))
    rows = [row for some in chunks(tasks) for row in connection.execute(newest.where(vote.c.task.in_(some)))]
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
        "extra": held.expires <= now and held.n_done >= held.need,
        "created": now,
    }
    heads[chain] = row["id"]
    return row


def recount(connection: Connection, tasks: Sequence[str]) -> None:
    """Bring `n_done` (labelers with a live verdict) and the state of `tasks` up to date with their votes."""
    done = (
        select(func.count(vote.c.labeler.distinct()))
        .where(vote.c.task == task.c.id, vote.c.type.in_(VERDICT_TYPES), is_live())
        .scalar_subquery()
    )
    state = case((task.c.n_done >= task.c.need, "done"), else_="open")
    for some in chunks(tasks):
        here = task.c.id.in_(some)
        connection.execute(update(task).where(here).values(n_done=done))
        moving = or_(task.c.state == "open", task.c.state == "done")
        connection.execute(update(task).where(here, moving).values(state=state))
