"""A board of those who made the completions, such as models or stages of a run, from the votes of a store."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import select

from concordant.feedback.aggregation.bradley_terry import fit_board
from concordant.feedback.aggregation.contests import from_live_votes
from concordant.feedback.aggregation.influence import Absence, capped, without_each
from concordant.feedback.aggregation.intervals import Place, uncertainty
from concordant.feedback.database.schema import completion
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.store import Store


@dataclass(frozen=True)
class Board:
    """Makers with their scores, best first, and what the board would be without each labeler (ids)."""

    places: tuple[Place, ...]
    absences: tuple[Absence, ...]
    votes: int


def board(store: Store, project: str | None = None, most: int | None = None) -> Board | None:
    """The board of a project (id), or of all votes for training; None where no vote is about two makers.

    `most` caps what the votes of one labeler weigh. Errors: UserError where the votes do not put all makers on
    one scale.
    """
    live = read_live_votes(store, project)
    makers = _makers(store)
    known = {task for task, members in live.members.items() if all(key in makers for key in members)}
    several = {task for task in known if len({makers[key] for key in live.members[task]}) > 1}
    live = replace(live, votes=tuple(one for one in live.votes if one.task_id in several))
    if not live.votes:
        return None
    votes = from_live_votes(live, makers)
    if most is not None:
        votes = capped(votes, most)
    found = uncertainty(votes, fit_board(votes))
    return Board(tuple(found.board()), tuple(without_each(votes, found)), len(live.votes))


def _makers(store: Store) -> dict[str, str]:
    """Who made each completion (id), where its producer names a model or a stage of a run."""
    with store.reading() as connection:
        rows = connection.execute(select(completion.c.id, completion.c.producer)).all()
    named = {row.id: row.producer.get("model") or row.producer.get("stage") for row in rows}
    return {key: str(name) for key, name in named.items() if name}
