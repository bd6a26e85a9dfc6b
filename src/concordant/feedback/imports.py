"""Preferences from a file, kept as if their labelers had voted here: training always reads the view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from concordant.data.types import Preference
from concordant.feedback import schema
from concordant.feedback.database import insert_missing
from concordant.feedback.ids import content_id, now_ms
from concordant.feedback.leasing import recount
from concordant.feedback.store import Store
from concordant.feedback.votes import check_payload, prefer, tie


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
    producer = {"imported": labeler}
    completions = [
        (one.prompt, side, producer, None) for one in preferences for side in (one.chosen, one.rejected)
    ]
    ids = store.add_completions(completions, source="import")
    pairs = list(zip(ids[::2], ids[1::2], strict=True))
    created = store.create_tasks("pairwise", pairs, policy={"selector": "import"})
    rows = []
    turns: Counter[str] = Counter()
    for one, pair, task in zip(preferences, pairs, created.ids, strict=True):
        if task is not None:
            turns[task] += 1
            rows.append((task, turns[task], pair, one))
    labelers = _labelers(store, labeler, kind, max(turns.values(), default=0))
    with store.writing() as connection:
        kept = _keep_votes(connection, rows, labelers)
    return Imported(len(preferences), kept, len(rows) - kept, created.too_few)


def _labelers(store: Store, name: str, kind: str, n: int) -> list[str]:
    names = [name] + [f"{name} ({turn})" for turn in range(2, n + 1)]
    return [store.add_labeler(one, kind, {"imported": True}) for one in names]


Row = tuple[str, int, tuple[str, str], Preference]


def _keep_votes(connection: Connection, rows: Sequence[Row], labelers: Sequence[str]) -> int:
    """Insert the votes that are new, all at once."""
    tasks = select(schema.task.c.id, schema.task.c.rubric_version)
    rubrics = {row.id: row.rubric_version for row in connection.execute(tasks)}
    now = now_ms()
    votes = []
    for task, turn, pair, one in rows:
        payload = _payload(one, *pair)
        check_payload(payload, "pairwise", pair, one.prompt.where)
        key = content_id("import", task, labelers[turn - 1])
        votes.append(
            {
                "id": key,
                "task": task,
                "labeler": labelers[turn - 1],
                "pass": 0,
                "rubric_version": rubrics[task],
                "type": payload["type"],
                "shown": None,
                "payload": payload,
                "client": {"where": one.prompt.where} if one.prompt.where else None,
                "idempotency_key": key,
                "extra": False,
                "created": now,
            }
        )
    kept = insert_missing(connection, schema.vote, votes)
    recount(connection, sorted({row[0] for row in rows}))
    return kept


def _payload(one: Preference, chosen: str, rejected: str) -> dict[str, Any]:
    """The vote behind a preference; what a plain vote would mean anyway is left unsaid."""
    weight = {} if one.weight == 1.0 else {"weight": one.weight}
    if one.p_chosen == 0.5:
        return tie() | weight
    winner, p = (chosen, one.p_chosen) if one.p_chosen > 0.5 else (rejected, 1 - one.p_chosen)
    certain = {} if p == 1.0 else {"p": p}
    margin = {} if one.margin == 0.0 else {"margin": one.margin}
    return prefer(winner) | weight | certain | margin
