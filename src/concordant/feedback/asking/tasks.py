"""Turning groups of completions into tasks for labelers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, func, select, update

from concordant.errors import UserError
from concordant.feedback.answering.leasing import lock_tasks, recount
from concordant.feedback.asking.overlap import settle
from concordant.feedback.database import schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.database.queries import audit, chunks, insert_missing, known, serialise
from concordant.feedback.ids import canonical, content_id
from concordant.seeds import derive

_LEAST = {"pairwise": 2, "ranking": 2, "rating": 1, "edit": 1}  # completions of a task, by its kind
_MOST = {"pairwise": 2, "edit": 1}


@dataclass(frozen=True, slots=True)
class TasksCreated:
    """What became of the groups given to `create_tasks`; `ids` has None where a group gave no task."""

    ids: tuple[str | None, ...]
    added: int  # tasks that were not there before
    alike: int  # completions left out because another of their group has the same text
    too_few: int  # groups to compare with fewer than two different texts: nothing to say


def write_tasks(
    connection: Connection,
    groups: Sequence[Sequence[str]],
    shared: Mapping[str, Any],
    rubric: Mapping[str, Any],
    now: int,
) -> TasksCreated:
    """Add a task for each group of completion ids; `shared` has kind, need, priority and policy.

    Errors: UserError for a kind that takes no groups, unknown completions, completions to several prompts.
    """
    kind = shared["kind"]
    if kind not in _LEAST:
        raise UserError(
            f"tasks of kind {kind!r} with completions",
            where="create_tasks",
            expected=", ".join(_LEAST),
            fix="take one of these; ask_more asks for answers to a prompt that has none",
        )
    serialise(connection, "tasks")
    rubric_id = _add_rubric(connection, rubric, now)
    drafts: dict[str, Draft] = {}
    ids: list[str | None] = []
    alike = 0
    for item, group, left_out in _distinct(connection, groups):
        _check_size(kind, group)
        alike += left_out
        ids.append(None)
        if len(group) >= _LEAST[kind]:
            key = content_id("task", kind, sorted(group), rubric_id, *_project_part(shared["project"]))
            ids[-1] = key
            drafts[key] = (item, group)
    added = _add(connection, drafts, {**shared, "rubric_version": rubric_id}, now)
    return TasksCreated(tuple(ids), added, alike, ids.count(None))


def write_demonstration_tasks(
    connection: Connection,
    items: Sequence[str],
    shared: Mapping[str, Any],
    rubric: Mapping[str, Any],
    now: int,
) -> TasksCreated:
    """Add a task for each item (id): an answer is to be written to it; `shared` as in `write_tasks`."""
    serialise(connection, "tasks")
    rubric_id = _add_rubric(connection, rubric, now)
    part = _project_part(shared["project"])
    ids = [content_id("task", "demonstration", [item], rubric_id, *part) for item in items]
    drafts: dict[str, Draft] = {key: (item, []) for key, item in zip(ids, items, strict=True)}
    settings = {**shared, "kind": "demonstration", "rubric_version": rubric_id}
    return TasksCreated(tuple(ids), _add(connection, drafts, settings, now), 0, 0)


def _project_part(project: str) -> tuple[Any, ...]:
    """What the project adds to the id of a task: ids of the default one are as they were before there were others."""
    return (0 if project == DEFAULT_PROJECT else project,)


Draft = tuple[str, list[str]]  # item, completions


def _add(connection: Connection, drafts: Mapping[str, Draft], shared: Mapping[str, Any], now: int) -> int:
    """Insert the tasks that are new, and let the others want as many labelers as is asked now."""
    there = known(connection, schema.task.c.id, list(drafts))
    for some in chunks(sorted(there)):
        wanting = schema.task.c.id.in_(some) & (schema.task.c.need < shared["need"])
        connection.execute(update(schema.task).where(wanting).values(need=shared["need"]))
    lock_tasks(connection, there)
    most = shared["policy"].get("most")
    for key in sorted(there) if most else ():
        known_policy = connection.scalar(select(schema.task.c.policy).where(schema.task.c.id == key)) or {}
        merged = {**known_policy, "most": most}
        connection.execute(update(schema.task).where(schema.task.c.id == key).values(policy=merged))
    recount(connection, sorted(there))
    if most:
        settle(connection, sorted(there))
    first = (connection.scalar(select(func.max(schema.task.c.seq))) or 0) + 1
    fresh = [key for key in drafts if key not in there]
    rows = [_task_row(key, drafts[key][0], first + n, shared, now) for n, key in enumerate(fresh)]
    insert_missing(connection, schema.task, rows)
    members = [
        {"task": key, "completion": completion, "position": position}
        for key in fresh
        for position, completion in enumerate(drafts[key][1])
    ]
    insert_missing(connection, schema.task_completion, members)
    if fresh:
        audit(connection, "create", "task", {"n": len(fresh), "policy": shared["policy"]}, now)
    return len(fresh)


def _task_row(key: str, item: str, seq: int, shared: Mapping[str, Any], now: int) -> dict[str, Any]:
    return {
        **shared,
        "id": key,
        "item": item,
        "seq": seq,
        "n_done": 0,
        "state": "open",
        "random_key": derive(key),
        "created": now,
    }


def _add_rubric(connection: Connection, rubric: Mapping[str, Any], now: int) -> str:
    digest = sha256(canonical(rubric).encode()).hexdigest()
    row = {"id": content_id("rubric", digest), "sha256": digest, "body": dict(rubric), "created": now}
    insert_missing(connection, schema.rubric_version, [row])
    return str(row["id"])


def _distinct(
    connection: Connection, groups: Sequence[Sequence[str]]
) -> Iterator[tuple[str, list[str], int]]:
    """Item of each group, its completions with different texts, and how many were left out for that."""
    column = schema.completion.c
    wanted = sorted({key for group in groups for key in group})
    facts: dict[str, tuple[str, str]] = {}
    for some in chunks(wanted):
        query = select(column.id, column.item, column.sha256).where(column.id.in_(some))
        facts |= {row.id: (row.item, row.sha256) for row in connection.execute(query)}
    for group in groups:
        first_with: dict[str, str] = {}
        for key in group:
            if key not in facts:
                raise UserError(
                    f"no completion has the id {key}",
                    where="a group of completions",
                    expected="completions of this store",
                    fix="keep it with add_completions first",
                )
            first_with.setdefault(facts[key][1], key)
        items = {facts[key][0] for key in group}
        if len(items) != 1:
            raise UserError(
                f"a group of completions to {len(items)} prompts",
                where="a group of completions",
                expected="one completion or more, all of them to one prompt",
                fix="make a group for each prompt",
            )
        yield items.pop(), list(first_with.values()), len(group) - len(first_with)


def _check_size(kind: str, group: Sequence[str]) -> None:
    most = _MOST.get(kind, len(group))
    if len(group) > most:
        raise UserError(
            f"a {kind} task of {len(group)} completions",
            where="a group of completions",
            expected=f"at most {most}",
            fix="use kind ranking" if kind == "pairwise" else "make a task of each",
        )
