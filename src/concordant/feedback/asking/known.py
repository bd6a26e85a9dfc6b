"""Questions with a known answer among the others: labelers cannot tell them apart, and a lead sees who gives it.

They live in a project of their own beside the one they are for, so that no count, no view and no closing of
questions has to know of them. Which of a labeler's questions are taken from there is drawn once and for all by
project and labeler: one of every so many, at a place that nobody can foresee.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.sql.elements import ColumnElement

from concordant.errors import UserError
from concordant.feedback.answering.disputes import decide
from concordant.feedback.answering.leasing import give_leases, lock_tasks, with_questions
from concordant.feedback.answering.statements import LABELER, LIVE, NOW
from concordant.feedback.asking.practice import EVERYBODY, share_right
from concordant.feedback.asking.tasks import write_tasks
from concordant.feedback.database import schema
from concordant.feedback.database.layout import project_row
from concordant.feedback.database.queries import audit, insert_missing
from concordant.feedback.ids import content_id
from concordant.feedback.missing import not_an_answer
from concordant.feedback.reading.agreement import Rate, rate
from concordant.feedback.reading.answered import Answered, questions
from concordant.feedback.store import Store
from concordant.feedback.votes import Lease, Payload
from concordant.seeds import derive

KINDS = ("pairwise", "ranking")  # of which one answer can be known to be the best


def beside(project: str) -> str:
    """The project (id) that holds the questions with a known answer for this one (id)."""
    return content_id("project", f"known answers for {project}", "practice")


KNOWN_FOR = "known_for"  # of the settings of a project that holds questions with a known answer


def holds_known(settings: Mapping[str, Any]) -> bool:
    """Whether a project with these settings holds the questions with a known answer for another."""
    return KNOWN_FOR in settings


def asked_for(store: Store, project: str) -> str:
    """The project (id) that a labeler works at: of one with known answers, the one they are for."""
    with store.reading() as connection:
        settings = connection.scalar(select(schema.project.c.settings).where(schema.project.c.id == project))
    return str((settings or {}).get(KNOWN_FOR, project))


# Making them


def add_known(
    store: Store,
    project: str,
    group: Sequence[str],
    better: str,
    why: str,
    *,
    rubric: Mapping[str, Any],
    labeler: str | None = None,
) -> str:
    """Ask everybody at work on `project` (id) about these completions (ids), of which `better` is known to be the best.

    Returns the task. Asked again it takes the new answer and explanation. Errors: UserError for completions
    that are not there or are the same text, and for a `better` that is not among them.
    """
    with store.writing() as connection:
        return _ask_everybody(connection, project, group, better, why, rubric, store.now(), labeler)


def make_known(store: Store, task_id: str, labeler: str, payload: Payload, why: str) -> str:
    """Decide an answered question, and ask it of everybody who has not answered it yet; returns the new task.

    What was decided is learnt from in place of the votes, and the question itself is asked no more. Errors:
    UserError for a question that nobody has answered, or of a kind without a best answer, and for a payload that
    takes no side.
    """
    task, rubric, project = schema.task, schema.rubric_version, schema.project
    better = _best(payload)
    with store.writing() as connection:
        lock_tasks(connection, [task_id])
        facts = select(task.c.project, task.c.kind, task.c.n_done, rubric.c.body)
        facts = facts.join(rubric, rubric.c.id == task.c.rubric_version)
        facts = facts.join(project, project.c.id == task.c.project).where(project.c.purpose != "practice")
        row = connection.execute(facts.where(task.c.id == task_id)).one_or_none()
        if row is None or row.kind not in KINDS or not row.n_done:
            raise UserError(
                "this question cannot be one with a known answer",
                where=f"task {task_id}",
                expected=f"an answered one of kind {' or '.join(KINDS)}",
                fix="take another one, or answer it first",
            )
        decide(connection, task_id, labeler, payload, why, store.now())
        member = schema.task_completion.c
        group = select(member.completion).where(member.task == task_id).order_by(member.position)
        shown = list(connection.scalars(group))
        return _ask_everybody(
            connection, row.project, shown, better, why, row.body, store.now(), labeler, origin=task_id
        )


def withdraw(store: Store, task_id: str, labeler: str | None = None) -> None:
    """Ask a question with a known answer no more; what was said to it counts no more.

    Errors: UserError where it is not one.
    """
    task, gold = schema.task, schema.gold
    with store.writing() as connection:
        found = select(gold.c.task).where(gold.c.task == task_id, ~gold.c.feedback_shown)
        if connection.scalar(found) is None:
            raise UserError(
                "this is no question with a known answer",
                where=f"task {task_id}",
                expected="one that the page of known answers shows",
                fix="load the page again: somebody else may have withdrawn it",
            )
        connection.execute(update(task).where(task.c.id == task_id).values(state="cancelled"))
        audit(connection, "withdraw", "known answer", {"task": task_id}, store.now(), labeler=labeler)


def _best(payload: Payload) -> str:
    """The one answer that a verdict puts above all others."""
    if payload["type"] == "pairwise" and payload.get("winner"):
        return str(payload["winner"])
    if payload["type"] == "ranking" and len(payload["tiers"][0]) == 1:
        return str(payload["tiers"][0][0])
    raise UserError(
        "no single answer is the best",
        where="the known answer",
        expected="one that is better than all others",
        fix="choose one, or take another question",
    )


def _ask_everybody(
    connection: Connection,
    project: str,
    group: Sequence[str],
    better: str,
    why: str,
    rubric: Mapping[str, Any],
    now: int,
    labeler: str | None,
    *,
    origin: str | None = None,
) -> str:
    if better not in group:
        raise not_an_answer(better, group, "the known answer")
    row = project_row(beside(project), f"known answers for {project}", now, "practice")
    insert_missing(connection, schema.project, [row | {"settings": {KNOWN_FOR: project}}])
    kind = "pairwise" if len(group) == 2 else "ranking"
    shared = {"kind": kind, "need": EVERYBODY, "priority": 0.0, "policy": {}, "project": row["id"]}
    (key,) = write_tasks(connection, [group], shared, rubric, now).ids
    if key is None:
        raise UserError(
            "these answers are the same text",
            where="the known answer",
            expected="different answers, one of them better",
            fix="take another question",
        )
    connection.execute(delete(schema.gold).where(schema.gold.c.task == key))
    known = {"task": key, "tolerance": 0.0, "feedback_shown": False, "explanation": why}
    expected = {"better": better} | ({"origin": origin} if origin else {})
    connection.execute(insert(schema.gold), known | {"expected": expected})
    connection.execute(update(schema.task).where(schema.task.c.id == key).values(state="open"))
    detail = {"task": key, "project": project, "better": better, "origin": origin}
    audit(connection, "make", "known answer", detail, now, labeler=labeler)
    return key


# Mixing them in


def next_leases(store: Store, labeler: str, n: int, project: str, every: int) -> list[Lease]:
    """Up to `n` leases of a project (id), in the order in which to show them: one of `every` has a known answer.

    Those still held are among them. Nobody meets a known answer twice, or one whose question they answered before.
    """
    met = _met(store, labeler, project) if every else _Met(0, (), ())
    if not met.fresh and not met.held:
        return store.lease_many(labeler, n, project=project)
    places = [
        at for at in range(n - met.ahead) if _is_known(project, labeler, met.behind + met.ahead + at, every)
    ]
    taken = dict(zip(met.fresh, places, strict=False))
    wanted = [*met.held, *taken]
    now = store.now()
    with store.writing() as connection:
        mixed_in = give_leases(connection, labeler, len(wanted), now, wanted) if wanted else []
        others = give_leases(connection, labeler, max(0, n - len(mixed_in)), now, None, project)
    with store.looking_up() as connection:
        known, rest = with_questions(connection, mixed_in), with_questions(connection, others)
    for lease in sorted(known, key=lambda one: taken.get(one.comparison.task_id, -1)):
        new = lease.comparison.task_id in taken
        at = met.ahead + taken[lease.comparison.task_id] if new else derive(lease.token) % (len(rest) + 1)
        rest.insert(at, lease)
    return rest


def _is_known(project: str, labeler: str, number: int, every: int) -> bool:
    """Whether a labeler's question of this number, from 0, is one with a known answer: one in each block of `every`."""
    block, place = divmod(number, every)
    return derive("known answer", project, labeler, block) % every == place


