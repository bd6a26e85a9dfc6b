"""Pairs and judgements in every layout that `data.layouts` reads (hh-rlhf, TRL, ShareGPT, Alpaca), as votes.

Nobody knows who gave them or in which order the sides were shown: they are votes of one crowd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from concordant.data.layouts.account import Place
from concordant.data.layouts.judgements import JUDGEMENTS
from concordant.data.layouts.layout import Layout, recognise
from concordant.data.layouts.preferences import PREFERENCES
from concordant.data.types import Judgement, Preference
from concordant.feedback.answering.labelers import Identity
from concordant.feedback.asking.rubric import RATING_RUBRIC
from concordant.feedback.exchange.ballots import Answer, Ballot, Format, Question, each, person
from concordant.feedback.votes import BEST, WORST, prefer, rating, tie

CROWD = person("imported")

Made = TypeVar("Made")

PAIRWISE = Question("pairwise")
RATED = Question("rating", RATING_RUBRIC)


def preference_ballot(one: Preference, labeler: Identity) -> Ballot:
    """The vote behind a preference; what a plain vote would mean anyway is left unsaid."""
    made = {"imported": labeler.name}
    answers = (Answer("chosen", one.chosen, made), Answer("rejected", one.rejected, made))
    return Ballot(one.prompt.where, one.prompt, answers, labeler, _preferred(one), PAIRWISE)


def judgement_ballot(one: Judgement, labeler: Identity) -> Ballot:
    """The vote behind a judgement: the end of the scale."""
    answers = (Answer("only", one.completion, {"imported": labeler.name}),)
    said = rating({"only": {"overall": BEST if one.desirable else WORST}}) | _weight(one)
    return Ballot(one.prompt.where, one.prompt, answers, labeler, said, RATED)


def _preferred(one: Preference) -> dict[str, Any]:
    if one.p_chosen == 0.5:
        return tie() | _weight(one)
    winner, p = ("chosen", one.p_chosen) if one.p_chosen > 0.5 else ("rejected", 1 - one.p_chosen)
    certain = {} if p == 1.0 else {"p": p}
    margin = {} if one.margin == 0.0 else {"margin": one.margin}
    return prefer(winner) | _weight(one) | certain | margin


def _weight(one: Preference | Judgement) -> dict[str, float]:
    return {} if one.weight == 1.0 else {"weight": one.weight}


def _format(
    name: str, layouts: Sequence[Layout[Made]], ballot: Callable[[Made, Identity], Ballot], needs: str
) -> Format:
    """The format of all these layouts together; every row is read by its own."""

    def read(row: Mapping[str, Any], place: Place) -> list[Ballot]:
        layout = recognise(row, layouts) or layouts[0]
        return [ballot(one, CROWD) for one in layout.read(row, place)]

    return Format(name, needs, lambda row: recognise(row, layouts) is not None, each(read))


PAIRS = _format("pairs", PREFERENCES, preference_ballot, "chosen, rejected (with or without prompt)")
JUDGED = _format("judgements", JUDGEMENTS, judgement_ballot, "prompt, completion, label")
