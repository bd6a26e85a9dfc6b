"""What a lead looks at: projects with their progress, who did how much, what is disputed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Row, case, func, select

from concordant.errors import UserError
from concordant.feedback.answering.leasing import of_project
from concordant.feedback.answering.statements import LIVE
from concordant.feedback.asking.known import beside
from concordant.feedback.database import schema
from concordant.feedback.missing import no_project
from concordant.feedback.store import Store
from concordant.feedback.votes import VERDICT_TYPES

HOUR_MS = 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Project:
    """A project and how far it is."""

    id: str
    name: str
    purpose: str
    settings: Mapping[str, Any]
    tasks: int
    finished: int  # tasks with as many verdicts as they want
    disputed: int  # tasks that wait for somebody to decide
    verdicts: int  # live ones


def projects(store: Store) -> list[Project]:
    """All projects in which somebody is asked something, the oldest first."""
    counts = _counted(store, None)
    query = select(schema.project).order_by(schema.project.c.created, schema.project.c.id)
    with store.reading() as connection:
        rows = connection.execute(query).all()
    return [_project(row, counts[row.id]) for row in rows if row.id in counts]


def project_named(store: Store, name: str) -> Project:
    """The project of this name or id. Errors: UserError where there is none, or more than one."""
    found = [one for one in projects(store) if name in (one.id, one.name)]
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"{len(found) or 'no'} projects are called {name!r}",
        where="--project",
        expected=", ".join(f"{one.name} ({one.id})" for one in projects(store)) or "a project with questions",
        fix="take the id, which stands in brackets",
    )


def project_of(store: Store, key: str) -> Project:
    """One project. Errors: UserError where there is none of this id, or nothing is asked in it."""
    counts = _counted(store, key)
    with store.reading() as connection:
        row = connection.execute(select(schema.project).where(schema.project.c.id == key)).one_or_none()
    if row is None or key not in counts:
        raise no_project(key)
    return _project(row, counts[key])


def _project(row: Row[Any], counts: Row[Any]) -> Project:
    said = (counts.tasks, counts.finished, counts.disputed, counts.verdicts)
    return Project(row.id, row.name, row.purpose, row.settings, *said)


Counts = Mapping[str, Row[Any]]
MANY = 10_000  # tasks from which on a count is kept for a while
PER_MS = 20  # and for how long: a millisecond for so many tasks, five seconds for 100,000
_kept: WeakKeyDictionary[Store, dict[str | None, tuple[int, Counts]]] = WeakKeyDictionary()


def _counted(store: Store, project: str | None) -> Counts:
    """Tasks and verdicts of a project, or of each: counted now, or where there are many a moment ago.

    Whoever asks for a question is told how far the project is, and it may not wait for 100,000 tasks to be read.
    """
    kept, now = _kept.setdefault(store, {}), store.now()
    until, counts = kept.get(project, (0, {}))
    if now >= until:
        counts = _count(store, project)
        tasks = sum(row.tasks for row in counts.values())
        kept[project] = (now + tasks // PER_MS if tasks >= MANY else now, counts)
    return counts


def _count(store: Store, project: str | None) -> Counts:
    task = schema.task.c
    query = select(
        task.project,
        func.count().label("tasks"),
        func.sum(case((task.state == "done", 1), else_=0)).label("finished"),
        func.sum(case((task.state == "adjudication", 1), else_=0)).label("disputed"),
        func.sum(task.n_done).label("verdicts"),
    )
    if project is not None:
        query = query.where(task.project == project)
    with store.reading() as connection:
        return {row.project: row for row in connection.execute(query.group_by(task.project))}


@dataclass(frozen=True, slots=True)
class Share:
    """What one labeler did in a project."""

    labeler: str
    name: str
    kind: str
    verdicts: int
    skips: int
    median_ms: float | None  # active time of a verdict


def shares(store: Store, project: str) -> list[Share]:
    """Who did how much, most first."""
    vote, labeler, task = schema.vote, schema.labeler, schema.task
    query = (
        select(labeler.c.id, labeler.c.name, labeler.c.kind, vote.c.type, vote.c.active_ms)
        .join(labeler, labeler.c.id == vote.c.labeler)
        .join(task, task.c.id == vote.c.task)
        .where(task.c.project == project, LIVE)
    )
    found: dict[str, dict[str, Any]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            one = found.setdefault(
                row.id, {"name": row.name, "kind": row.kind, "verdicts": 0, "skips": 0, "times": []}
            )
            one["verdicts" if row.type in VERDICT_TYPES else "skips"] += 1
            if row.type in VERDICT_TYPES and row.active_ms is not None:
                one["times"].append(row.active_ms)
    rows = [
        Share(key, one["name"], one["kind"], one["verdicts"], one["skips"], _median(one["times"]))
        for key, one in found.items()
    ]
    return sorted(rows, key=lambda one: (-one.verdicts, one.name))


def answered_by_people(store: Store) -> tuple[int, int, int]:
    """How many tasks for training have a person's verdict, how many people only passed over, and how many there are."""
    vote, task, labeler = schema.vote, schema.task, schema.labeler
    spoke = select(vote.c.task, vote.c.type).join(task, task.c.id == vote.c.task)
    spoke = spoke.join(labeler, labeler.c.id == vote.c.labeler)
    spoke = spoke.where(of_project(None), labeler.c.kind == "human", LIVE)
    with store.reading() as connection:
        every = connection.scalar(select(func.count()).select_from(task).where(of_project(None)))
        rows = connection.execute(spoke).all()
    answered = {row.task for row in rows if row.type in VERDICT_TYPES}
    return len(answered), len({row.task for row in rows} - answered), every or 0


