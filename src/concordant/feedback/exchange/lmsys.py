"""Battles of the Chatbot Arena: two conversations side by side, a and b, and which of them the visitor liked.

`winner` is model_a, model_b, tie or tie (bothbad); the last is no tie but two answers that will not do. The
55k set says it by columns of 0 and 1, has each turn list as JSON text, and does not tell the two ties apart.
Of a battle of several turns only the first prompt is shared, so that there is nothing to compare: counted.
Model a was shown first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import cell, is_list
from concordant.data.layouts.preferences import whole_pair
from concordant.feedback.exchange.ballots import Ballot, Format, Question, answer, each, having, person
from concordant.feedback.votes import both_bad, prefer, tie

NAME = "lmsys"
SIDES = ("a", "b")
PAIRWISE = Question("pairwise")
WINNERS = {
    "model_a": prefer("a"),
    "model_b": prefer("b"),
    "tie": tie(),
    "tie (bothbad)": both_bad(),
    "both_bad": both_bad(),
}


def _read_battle(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    winner = cell(row, "winner")
    if not isinstance(winner, str) or winner not in WINNERS:
        raise BadRow("label", f"column winner holds {winner!r}, accepted are {', '.join(WINNERS)}")
    sides = {side: _conversation(cell(row, f"conversation_{side}")) for side in SIDES}
    return [_ballot(row, place, sides, WINNERS[winner])]


def _read_columns(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    won = [one for one in ("model_a", "model_b", "tie") if str(row.get(f"winner_{one}")) in ("1", "True")]
    if len(won) != 1:
        raise BadRow("label", f"{len(won)} of winner_model_a, winner_model_b, winner_tie are 1, expected one")
    sides = {side: _woven(row, f"response_{side}") for side in SIDES}
    ballot = _ballot(row, place, sides, WINNERS[won[0]])
    if won[0] == "tie":
        place.mended("tie or both bad", "the file does not tell them apart; kept as a tie")
    return [ballot]


def _ballot(row: Mapping[str, Any], place: Place, sides: Mapping[str, Any], said: dict[str, Any]) -> Ballot:
    pair = whole_pair({"chosen": sides["a"], "rejected": sides["b"]}, place)[0]
    texts = zip(SIDES, (pair.chosen.text, pair.rejected.text), strict=True)
    answers = tuple(answer(side, said, NAME, row.get(f"model_{side}")) for side, said in texts)
    judge = row.get("judge")
    labeler = person(f"{NAME} {judge}" if judge else f"{NAME} visitors")
    return Ballot(place.where, pair.prompt, answers, labeler, said, PAIRWISE, shown=SIDES, crowd=not judge)


def _conversation(value: Any) -> Any:
    """Turns whose content may be a list of parts, as in the sets from 2025 on: those of text are joined."""
    if not is_list(value):
        return value
    return [
        {**turn, "content": _joined(turn["content"])}
        if isinstance(turn, Mapping) and "content" in turn
        else turn
        for turn in value
    ]


def _joined(content: Any) -> Any:
    if not is_list(content):
        return content
    if any(not isinstance(part, Mapping) or part.get("type") != "text" for part in content):
        raise BadRow("type", "a turn holds something else than text")
    return "".join(str(part.get("text") or "") for part in content)


def _woven(row: Mapping[str, Any], column: str) -> list[dict[str, Any]]:
    """The questions and the answers of one side, by turns."""
    asked, said = (_texts(cell(row, name), name) for name in ("prompt", column))
    if len(asked) != len(said):
        raise BadRow("role", f"{len(asked)} questions and {len(said)} answers in {column}")
    pairs = zip(asked, said, strict=True)
    return [
        {"role": role, "content": content}
        for pair in pairs
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]


def _texts(value: Any, column: str) -> list[Any]:
    """A list, given as JSON text or as it is."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow("type", f"column {column} is no JSON list: {error}") from None
    if not is_list(value):
        raise BadRow("type", f"column {column} holds {type(value).__name__}, expected a list of texts")
    return list(value)


LMSYS = Format(
    NAME,
    "winner, conversation_a, conversation_b",
    having("winner", "conversation_a", "conversation_b"),
    each(_read_battle),
)
LMSYS_COLUMNS = Format(
    "lmsys-55k",
    "prompt, response_a, response_b, winner_model_a",
    having("prompt", "response_a", "response_b", "winner_model_a"),
    each(_read_columns),
)
