"""How often each labeler preferred what is better by the gold reward, where a world knows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache

from sqlalchemy import select

from concordant.data.types import Prompt
from concordant.feedback.database.schema import labeler
from concordant.feedback.reading.agreement import Rate, clustered_rate
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.store import Store
from concordant.feedback.votes import verdicts


def against_gold(store: Store, gold: Callable[[Prompt, str], float | None]) -> dict[str, Rate]:
    """By labeler (name and kind): share of decided pairs in which the better one by gold won, one share a vote.

    Pairs that gold does not tell apart are left out, and so are prompts of which it knows nothing (None): people may
    have written them.
    """
    live = read_live_votes(store)

    @cache
    def worth(task: str, completion: str) -> float | None:
        return gold(live.prompts[task], live.completions[completion].text)

    shares: dict[str, list[float]] = defaultdict(list)
    prompts: dict[str, list[str]] = defaultdict(list)
    for vote in live.votes:
        right = []
        for said in verdicts(vote.payload, live.members[vote.task_id]):
            better, worse = worth(vote.task_id, said.better), worth(vote.task_id, said.worse)
            if said.decided and better is not None and worse is not None and better != worse:
                right.append(better > worse)
        if right:
            shares[vote.labeler].append(sum(right) / len(right))
            prompts[vote.labeler].append(live.prompts[vote.task_id].id)
    with store.reading() as connection:
        names = {row.id: f"{row.name} ({row.kind})" for row in connection.execute(select(labeler))}
    return {
        names[key]: clustered_rate(shares[key], prompts[key]) for key in sorted(shares, key=names.__getitem__)
    }
