"""Questions on which labelers do not agree, and the lead's decisions on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback import schema
from concordant.feedback.database import audit
from concordant.feedback.ids import new_id
from concordant.feedback.leasing import lock_tasks, prompt_from
from concordant.feedback.statements import LIVE
from concordant.feedback.store import Store
from concordant.feedback.votes import VERDICT_TYPES, Payload, check_payload, verdicts


@dataclass(frozen=True)
class Dispute:
    """A question on which labelers do not agree, with what each of them said."""

    task: str
    kind: str
    prompt: Prompt
    completions: tuple[Completion, ...]
    said: tuple[tuple[str, Payload], ...]  # name of the labeler, payload

    @property
    def order(self) -> list[list[str]]:
        """Completions (ids) in tiers by how many of the others the labelers put each above, the best first."""
        share = dict.fromkeys((one.id for one in self.completions), 0.0)
        for _, payload in self.said:
            for verdict in verdicts(payload, list(share)):
                share[verdict.better] += verdict.p
                share[verdict.worse] += 1 - verdict.p
        levels = sorted({round(value, 6) for value in share.values()}, reverse=True)
        return [[key for key, value in share.items() if round(value, 6) == level] for level in levels]


def disputes(store: Store, project: str, n: int = 50) -> list[Dispute]:
    """The questions that wait for a lead, the oldest first."""
    task, item, vote, labeler = schema.task, schema.item, schema.vote, schema.labeler
    with store.reading() as connection:
        columns: tuple[Any, ...] = (task.c.id, task.c.kind, item.c.messages, item.c.family)
        columns += (item.c.source, item.c.answer)
        waiting = select(*columns).join(item, item.c.id == task.c.item)
        waiting = waiting.where(task.c.state == "adjudication", task.c.project == project)
        found = []
        for row in connection.execute(waiting.order_by(task.c.seq).limit(n)).all():
            said = select(labeler.c.name, vote.c.payload).join(labeler, labeler.c.id == vote.c.labeler)
            said = said.where(vote.c.task == row.id, vote.c.type.in_(VERDICT_TYPES), LIVE)
            voices = connection.execute(said.order_by(vote.c.created, vote.c.id)).all()
            completions = tuple(_members(connection, row.id))
            voiced = tuple((one.name, one.payload) for one in voices)
            found.append(Dispute(row.id, row.kind, prompt_from(row), completions, voiced))
    return found


def adjudicate(store: Store, task_id: str, labeler: str, payload: Payload, reason: str) -> str:
    """Decide a disputed question; returns the id of the decision.

    Errors: UserError for a task that does not wait for one, or a payload that does not answer it.
    """
    task, vote = schema.task.c, schema.vote.c
    now = store.now()
    with store.writing() as connection:
        lock_tasks(connection, [task_id])
        row = connection.execute(select(task.kind, task.state).where(task.id == task_id)).one_or_none()
        if row is None or row.state != "adjudication":
            raise UserError(
                "this question does not wait for a decision",
                where=f"task {task_id}",
                expected="a disputed one",
                fix="load the page again: somebody else may have decided it",
            )
        check_payload(payload, row.kind, [one.id for one in _members(connection, task_id)], f"task {task_id}")
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


def _members(connection: Connection, task: str) -> list[Completion]:
    member, completion = schema.task_completion.c, schema.completion.c
    query = select(completion.id, completion.text).join(
        schema.task_completion, member.completion == completion.id
    )
    rows = connection.execute(query.where(member.task == task).order_by(member.position))
    return [Completion(row.text, id=row.id) for row in rows]
