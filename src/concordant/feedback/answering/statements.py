"""The statements behind leases and votes, put together once: building one anew takes longer than running it.

They are the same for both engines; what differs in a call is a parameter. `tasks`, `tokens` and `keys` are lists.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import (
    BindParameter,
    Integer,
    Select,
    Update,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from concordant.feedback.database.prepared import Prepared, one_of
from concordant.feedback.database.queries import upsert
from concordant.feedback.database.schema import (
    adjudication,
    completion,
    item,
    labeler,
    lease,
    rubric_version,
    task,
    task_completion,
    vote,
)
from concordant.feedback.database.schema import project as project_table
from concordant.feedback.votes import VERDICT_TYPES

_later = vote.alias("later")
NEWEST: ColumnElement[bool] = ~exists().where(_later.c.supersedes == vote.c.id)
"""Condition on `vote`: nothing supersedes it."""
LIVE: ColumnElement[bool] = NEWEST & (vote.c.type != "retract")
"""Condition on `vote`: nothing supersedes it, and it is not itself a retraction."""

DECIDED: ColumnElement[bool] = exists().where(adjudication.c.task == task.c.id)
"""Condition on `task`: a lead has decided it."""

LABELER: BindParameter[str] = bindparam("labeler")
NOW: BindParameter[int] = bindparam("now")
N: BindParameter[int] = bindparam("n", type_=Integer())


@cache
def _wanted(among: bool, project: bool) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `task`: one of `tasks`, in `project`."""
    conditions = (
        one_of(task.c.id, "tasks") if among else None,
        task.c.project == bindparam("project") if project else None,
    )
    return tuple(one for one in conditions if one is not None)


@cache
def held_leases(among: bool, project: bool) -> Prepared:
    """Leases that `labeler` holds at `now`, up to `n`."""
    mine = select(lease).join(task).where(lease.c.labeler == LABELER, lease.c.expires > NOW)
    return Prepared(mine.where(*_wanted(among, project)).order_by(lease.c.task).limit(N))


@cache
def _free_tasks(among: bool, project: bool) -> Select[str]:
    leased = (lease.c.task == task.c.id) & (lease.c.expires > NOW)
    taken = select(func.count()).where(leased).scalar_subquery()
    # Counted, since PostgreSQL makes a join of EXISTS and may read all that the labeler has answered for each task.
    held = select(func.count()).where(leased, lease.c.labeler == LABELER).scalar_subquery()
    mine = (vote.c.task == task.c.id) & (vote.c.labeler == LABELER)
    answered = select(func.count()).where(mine, LIVE).scalar_subquery()
    own = (
        select(task_completion.c.task)
        .join(completion, completion.c.id == task_completion.c.completion)
        .where(completion.c.author == LABELER)
    )
    registered = exists().where(labeler.c.id == LABELER)
    free = select(task.c.id).where(
        task.c.state == "open",
        task.c.n_done + taken < task.c.need,
        held == 0,
        answered == 0,
        task.c.id.not_in(own),
        registered,
    )
    free = free.where(*_wanted(among, project)).limit(N)
    return free.order_by(task.c.priority.desc(), text("(task.n_done > 0) DESC"), task.c.random_key)


@cache
def free_tasks(among: bool, project: bool) -> Prepared:
    """Up to `n` tasks `labeler` may take: room left, no lease or vote of its own, no completion of its own.

    None for a labeler who is not registered.
    """
    return Prepared(_free_tasks(among, project))


@cache
def free_tasks_locked(among: bool, project: bool) -> Prepared:
    """The same, so that nobody else takes them; on PostgreSQL, where writers run side by side."""
    return Prepared(_free_tasks(among, project).with_for_update(of=task, skip_locked=True))


MEMBERS = Prepared(
    select(task.c.id.label("task"), task_completion.c.completion, project_table.c.salt)
    .outerjoin(task_completion, task_completion.c.task == task.c.id)
    .join(project_table, project_table.c.id == task.c.project)
    .where(one_of(task.c.id, "tasks"))
    .order_by(task.c.id, task_completion.c.position)
)
"""Completions of `tasks`, null for a task without any, and what goes into the order in which they are shown."""


@cache
def take(dialect: str) -> Prepared:
    """A lease; one of mine that ran out is extended under its old token, so that a page left open can still submit."""
    new = upsert(dialect, lease)
    extended = new.on_conflict_do_update(
        index_elements=["task", "labeler"], set_={"expires": new.excluded.expires}
    )
    return Prepared(extended.returning(*lease.c))


ASKED = Prepared(
    select(
        task.c.id,
        task.c.kind,
        item.c.messages,
        item.c.family,
        item.c.source,
        item.c.answer,
        rubric_version.c.body,
    )
    .join(item, item.c.id == task.c.item)
    .join(rubric_version, rubric_version.c.id == task.c.rubric_version)
    .where(one_of(task.c.id, "tasks"))
)
"""What `tasks` ask."""

TEXTS = Prepared(
    select(completion.c.id, completion.c.text)
    .join(task_completion)
    .where(one_of(task_completion.c.task, "tasks"))
)
"""Texts of the completions of `tasks`."""

KNOWN = Prepared(
    select(vote.c.idempotency_key, vote.c.id, vote.c.task, vote.c.extra).where(
        one_of(vote.c.idempotency_key, "keys")
    )
)
"""Votes that were handed in under `keys` before."""

HELD = Prepared(
    select(lease, task.c.kind, task.c.need, task.c.n_done, task.c.rubric_version, task.c.policy)
    .join(task, task.c.id == lease.c.task)
    .where(one_of(lease.c.token, "tokens"))
    .order_by(task.c.id)
    .with_for_update(of=task)
)
"""Leases by `tokens`, with what a vote has to fit; other writers to their tasks wait from here on."""

HEADS = Prepared(
    select(vote.c.id, vote.c.task, vote.c.labeler, vote.c["pass"]).where(NEWEST, one_of(vote.c.task, "tasks"))
)
"""The newest vote of each chain (task, labeler, pass) of `tasks`, retractions too."""

KEEP = Prepared(insert(vote))
"""A vote."""

RETURN = Prepared(delete(lease).where(one_of(lease.c.token, "tokens")))
"""Give leases back."""

LOCK = Prepared(select(task.c.id).where(one_of(task.c.id, "tasks")).order_by(task.c.id).with_for_update())
"""Let other writers to `tasks` wait."""


def _recount() -> Update:
    verdict = or_(*(vote.c.type == one for one in VERDICT_TYPES))
    done = (
        select(func.count(vote.c.labeler.distinct()))
        .where(vote.c.task == task.c.id, verdict, LIVE)
        .scalar_subquery()
    )
    state = case(
        (task.c.state == "cancelled", "cancelled"),
        (DECIDED, "done"),
        (done < task.c.need, "open"),
        (task.c.state == "adjudication", "adjudication"),  # whether it still is one, `overlap.settle` says
        else_="done",
    )
    return update(task).where(one_of(task.c.id, "tasks")).values(n_done=done, state=state)


RECOUNT = Prepared(_recount())
"""Bring the counts and states of `tasks` up to date with their votes."""
