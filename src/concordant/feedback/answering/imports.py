"""Preferences and judgements from files, kept as if their labelers had voted here: training always reads a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from concordant.data.types import Judgement, Preference
from concordant.feedback.exchange.ballots import Ballot, person
from concordant.feedback.exchange.keeping import keep
from concordant.feedback.exchange.layouts import judgement_ballot, preference_ballot
from concordant.feedback.store import Store


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
    return _import(store, [preference_ballot(one, person(labeler, kind)) for one in preferences])


def import_judgements(
    store: Store, judgements: Sequence[Judgement], labeler: str, kind: str = "human"
) -> Imported:
    """Keep `judgements` as rating tasks of one completion each, the good ones rated 7 and the bad ones 1.

    The rest as in `import_preferences`.
    """
    return _import(store, [judgement_ballot(one, person(labeler, kind)) for one in judgements])


def _import(store: Store, ballots: Sequence[Ballot]) -> Imported:
    kept = keep(store, ballots)
    alike = sum(problem.kind == "identical" for problem in kept.problems)
    return Imported(len(ballots), kept.votes, len(ballots) - kept.votes - alike, alike)
