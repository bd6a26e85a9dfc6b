"""The views of a store row by row, each with the columns that say where it comes from.

They are `task` and `rubric` (ids), `labelers` (names), `order` (what each of them was shown first), `source` (where
the prompt came from), and `p_chosen`, `margin`, `weight` where the view has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy import select

from concordant.data.types import Demonstration, Judgement, Preference, Prompt
from concordant.feedback.answering.leasing import prompt_from
from concordant.feedback.database.schema import item, labeler, task
from concordant.feedback.reading.live_votes import LiveVote, LiveVotes, read_live_votes, written
from concordant.feedback.reading.views import (
    DESIRABLE,
    Mode,
    Ties,
    demonstrations_of,
    judgements_of,
    preferences_of,
)
from concordant.feedback.store import Store
from concordant.feedback.votes import revision, verdicts

Row: TypeAlias = dict[str, Any]
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Viewed:
    """The votes that a view is made from, and the names for what its rows point at."""

    live: LiveVotes
    labelers: Mapping[str, str]  # name by id
    rubrics: Mapping[str, str]  # id by task
    written: Mapping[str, Demonstration]  # by people and without a task, by id


def viewed(store: Store, project: str | None = None, dimension: str = "") -> Viewed:
    """What `preference_rows`, `kto_rows` and `sft_rows` read, of a project (id) or of all that is for training."""
    with store.reading() as connection:
        names = {row.id: row.name for row in connection.execute(select(labeler.c.id, labeler.c.name))}
        rubrics = select(task.c.id, task.c.rubric_version)
        found = {row.id: row.rubric_version for row in connection.execute(rubrics)}
    came_written = written(store) if project is None else {}
    return Viewed(read_live_votes(store, project, dimension), names, found, came_written)


def preference_rows(seen: Viewed, mode: Mode = "each", ties: Ties = "drop") -> list[tuple[Preference, Row]]:
    """Each preference of the view with the columns beside it."""
    votes = seen.live.votes
    if mode == "each":
        groups = [((one,), preferences_of(replace(seen.live, votes=(one,)), mode, ties)) for one in votes]
        return [(row, _beside_pair(seen, row, said)) for said, view in groups for row in view.preferences]
    by_task = _by_task(votes)
    view = preferences_of(seen.live, mode, ties)
    return [(row, _beside_pair(seen, row, by_task[row.group])) for row in view.preferences]


def _by_task(votes: Sequence[LiveVote]) -> dict[str, list[LiveVote]]:
    by_task: dict[str, list[LiveVote]] = {}
    for one in votes:
        by_task.setdefault(one.task_id, []).append(one)
    return by_task


def _beside_pair(seen: Viewed, row: Preference, votes: Sequence[LiveVote]) -> Row:
    pair = {row.chosen.id, row.rejected.id}
    about = [one for one in votes if pair in _pairs(seen, one)]
    orders = [_pair_order(one.shown, row.chosen.id, row.rejected.id) for one in about]
    said = {"p_chosen": row.p_chosen, "margin": row.margin, "weight": row.weight}
    return said | _beside(seen, row.group, row.prompt, about, orders)


def _pairs(seen: Viewed, vote: LiveVote) -> list[set[str]]:
    """The pairs a vote speaks of."""
    if (revised := revision(vote.payload)) is not None:
        return [{revised.better, revised.worse}]
    return [{one.better, one.worse} for one in verdicts(vote.payload, seen.live.members[vote.task_id])]


def _pair_order(shown: Sequence[str] | None, chosen: str, rejected: str) -> str:
    if shown is None or chosen not in shown or rejected not in shown:
        return UNKNOWN
    return "chosen first" if shown.index(chosen) < shown.index(rejected) else "rejected first"


def _beside(
    seen: Viewed, task_id: str, prompt: Prompt, votes: Sequence[LiveVote], orders: Sequence[str]
) -> Row:
    return {
        "task": task_id,
        "rubric": seen.rubrics.get(task_id, ""),
        "labelers": [seen.labelers[one.labeler] for one in votes],
        "order": list(orders),
        "source": prompt.where,
    }


def kto_rows(seen: Viewed, threshold: float = DESIRABLE) -> list[tuple[Judgement, Row]]:
    """Each judgement of the view with the columns beside it; one vote gives several."""
    rows = []
    for one in seen.live.votes:
        for judged in judgements_of(replace(seen.live, votes=(one,)), threshold):
            order = _place_shown(one.shown, judged.completion.id)
            beside = _beside(seen, one.task_id, judged.prompt, [one], [order])
            rows.append((judged, {"weight": judged.weight} | beside))
    return rows


def _place_shown(shown: Sequence[str] | None, completion: str) -> str:
    """As in "2 of 3"."""
    if shown is None or completion not in shown:
        return UNKNOWN
    return f"{shown.index(completion) + 1} of {len(shown)}"


def sft_rows(seen: Viewed, threshold: float = DESIRABLE) -> list[tuple[Demonstration, Row]]:
    """Each demonstration of the view with the columns beside it."""
    by_task = _by_task(seen.live.votes)
    view = demonstrations_of(seen.live, seen.written, threshold)
    rows = []
    for one, task_id in zip(view.demonstrations, view.tasks, strict=True):
        votes = by_task.get(task_id, [])
        orders = [_place_shown(vote.shown, one.completion.id) for vote in votes]
        rows.append((one, _beside(seen, task_id, one.prompt, votes, orders)))
    return rows


def prompts(store: Store, project: str | None = None) -> list[Prompt]:
    """The prompts of a project (id), or of the store, those that were never voted on too, in the order of their ids."""
    query = select(item).order_by(item.c.id)
    if project is not None:
        query = query.where(item.c.id.in_(select(task.c.item).where(task.c.project == project)))
    with store.reading() as connection:
        return [prompt_from(row) for row in connection.execute(query)]
