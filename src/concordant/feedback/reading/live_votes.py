"""The live verdicts of a store as they are read: the one thing that views and aggregations are derived from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, exists, select

from concordant.data.types import Completion, Demonstration, Prompt
from concordant.feedback.answering.leasing import of_project, prompt_from
from concordant.feedback.answering.statements import LIVE
from concordant.feedback.database.queries import chunks
from concordant.feedback.database.schema import (
    NO_TEXT,
    adjudication,
    completion,
    item,
    labeler,
    task,
    task_completion,
    vote,
)
from concordant.feedback.ids import content_id
from concordant.feedback.store import Store
from concordant.feedback.votes import VERDICT_TYPES, Payload, dimension_payload, named_in


@dataclass(frozen=True, slots=True)
class LiveVote:
    """A vote nothing supersedes; `weight` is 1 over the number of passes its labeler made at the task."""

    task_id: str
    labeler: str
    shown: tuple[str, ...] | None
    payload: Payload
    weight: float


@dataclass(frozen=True)
class LiveVotes:
    """The live verdicts of a store in the order of their tasks, and what they are about."""

    votes: tuple[LiveVote, ...]
    completions: Mapping[str, Completion]  # by id
    prompts: Mapping[str, Prompt]  # by task
    members: Mapping[str, tuple[str, ...]]  # completion ids by task
    decisions: Mapping[str, LiveVote] = field(default_factory=dict)  # of leads on disputed tasks, by task
    erased: frozenset[str] = frozenset()  # completions (ids) without their text: their author was erased

    @property
    def deciding(self) -> LiveVotes:
        """What is learnt from: the decision of a lead in place of the votes it is about."""
        if not self.decisions:
            return self
        rows, decided = [], set()
        for one in self.votes:
            if one.task_id not in self.decisions:
                rows.append(one)
            elif one.task_id not in decided:
                decided.add(one.task_id)
                rows.append(self.decisions[one.task_id])
        return replace(self, votes=tuple(rows), decisions={})


def read_live_votes(store: Store, project: str | None = None, dimension: str = "") -> LiveVotes:
    """The live verdicts with their prompts and completions, in four queries at one moment of the store.

    They are those of one project (id), or of all whose votes are for training: what stages of a run learn from.
    With `dimension` they are `of_dimension`.
    """
    live = _read(store, project)
    return of_dimension(live, dimension) if dimension else live


def _read(store: Store, project: str | None) -> LiveVotes:
    with store.reading() as connection:
        judged = exists().where(vote.c.task == task.c.id, vote.c.type.in_(VERDICT_TYPES), LIVE)
        tasks = select(task.c.id).where(judged, of_project(project))
        members = select(task_completion).where(task_completion.c.task.in_(tasks))
        by_task: dict[str, list[str]] = defaultdict(list)
        for row in connection.execute(members.order_by(task_completion.c.task, task_completion.c.position)):
            by_task[row.task].append(row.completion)
        shown = select(task_completion.c.completion).where(task_completion.c.task.in_(tasks))
        text = select(completion.c.id, completion.c.text, completion.c.tokens)
        votes = tuple(_live_votes(connection, project))
        known = {
            row.id: _completion(row) for row in connection.execute(text.where(completion.c.id.in_(shown)))
        }
        for some in chunks([one.payload["completion"] for one in votes if "completion" in one.payload]):
            written_there = connection.execute(text.where(completion.c.id.in_(some)))
            known |= {row.id: _completion(row) for row in written_there}
        gone = select(completion.c.id).where(completion.c.sha256 == NO_TEXT)
        return LiveVotes(
            votes,
            known,
            _prompts(connection),
            {one.task_id: () for one in votes} | {key: tuple(of_task) for key, of_task in by_task.items()},
            _decisions(connection, project),
            frozenset(connection.scalars(gone)),
        )


def digest(store: Store) -> str:
    """Hash of the live verdicts: who said what of which completions, in the order of the tasks."""
    live = read_live_votes(store).deciding
    said = [(vote.task_id, vote.labeler, vote.payload) for vote in live.votes]
    return content_id("votes", said)


def dimensions_said(live: LiveVotes) -> list[str]:
    """The dimensions of rubrics that votes speak of, "overall" aside."""
    named = {name for one in live.votes for name in named_in(one.payload)}
    return sorted(named)


def of_dimension(live: LiveVotes, name: str) -> LiveVotes:
    """What the votes say of one dimension of their rubrics alone, as if nothing else had been asked."""

    def said(one: LiveVote) -> list[LiveVote]:
        payload = dimension_payload(one.payload, name, live.members[one.task_id])
        return [] if payload is None else [replace(one, payload=payload)]

    votes = tuple(row for one in live.votes for row in said(one))
    decisions = {task_id: row for task_id, one in live.decisions.items() for row in said(one)}
    return replace(live, votes=votes, decisions=decisions)


def written(store: Store) -> dict[str, Demonstration]:
    """What came as written by people, by the id of the completion, in the order in which they did.

    What stands only in tasks whose votes are not for training, such as those of an evaluation, is left out, and
    so is what somebody wrote in answer to a task: that is the matter of its vote, which may be taken back.
    """
    columns = (completion.c.id, completion.c.text, completion.c.tokens, completion.c.item)
    asked_in = (
        select(task_completion.c.task).join(task).where(task_completion.c.completion == completion.c.id)
    )
    elsewhere = asked_in.exists() & ~asked_in.where(of_project(None)).exists()
    asked_for = completion.c.producer["task"].as_string()
    query = select(*columns).where(completion.c.source == "human", asked_for.is_(None), ~elsewhere)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(completion.c.created, completion.c.id)).all()
        asked = {row.item for row in rows}
        prompts = {row.id: prompt_from(row) for row in connection.execute(select(item)) if row.id in asked}
    return {row.id: Demonstration(prompts[row.item], _completion(row)) for row in rows}


def _completion(row: Any) -> Completion:
    return Completion(row.text, None if row.tokens is None else tuple(row.tokens), row.id)


def _live_votes(connection: Connection, project: str | None) -> Iterable[LiveVote]:
    columns = (vote.c.task, vote.c.labeler, vote.c.shown, vote.c.payload)
    query = select(*columns).join(task).join(labeler, labeler.c.id == vote.c.labeler)
    query = query.where(vote.c.type.in_(VERDICT_TYPES), LIVE, of_project(project))
    # Nothing here depends on who was faster: a resumed run reads the rows of an uninterrupted one.
    ordered = query.order_by(task.c.seq, labeler.c.name, labeler.c.id, vote.c["pass"])
    rows = connection.execute(ordered).all()
    passes = Counter((row.task, row.labeler) for row in rows)
    for row in rows:
        shown = None if row.shown is None else tuple(row.shown)
        yield LiveVote(row.task, row.labeler, shown, row.payload, 1 / passes[row.task, row.labeler])


def _decisions(connection: Connection, project: str | None) -> dict[str, LiveVote]:
    """The newest decision on each task."""
    query = select(adjudication).join(task).where(of_project(project))
    rows = connection.execute(query.order_by(adjudication.c.created, adjudication.c.id))
    return {row.task: LiveVote(row.task, row.labeler, None, row.payload, 1.0) for row in rows}


def _prompts(connection: Connection) -> dict[str, Prompt]:
    """The prompt of each task; tasks of one item share the object."""
    prompts = {row.id: prompt_from(row) for row in connection.execute(select(item))}
    tasks = connection.execute(select(task.c.id, task.c.item))
    return {row.id: prompts[row.item] for row in tasks}
