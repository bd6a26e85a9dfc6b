"""Questions as a lead reads them: what was asked, the answers, and what each labeler said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select
from sqlalchemy.sql.elements import ColumnElement

from concordant.data.types import Completion, Prompt
from concordant.feedback.answering.statements import LIVE
from concordant.feedback.database import schema
from concordant.feedback.store import Store, read_comparisons
from concordant.feedback.votes import VERDICT_TYPES, Payload, verdicts


@dataclass(frozen=True)
class Answered:
    """A question with what each of its labelers said."""

    task: str
    kind: str
    prompt: Prompt
    completions: tuple[Completion, ...]
    said: tuple[tuple[str, Payload], ...]  # name of the labeler, payload
    written: Mapping[str, str] = field(
        default_factory=dict
    )  # what labelers wrote, by the id of the completion

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


def questions(
    store: Store, wanted: ColumnElement[bool], n: int, *, after: int = 0, newest: bool = False
) -> list[Answered]:
    """Up to `n` questions for which the condition on `task` holds, `after` so many, in the order of their creation."""
    task, vote, labeler = schema.task, schema.vote, schema.labeler
    found = select(task.c.id, task.c.kind).where(wanted)
    found = found.order_by(task.c.seq.desc() if newest else task.c.seq).limit(n).offset(after)
    said = select(labeler.c.name, vote.c.payload).join(labeler, labeler.c.id == vote.c.labeler)
    said = said.where(vote.c.type.in_(VERDICT_TYPES), LIVE).order_by(vote.c.created, vote.c.id)
    with store.reading() as connection:
        rows = connection.execute(found).all()
        asked = read_comparisons(connection, [row.id for row in rows])
        made = []
        for row, (prompt, completions) in zip(rows, asked, strict=True):
            voices = connection.execute(said.where(vote.c.task == row.id)).all()
            voiced = tuple((one.name, one.payload) for one in voices)
            texts = _texts(connection, [one["completion"] for _, one in voiced if "completion" in one])
            made.append(Answered(row.id, row.kind, prompt, tuple(completions), voiced, texts))
    return made


def _texts(connection: Connection, keys: Sequence[str]) -> dict[str, str]:
    if not keys:
        return {}
    column = schema.completion.c
    rows = connection.execute(select(column.id, column.text).where(column.id.in_(keys)))
    return {row.id: row.text for row in rows}


def answered(store: Store, project: str, n: int, *, after: int = 0) -> list[Answered]:
    """Up to `n` questions of a project (id) that have an answer, `after` so many, the newest first."""
    task = schema.task.c
    return questions(store, (task.project == project) & (task.n_done > 0), n, after=after, newest=True)
