"""How many labelers a question gets: more where they disagree, and in the end somebody decides.

A task whose policy has `most` begins with as many labelers as it wants. Where fewer than AGREED of their verdicts
say the same, two more are asked, up to `most`; then it waits for a lead. Every vote stays as it is: what a lead
decides stands in a row of its own, and views read it in place of the votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from concordant.feedback.answering.statements import DECIDED, LIVE
from concordant.feedback.database import schema
from concordant.feedback.database.queries import chunks
from concordant.feedback.votes import VERDICT_TYPES, Payload

AGREED = (
    0.75  # share of the verdicts that say the same: three of four, four of five; two of three are a dispute
)


def gist(payload: Payload) -> str:
    """What a verdict comes down to, so that two can be told to say the same: who is best."""
    if payload["type"] == "pairwise":
        return str(payload["winner"] or payload["verdict"])
    if payload["type"] == "ranking":
        return " ".join(sorted(payload["tiers"][0]))
    return str(payload["type"])


def in_agreement(payloads: Sequence[Payload]) -> bool:
    """Whether enough verdicts say the same; one by itself always does."""
    if len(payloads) < 2:
        return True
    (_, most), *_ = Counter(map(gist, payloads)).most_common(1)
    return most / len(payloads) >= AGREED


def settle(connection: Connection, tasks: Sequence[str]) -> None:
    """Ask more labelers for those of `tasks` that are disputed, or put them before a lead."""
    task = schema.task.c
    for some in chunks(tasks):
        waiting = task.state.in_(("done", "adjudication")) & ~DECIDED
        wanted = select(task.id, task.need, task.policy).where(task.id.in_(some), waiting)
        rows = connection.execute(wanted.where(task.policy["most"].as_integer() > 0)).all()
        for row in rows:
            most = int(row.policy["most"])
            values: dict[str, Any] = {"state": "adjudication"}
            if in_agreement(_payloads(connection, row.id)):
                values = {"state": "done"}
            elif row.need < most:  # those who begin on it should be many before others begin on new ones
                values = {"state": "open", "need": min(most, row.need + 2), "priority": 1.0}
            connection.execute(update(schema.task).where(task.id == row.id).values(**values))


def _payloads(connection: Connection, task: str) -> list[Payload]:
    vote = schema.vote.c
    query = select(vote.payload).where(vote.task == task, vote.type.in_(VERDICT_TYPES), LIVE)
    return list(connection.scalars(query.order_by(vote.created, vote.id)))
