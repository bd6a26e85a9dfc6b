"""The views of a store row by row, each with the columns that say where it comes from.

They are `task` and `rubric` (ids), `labelers` (names), `order` (what each of them was shown first), `source` (where
the prompt came from), and `p_chosen`, `margin`, `weight` where the view has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy import select

from concordant.data.types import Completion, Judgement, Preference, Prompt
from concordant.feedback.leasing import prompt_from
from concordant.feedback.live_votes import LiveVote, LiveVotes, read_live_votes
from concordant.feedback.schema import item, labeler, task
from concordant.feedback.store import Store
from concordant.feedback.views import DESIRABLE, Mode, Ties, judgements_of, preferences_of, standings
from concordant.feedback.votes import verdicts

Row: TypeAlias = dict[str, Any]
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Viewed:
    """The votes that a view is made from, and the names for what its rows point at."""

    live: LiveVotes
    labelers: Mapping[str, str]  # name by id
    rubrics: Mapping[str, str]  # id by task


def viewed(store: Store, project: str | None = None) -> Viewed:
    """What `preference_rows`, `kto_rows` and `sft_rows` read, of a project (id) or of all that is for training."""
    with store.reading() as connection:
        names = {row.id: row.name for row in connection.execute(select(labeler.c.id, labeler.c.name))}
        rubrics = select(task.c.id, task.c.rubric_version)
        found = {row.id: row.rubric_version for row in connection.execute(rubrics)}
    return Viewed(read_live_votes(store, project), names, found)


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
    about = [
        one
        for one in votes
        if any(
            {said.better, said.worse} == pair
            for said in verdicts(one.payload, seen.live.members[one.task_id])
        )
    ]
    orders = [_pair_order(one.shown, row.chosen.id, row.rejected.id) for one in about]
    said = {"p_chosen": row.p_chosen, "margin": row.margin, "weight": row.weight}
    return said | _beside(seen, row.group, row.prompt, about, orders)


def _pair_order(shown: Sequence[str] | None, chosen: str, rejected: str) -> str:
    if shown is None or chosen not in shown or rejected not in shown:
        return UNKNOWN
    return "chosen first" if shown.index(chosen) < shown.index(rejected) else "rejected first"


def _beside(
    seen: Viewed, task_id: str, prompt: Prompt, votes: Sequence[LiveVote], orders: Sequence[str]
) -> Row:
    return {
        "task": task_id,
        "rubric": seen.rubrics[task_id],
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


def sft_rows(seen: Viewed, threshold: float = DESIRABLE) -> list[tuple[Prompt, Completion, Row]]:
    """Completions to imitate, in the order of their tasks.

    Of a comparison: those that most of their rivals stand below, counted over its votes, ties as half, and that
    nobody called unacceptable. Of ratings: those that the votes on the whole call good.
    """
    rows = []
    for task_id, votes in _by_task(seen.live.votes).items():
        live = replace(seen.live, votes=tuple(votes))
        rated = all(one.payload["type"] == "rating" for one in votes)
        best = _liked(live, threshold) if rated else _leading(live, task_id)
        prompt = seen.live.prompts[task_id]
        for key in seen.live.members[task_id]:
            if key in best and key not in live.erased:
                orders = [_place_shown(one.shown, key) for one in votes]
                beside = _beside(seen, task_id, prompt, votes, orders)
                rows.append((prompt, seen.live.completions[key], beside))
    return rows


def _liked(live: LiveVotes, threshold: float) -> set[str]:
    net: dict[str, float] = {}
    for one in judgements_of(live, threshold):
        key = one.completion.id
        net[key] = net.get(key, 0.0) + (one.weight if one.desirable else -one.weight)
    return {key for key, lean in net.items() if lean > 0}


def _leading(live: LiveVotes, task_id: str) -> set[str]:
    shares = standings(live, {task_id})
    members = live.members[task_id]
    most = max(shares.values(), default=0.0)
    bad = {key for one in live.votes for key in _refused(one, members)}
    return {key for key, share in shares.items() if share == most > 0.5 and key not in bad}


def _refused(one: LiveVote, members: Sequence[str]) -> Sequence[str]:
    """The completions that a vote says will not do."""
    both = one.payload.get("verdict") == "both_bad"
    return members if both else one.payload.get("unacceptable", ())


def prompts(store: Store, project: str | None = None) -> list[Prompt]:
    """The prompts of a project (id), or of the store, those that were never voted on too, in the order of their ids."""
    query = select(item).order_by(item.c.id)
    if project is not None:
        query = query.where(item.c.id.in_(select(task.c.item).where(task.c.project == project)))
    with store.reading() as connection:
        return [prompt_from(row) for row in connection.execute(query)]
