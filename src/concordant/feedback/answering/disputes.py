"""Questions on which labelers do not agree, and the lead's decisions on them."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from concordant.errors import UserError
from concordant.feedback.answering.leasing import lock_tasks
from concordant.feedback.answering.statements import LIVE
from concordant.feedback.database import schema
from concordant.feedback.database.queries import audit
from concordant.feedback.ids import new_id
from concordant.feedback.reading.answered import Answered, questions
from concordant.feedback.store import Store, read_comparisons
from concordant.feedback.votes import Payload, check_payload


def disputes(store: Store, project: str, n: int = 50) -> list[Answered]:
    """The questions that wait for a lead, the oldest first."""
    waiting = schema.task.c.state == "adjudication"
    return questions(store, waiting & (schema.task.c.project == project), n)


def adjudicate(store: Store, task_id: str, labeler: str, payload: Payload, reason: str) -> str:
    """Decide a disputed question; returns the id of the decision.

    Errors: UserError for a task that does not wait for one, or a payload that does not answer it.
    """
    task = schema.task.c
    with store.writing() as connection:
        lock_tasks(connection, [task_id])
        state = connection.scalar(select(task.state).where(task.id == task_id))
        if state != "adjudication":
            raise UserError(
                "this question does not wait for a decision",
                where=f"task {task_id}",
                expected="a disputed one",
                fix="load the page again: somebody else may have decided it",
            )
        return decide(connection, task_id, labeler, payload, reason, store.now())


def decide(
    connection: Connection, task_id: str, labeler: str, payload: Payload, reason: str, now: int
) -> str:
    """Let `payload` stand in place of the votes on a task that is there and locked; the id of the decision."""
    task, vote = schema.task.c, schema.vote.c
    kind = connection.scalar(select(task.kind).where(task.id == task_id))
    ((_, shown),) = read_comparisons(connection, [task_id])
    check_payload(payload, str(kind), [one.id for one in shown], f"task {task_id}")
    seen = list(connection.scalars(select(vote.id).where(vote.task == task_id, LIVE)))
    decision = {
        "id": new_id(now),
        "task": task_id,
        "labeler": labeler,
        "payload": dict(payload),
        "reason": reason,
        "votes_seen": seen,
        "created": now,
    }
    connection.execute(insert(schema.adjudication), decision)
    connection.execute(update(schema.task).where(task.id == task_id).values(state="done"))
    audit(connection, "adjudicate", "task", {"task": task_id, "votes": len(seen)}, now, labeler=labeler)
    return str(decision["id"])