@dataclass(frozen=True, slots=True)
class Passed:
    """A question that a labeler gave no verdict on, and why."""

    name: str  # of the labeler
    type: str  # skip, or flag: something is wrong with the question
    reason: str
    question: str  # the last turn of the prompt


def passed_over(store: Store, project: str, n: int = 50) -> list[Passed]:
    """The newest `n` skips and flags of a project (id) that stand, flags first."""
    vote, task, labeler, item = schema.vote, schema.task, schema.labeler, schema.item
    query = select(vote.c.type, vote.c.payload, labeler.c.name, item.c.messages)
    query = query.join(task, task.c.id == vote.c.task).join(item, item.c.id == task.c.item)
    query = query.join(labeler, labeler.c.id == vote.c.labeler)
    query = query.where(task.c.project == project, vote.c.type.in_(("skip", "flag")), LIVE)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(vote.c.type, vote.c.created.desc()).limit(n)).all()
    return [Passed(row.name, row.type, row.payload["reason"], row.messages[-1]["content"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a project goes: live verdicts given within the last hour, and the last day."""

    hour: int
    day: int


def pace(store: Store, project: str) -> Pace:
    """The pace of a project (id)."""
    vote, task, now = schema.vote, schema.task, store.now()
    given = select(func.count()).select_from(vote).join(task, task.c.id == vote.c.task)
    given = given.where(task.c.project == project, vote.c.type.in_(VERDICT_TYPES), LIVE)
    with store.reading() as connection:
        hour, day = (
            connection.scalar(given.where(vote.c.created > now - hours * HOUR_MS)) or 0 for hours in (1, 24)
        )
    return Pace(hour, day)


def done_by(store: Store, project: str, labeler: str) -> tuple[int, int]:
    """Live votes of one labeler in a project, skips too: those tasks are behind it. And how many had a known answer."""
    vote, task = schema.vote, schema.task
    mine = select(task.c.project, func.count()).select_from(vote).join(task, task.c.id == vote.c.task)
    here = task.c.project.in_((project, beside(project))) & (vote.c.labeler == labeler)
    with store.reading() as connection:
        rows = connection.execute(mine.where(here, LIVE).group_by(task.c.project))
        counts = {row[0]: row[1] for row in rows}
    return sum(counts.values()), counts.get(beside(project), 0)


def _median(values: list[int]) -> float | None:
    if not values:
        return None
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
