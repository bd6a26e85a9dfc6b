"""Whether people have answered as much as a recipe wants, before anything is learnt from their votes."""

from __future__ import annotations

from pathlib import Path

from concordant.pipeline.interrupt import WaitingForPeople
from concordant.pipeline.recipe import Recipe


def wait_for_people(recipe: Recipe, address: str | Path) -> None:
    """Raise WaitingForPeople until enough questions in the store have a person's answer.

    A question that people have only skipped or flagged is not waited for.
    """
    settings = recipe.feedback
    if "human" not in settings.source:
        return
    from concordant.feedback.reading.projects import answered_by_people
    from concordant.feedback.store import Store

    with Store.open(address) as store:
        answered, passed, asked = answered_by_people(store)
    wanted = min(settings.people or (asked if settings.source == "human" else 0), asked - passed)
    if answered < wanted:
        raise WaitingForPeople(answered, wanted)
