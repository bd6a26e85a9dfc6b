"""The statements behind leases and votes, put together once: building one anew takes longer than running it.

They are the same for both engines; what differs in a call is a parameter. `tasks`, `tokens` and `keys` are lists.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import (
    BindParameter,
    Delete,
    Select,
    Update,
    bindparam,
    case,
    delete,
    exists,
    func,
    select,
    text,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from concordant.feedback.schema import (
    adjudication,
    completion,
    item,
    lease,
    rubric_version,
    task,
    task_completion,
    vote,
)
from concordant.feedback.schema import project as project_table
from concordant.feedback.votes import VERDICT_TYPES

_later = vote.alias("later")
NEWEST: ColumnElement[bool] = ~exists().where(_later.c.supersedes == vote.c.id)
"""Condition on `vote`: nothing supersedes it."""
LIVE: ColumnElement[bool] = NEWEST & (vote.c.type != "retract")
"""Condition on `vote`: nothing supersedes it, and it is not itself a retraction."""

DECIDED: ColumnElement[bool] = exists().where(adjudication.c.task == task.c.id)
"""Condition on `task`: a lead has decided it."""

TASKS: BindParameter[str] = bindparam("tasks", expanding=True)
TOKENS: BindParameter[str] = bindparam("tokens", expanding=True)
LABELER: BindParameter[str] = bindparam("labeler")
NOW: BindParameter[int] = bindparam("now")


@cache
def _wanted(among: bool, project: bool) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `task`: one of `tasks`, in `project`."""
    conditions = (
        task.c.id.in_(TASKS) if among else None,
        task.c.project == bindparam("project") if project else None,
    )
    return tuple(one for one in conditions if one is not None)


@cache
def held_tasks(among: bool, project: bool) -> Select[str]:
    """Tasks on which `labeler` holds a lease at `now`, up to `n`."""
    mine = select(lease.c.task).join(task).where(lease.c.labeler == LABELER, lease.c.expires > NOW)
    return mine.where(*_wanted(among, project)).order_by(lease.c.task).limit(bindparam("n"))


@cache
def free_tasks(among: bool, project: bool) -> Select[str]:
    """Up to `n` tasks `labeler` may take: room left, no lease or vote of its own, no completion of its own."""
    leased = (lease.c.task == task.c.id) & (lease.c.expires > NOW)
    taken = select(func.count()).where(leased).scalar_subquery()
    held = exists().where(leased, lease.c.labeler == LABELER)
    answered = exists().where(vote.c.task == task.c.id, vote.c.labeler == LABELER, LIVE)
    own = (
        select(task_completion.c.task)
        .join(completion, completion.c.id == task_completion.c.completion)
        .where(completion.c.author == LABELER)
    )
    free = select(task.c.id).where(
        task.c.state == "open", task.c.n_done + taken < task.c.need, ~held, ~answered, task.c.id.not_in(own)
    )
    free = free.where(*_wanted(among, project)).limit(bindparam("n"))
    return free.order_by(task.c.priority.desc(), text("(task.n_done > 0) DESC"), task.c.random_key)


@cache
def free_tasks_locked(among: bool, project: bool) -> Select[str]:
    """The same, so that nobody else takes them; on PostgreSQL, where writers run side by side."""
    return free_tasks(among, project).with_for_update(of=task, skip_locked=True)


MEMBERS: Select[str, str, str] = (
    select(task.c.id.label("task"), task_completion.c.completion, project_table.c.salt)
    .outerjoin(task_completion, task_completion.c.task == task.c.id)
    .join(project_table, project_table.c.id == task.c.project)
    .where(task.c.id.in_(TASKS))
    .order_by(task.c.id, task_completion.c.position)
)
"""Completions of `tasks`, null for a task without any, and what goes into the order in which they are shown."""

TEXTS: Select[str, str] = (
    select(completion.c.id, completion.c.text)
    .join(task_completion)
    .where(task_completion.c.task.in_(TASKS))
    .distinct()
)
"""Texts of the completions of `tasks`."""

_shown = (task.c.kind, item.c.messages, item.c.family, item.c.source, item.c.answer, rubric_version.c.body)
LEASES = (
    select(lease, *_shown)
    .join(task, task.c.id == lease.c.task)
    .join(item, item.c.id == task.c.item)
    .join(rubric_version, rubric_version.c.id == task.c.rubric_version)
    .where(lease.c.labeler == LABELER, lease.c.task.in_(TASKS))
)
"""Leases of `labeler` on `tasks`, with what is to be shown."""

KNOWN = select(vote.c.idempotency_key, vote.c.id, vote.c.task, vote.c.extra).where(
    vote.c.idempotency_key.in_(bindparam("keys", expanding=True))
)
"""Votes that were handed in under `keys` before."""

HELD = (
    select(lease, task.c.kind, task.c.need, task.c.n_done, task.c.rubric_version, task.c.policy)
    .join(task, task.c.id == lease.c.task)
    .where(lease.c.token.in_(TOKENS))
)
"""Leases by `tokens`, with what a vote has to fit."""

HEADS = select(vote.c.id, vote.c.task, vote.c.labeler, vote.c["pass"]).where(NEWEST, vote.c.task.in_(TASKS))
"""The newest vote of each chain (task, labeler, pass) of `tasks`, retractions too."""

RETURN: Delete = delete(lease).where(lease.c.token.in_(TOKENS))
"""Give leases back."""

LOCK: Select[str] = select(task.c.id).where(task.c.id.in_(TASKS)).order_by(task.c.id).with_for_update()
"""Let other writers to `tasks` wait."""


def _recount() -> Update:
    done = (
        select(func.count(vote.c.labeler.distinct()))
        .where(vote.c.task == task.c.id, vote.c.type.in_(VERDICT_TYPES), LIVE)
        .scalar_subquery()
    )
    state = case(
        (task.c.state == "cancelled", "cancelled"),
        (DECIDED, "done"),
        (done < task.c.need, "open"),
        (task.c.state == "adjudication", "adjudication"),  # whether it still is one, `overlap.settle` says
        else_="done",
    )
    return update(task).where(task.c.id.in_(TASKS)).values(n_done=done, state=state)


RECOUNT = _recount()
"""Bring the counts and states of `tasks` up to date with their votes."""
