"""More to ask about the prompts of a project: an answer to be edited, to be rated, or to be written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from concordant.errors import UserError
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.database.schema import task
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.reading.views import standings
from concordant.feedback.store import Store
from concordant.feedback.votes import COMPARED

ASKED_MORE = ("edit", "rating", "demonstration")


def ask_more(
    store: Store,
    kind: str,
    n: int,
    *,
    project: str = DEFAULT_PROJECT,
    rubric: Mapping[str, Any] | None = None,
) -> int:
    """Ask for up to `n` edits, ratings or demonstrations; returns how many, as each prompt is asked about once a kind.

    Prompts are those whose answers the project compares, drawn at random; the chance is kept with the task. Of
    the answers to a prompt the one that the votes like best is to be edited, and all are to be rated.
    """
    if kind not in ASKED_MORE:
        raise UserError(
            f"asking for more of kind {kind!r}",
            where="ask_more",
            expected=", ".join(ASKED_MORE),
            fix="take one of these; create_tasks asks people to compare",
        )
    with store.reading() as connection:
        there = task.c.project == project
        known = set(connection.scalars(select(task.c.item).where(there, task.c.kind == kind)))
        compared = select(task.c.item, task.c.id).where(there, task.c.kind.in_(COMPARED), task.c.kind != kind)
        of_item: dict[str, str] = {}
        for row in connection.execute(compared.order_by(task.c.random_key)):
            of_item.setdefault(row.item, row.id)
    free = [key for item, key in of_item.items() if item not in known]
    chosen = free[: max(n, 0)]
    policy = {"selector": "random", "propensity": len(chosen) / len(free) if free else 1.0}
    asked = store.comparisons(chosen)
    if kind == "demonstration":
        prompts = [prompt for prompt, _ in asked]
        made = store.create_demonstration_tasks(prompts, policy=policy, rubric=rubric, project=project)
        return made.added
    groups = [[one.id for one in answers] for _, answers in asked]
    if kind == "edit":
        liked = standings(read_live_votes(store, project).deciding, set(chosen))
        groups = [[max(group, key=lambda key: liked.get(key, 0.0))] for group in groups]
    return store.create_tasks(kind, groups, policy=policy, rubric=rubric, project=project).added