@dataclass(frozen=True, slots=True)
class _Met:
    """Where a labeler is in a project."""

    behind: int  # questions answered or passed over
    held: tuple[str, ...]  # tasks with a known answer that it holds
    fresh: tuple[str, ...]  # those it may meet, in an order of its own
    ahead: int = 0  # questions held, those with a known answer too


def _met(store: Store, labeler: str, project: str) -> _Met:
    given = {"labeler": labeler, "now": store.now(), "projects": [project, beside(project)]}
    with store.reading() as connection:
        known = _asked_now(connection, project)
        if not known:
            return _Met(0, (), ())
        leased = connection.scalars(_LEASED, given).all()
        behind = connection.scalar(_BEHIND, given) or 0
        asked = [*known, *_origins(known)]
        answered = set(connection.scalars(_ANSWERED, given | {"tasks": asked}))
    held = tuple(key for key in leased if key in known)
    seen = answered.union(leased)
    fresh = [key for key, expected in known.items() if not {key, expected.get("origin")} & seen]
    fresh.sort(key=lambda key: derive("known answer", labeler, key))
    return _Met(behind, held, tuple(fresh), len(leased))


def _asked_now(connection: Connection, project: str) -> dict[str, Mapping[str, Any]]:
    """What is expected, by task, of the questions with a known answer that are asked in a project (id)."""
    rows = connection.execute(_EXPECTED, {"beside": beside(project)})
    return {row.task: row.expected for row in rows}


