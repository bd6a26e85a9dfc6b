"""Preferences and judgements from files, kept as if their labelers had voted here: training always reads a view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from concordant.data.types import Completion, Judgement, Preference, Prompt
from concordant.feedback import schema
from concordant.feedback.database import insert_missing
from concordant.feedback.ids import content_id, now_ms
from concordant.feedback.leasing import recount
from concordant.feedback.store import Store
from concordant.feedback.tasks import DEFAULT_RUBRIC, RATING_RUBRIC
from concordant.feedback.votes import BEST, WORST, Payload, check_payload, prefer, rating, tie


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the rows of a file."""

    rows: int
    votes: int  # kept now
    repeated: int  # kept by an earlier import
    alike: int  # chosen and rejected have the same text: nothing to learn, not kept


def import_preferences(
    store: Store, preferences: Sequence[Preference], labeler: str, kind: str = "human"
) -> Imported:
    """Keep `preferences` as items, completions, pairwise tasks and votes of the labeler called `labeler`.

    The order shown is unknown and kept as such. A pair that stands in the file again was judged again, by
    somebody else: its second vote goes to "`labeler` (2)", and so on. p_chosen = 0.5 becomes a tie.
    Importing the same file twice adds nothing.
    """
    sides = [(one.prompt, side) for one in preferences for side in (one.chosen, one.rejected)]
    ids = _keep_completions(store, sides, labeler)
    pairs = zip(preferences, ids[::2], ids[1::2], strict=True)
    said = [Said(one.prompt.where, pair, _preferred(one, *pair)) for one, *pair in pairs]
    return _import(store, "pairwise", said, labeler, kind)


def import_judgements(
    store: Store, judgements: Sequence[Judgement], labeler: str, kind: str = "human"
) -> Imported:
    """Keep `judgements` as rating tasks of one completion each, the good ones rated 7 and the bad ones 1.

    The rest as in `import_preferences`.
    """
    ids = _keep_completions(store, [(one.prompt, one.completion) for one in judgements], labeler)
    rows = zip(judgements, ids, strict=True)
    said = [Said(one.prompt.where, [key], _rated(one, key)) for one, key in rows]
    return _import(store, "rating", said, labeler, kind, RATING_RUBRIC)


@dataclass(frozen=True, slots=True)
class Said:
    """A row of a file as a vote on its completions."""

    where: str
    completions: Sequence[str]
    payload: Payload


def _keep_completions(store: Store, rows: Sequence[tuple[Prompt, Completion]], labeler: str) -> list[str]:
    producer = {"imported": labeler}
    sampled = [(prompt, completion, producer, None) for prompt, completion in rows]
    return store.add_completions(sampled, source="import")


def _import(
    store: Store,
    task_kind: str,
    said: Sequence[Said],
    labeler: str,
    kind: str,
    rubric: Mapping[str, Any] = DEFAULT_RUBRIC,
) -> Imported:
    """Keep a task and a vote for each of `said`; the n-th vote on a task is that of the n-th labeler."""
    groups = [one.completions for one in said]
    created = store.create_tasks(task_kind, groups, policy={"selector": "import"}, rubric=rubric)
    rows = []
    turns: Counter[str] = Counter()
    for one, task in zip(said, created.ids, strict=True):
        if task is not None:
            turns[task] += 1
            rows.append((task, turns[task], one))
    labelers = _labelers(store, labeler, kind, max(turns.values(), default=0))
    with store.writing() as connection:
        kept = _keep_votes(connection, task_kind, rows, labelers)
    return Imported(len(said), kept, len(rows) - kept, created.too_few)


def _labelers(store: Store, name: str, kind: str, n: int) -> list[str]:
    names = [name] + [f"{name} ({turn})" for turn in range(2, n + 1)]
    return [store.add_labeler(one, kind, {"imported": True}) for one in names]


def _keep_votes(
    connection: Connection, kind: str, rows: Sequence[tuple[str, int, Said]], labelers: Sequence[str]
) -> int:
    """Insert the votes that are new, all at once."""
    tasks = select(schema.task.c.id, schema.task.c.rubric_version)
    rubrics = {row.id: row.rubric_version for row in connection.execute(tasks)}
    now = now_ms()
    votes = []
    for task, turn, one in rows:
        check_payload(one.payload, kind, one.completions, one.where)
        key = content_id("import", task, labelers[turn - 1])
        votes.append(
            {
                "id": key,
                "task": task,
                "labeler": labelers[turn - 1],
                "pass": 0,
                "rubric_version": rubrics[task],
                "type": one.payload["type"],
                "shown": None,
                "payload": one.payload,
                "client": {"where": one.where} if one.where else None,
                "idempotency_key": key,
                "extra": False,
                "created": now,
            }
        )
    kept = insert_missing(connection, schema.vote, votes)
    recount(connection, sorted({row[0] for row in rows}))
    return kept


# The votes behind the rows of a file; what a plain vote would mean anyway is left unsaid.


def _preferred(one: Preference, chosen: str, rejected: str) -> dict[str, Any]:
    if one.p_chosen == 0.5:
        return tie() | _weight(one)
    winner, p = (chosen, one.p_chosen) if one.p_chosen > 0.5 else (rejected, 1 - one.p_chosen)
    certain = {} if p == 1.0 else {"p": p}
    margin = {} if one.margin == 0.0 else {"margin": one.margin}
    return prefer(winner) | _weight(one) | certain | margin


def _rated(one: Judgement, completion: str) -> dict[str, Any]:
    return rating({completion: {"overall": BEST if one.desirable else WORST}}) | _weight(one)


def _weight(one: Preference | Judgement) -> dict[str, float]:
    return {} if one.weight == 1.0 else {"weight": one.weight}
