"""What the votes of a run are like."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from concordant.evaluation.labelers import against_gold
from concordant.feedback.reading.summary import summarise
from concordant.feedback.store import Store
from concordant.pipeline.context import Context


def measure_votes(context: Context) -> dict[str, Any]:
    """Counts and agreement; where a world knows the truth, also how often each labeler tells it."""
    world = context.material.world
    with Store.open(context.store) as store:
        found = summarise(store)
        if world is not None:
            rates = against_gold(
                store, lambda prompt, text: world.gold(prompt, text).total if world.knows(prompt) else None
            )
            found["against_gold"] = {name: asdict(one) for name, one in rates.items()}
    return found