def _asked_in(key: str | BindParameter[str]) -> ColumnElement[bool]:
    """Condition on `task`: in the project `key`, and not withdrawn. Nobody's answer closes these tasks."""
    return (schema.task.c.project == key) & (schema.task.c.state != "cancelled")


# Put together once, as in `statements`. Tasks are looked up from the few there are in `gold`, where an engine left
# to itself may begin with every task.
_EXPECTED = select(schema.gold.c.task, schema.gold.c.expected).where(
    exists().where(schema.task.c.id == schema.gold.c.task, _asked_in(bindparam("beside")))
)
_HERE = schema.task.c.project.in_(bindparam("projects", expanding=True))
_LEASED = (
    select(schema.lease.c.task)
    .join(schema.task)
    .where(schema.lease.c.labeler == LABELER, schema.lease.c.expires > NOW, _HERE)
)
_MINE = select(schema.vote.c.task).where(schema.vote.c.labeler == LABELER, LIVE)
_BEHIND = select(func.count()).select_from(_MINE.join(schema.task).where(_HERE).subquery())
_ANSWERED = _MINE.where(schema.vote.c.task.in_(bindparam("tasks", expanding=True)))


def origins(store: Store, project: str) -> set[str]:
    """The questions (tasks) of a project (id) whose answer a lead has made a known one."""
    with store.reading() as connection:
        return _origins(_asked_now(connection, project))


def _origins(known: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {str(expected["origin"]) for expected in known.values() if "origin" in expected}


# What they show


@dataclass(frozen=True, slots=True)
class Known:
    """A question with a known answer, and how often it was given."""

    question: Answered
    better: str
    why: str
    right: tuple[float | None, ...]  # for each labeler of `question.said`, as `share_right`

    @property
    def rate(self) -> Rate:
        """Share of the labelers who gave it."""
        return rate([share for share in self.right if share is not None])


def known_answers(store: Store, project: str, n: int = 1_000, *, after: int = 0) -> list[Known]:
    """Up to `n` questions with a known answer that are asked in a project (id), `after` so many, the newest first."""
    gold = schema.gold
    found = questions(store, _asked_in(beside(project)), n, after=after, newest=True)
    with store.reading() as connection:
        known = select(gold).where(gold.c.task.in_([one.task for one in found]))
        facts = {row.task: row for row in connection.execute(known)}
    rows = []
    for one in found:
        members = [completion.id for completion in one.completions]
        better = facts[one.task].expected["better"]
        right = tuple(share_right(payload, members, better) for _, payload in one.said)
        rows.append(Known(one, better, facts[one.task].explanation, right))
    return rows


def gold_scores(store: Store, project: str | None = None) -> Mapping[str, Rate]:
    """By labeler (id): how often the known answer was given, of those who work at a project (id), or anywhere.

    Exercises do not count: their answers are explained. Nor does what was withdrawn.
    """
    task, vote, gold, members = schema.task, schema.vote, schema.gold, schema.task_completion
    asked = (task.c.state != "cancelled") & ~gold.c.feedback_shown & LIVE
    if project is not None:
        asked &= task.c.project.in_((project, beside(project)))
    with store.reading() as connection:
        query = select(vote.c.labeler, vote.c.task, vote.c.payload, gold.c.expected)
        query = query.join(gold, gold.c.task == vote.c.task).join(task, task.c.id == vote.c.task)
        rows = connection.execute(query.where(asked)).all()
        of_task: dict[str, list[str]] = defaultdict(list)
        for row in connection.execute(select(members).where(members.c.task.in_(select(gold.c.task)))):
            of_task[row.task].append(row.completion)
    shares: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        share = share_right(row.payload, of_task[row.task], row.expected["better"])
        if share is not None:
            shares[row.labeler].append(share)
    return {labeler: rate(found) for labeler, found in shares.items()}


def below_others(rates: Mapping[str, Rate]) -> Collection[str]:
    """Labelers (ids) who surely give fewer known answers than all others together: questions may be hard for all.

    Their 95 % interval ends below the share of the others.
    """
    total = sum(one.n for one in rates.values())
    right = sum(one.n * one.value for one in rates.values() if one.n)
    return {
        key
        for key, one in rates.items()
        if 0 < one.n < total and one.high < (right - one.n * one.value) / (total - one.n)
    }
