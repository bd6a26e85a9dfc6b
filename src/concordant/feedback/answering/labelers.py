"""Labelers of any kind behind one small protocol, and the driver that lets them answer the open tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from concordant.feedback.database.queries import chunks
from concordant.feedback.store import Store, Unfinished
from concordant.feedback.votes import Comparison, Submission, Vote
from concordant.seeds import derive

CHUNK = 500  # tasks leased and handed in together; a crash costs at most this many labels


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a labeler is in the store: with other settings it is another labeler."""

    name: str
    kind: str
    settings: Mapping[str, Any]


class Labeler(Protocol):
    """Somebody or something that compares completions."""

    @property
    def identity(self) -> Identity:
        """Under whose name the votes are kept."""

    def label(self, comparisons: Sequence[Comparison]) -> list[Vote]:
        """One vote for each comparison, in the same order; a skip is a vote."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What `collect` did: votes kept, and tasks that still want labelers (too few, or leased away)."""

    votes: int
    open_tasks: int


def collect(
    store: Store,
    labelers: Sequence[Labeler],
    *,
    seed: int = 0,
    project: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Collected:
    """Let `labelers` answer the open tasks; `progress` is told (votes so far, votes planned).

    They are those of `project` (id), or of all whose votes are for training.

    Who answers which task is drawn from (seed, task, labeler) alone, so a call that was interrupted and made
    again ends with the votes of one that was not, and a call with nothing missing adds nothing.
    """
    by_id = {
        store.add_labeler(one.identity.name, one.identity.kind, one.identity.settings): one
        for one in labelers
    }
    kept = 0
    while True:
        plan = _plan(store.unfinished(project), sorted(by_id), seed)
        planned = kept + sum(map(len, plan.values()))
        before = kept
        for labeler_id, tasks in plan.items():
            for some in chunks(tasks, CHUNK):
                kept += _work(store, labeler_id, by_id[labeler_id], some)
                if progress is not None:
                    progress(kept, planned)
        if kept == before:
            return Collected(kept, len(store.unfinished(project)))


def _plan(tasks: Sequence[Unfinished], labelers: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Tasks for each labeler: an open task goes to as many as it wants, in an order of its own."""
    plan: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        willing = [labeler for labeler in labelers if labeler not in task.answered_by]
        willing.sort(key=lambda labeler: derive("assign", seed, task.task_id, labeler))
        for labeler in willing[: task.missing]:
            plan[labeler].append(task.task_id)
    return plan


def _work(store: Store, labeler_id: str, labeler: Labeler, tasks: Sequence[str]) -> int:
    leases = store.lease_many(labeler_id, len(tasks), among=tasks)
    if not leases:
        return 0
    try:
        votes = labeler.label([lease.comparison for lease in leases])
    except BaseException:
        store.release(leases)
        raise
    submissions = [
        Submission(lease.token, f"{lease.token}:{vote.pass_index}", vote)
        for lease, vote in zip(leases, votes, strict=True)
    ]
    return sum(not receipt.repeated for receipt in store.submit_many(submissions))
