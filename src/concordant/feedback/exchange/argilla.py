"""Argilla records: what people said of the fields of a record, question by question.

Three shapes: exported records (`responses` as {question: [{value, user_id}]}), records of its REST interface
(`responses` as [{values, user_id, status}]), and flat rows (`question.responses` with `.users` and `.status`).
A ranking as {value, rank} keeps its ties; the SDK writes the values alone, in order, and ties are lost: counted.
A question answered by the name of a field, or by "tie", is a comparison of the fields. Ratings and texts are
counted and not read: a record does not say of which field or on which scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import is_list, text_in
from concordant.data.layouts.exchange import asked, prompt_of
from concordant.data.types import Prompt
from concordant.feedback.exchange.ballots import (
    Answer,
    Ballot,
    Format,
    Question,
    answer,
    each,
    lost,
    person,
    tiers,
)
from concordant.feedback.votes import Payload, both_bad, prefer, ranking, skip, tie

NAME = "argilla"
FLAT = re.compile(r"(.+)\.responses")
PROMPTS = ("prompt", "instruction", "question", "input", "context", "conversation", "chat")
TIES = ("tie", "equal", "same", "both")
BAD = ("both bad", "both_bad", "bothbad", "neither", "none")
# Columns of a flat row that are about the record, not fields of it.
ABOUT = ("id", "_server_id", "external_id", "status", "metadata", "inserted_at", "updated_at")


@dataclass(frozen=True, slots=True)
class _Reply:
    """What one user answered to one question of a record."""

    question: str
    user: str
    status: str
    value: Any


def _fits(row: Mapping[str, Any]) -> bool:
    return ("fields" in row and "responses" in row) or any(FLAT.fullmatch(column) for column in row)


def _read(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    fields = row.get("fields")
    if not isinstance(fields, Mapping):
        fields = {name: value for name, value in row.items() if "." not in name and name not in ABOUT}
    by_question: dict[str, list[_Reply]] = {}
    for reply in _replies(row):
        by_question.setdefault(reply.question, []).append(reply)
    if not by_question:
        raise BadRow("no votes", "nobody has answered this record")
    ballots = []
    for question, replies in by_question.items():
        try:
            ballots += _votes(question, replies, fields, place)
        except BadRow as bad:
            lost(place, bad.kind, f"question {question}: {bad.detail}")
    return ballots


def _replies(row: Mapping[str, Any]) -> Iterator[_Reply]:
    said = row.get("responses")
    if isinstance(said, Mapping):
        for question, several in said.items():
            for one in several if is_list(several) else [several]:
                yield _reply(question, one, one)
    elif is_list(said):
        for one in said or ():
            values = one.get("values") if isinstance(one, Mapping) else None
            for question, value in (values or {"": None}).items():
                yield _reply(question, one, value)
    for column in row:
        if match := FLAT.fullmatch(column):
            yield from _flat(row, match[1])


def _reply(question: str, one: Any, value: Any) -> _Reply:
    about = one if isinstance(one, Mapping) else {}
    given = value.get("value") if isinstance(value, Mapping) and "value" in value else value
    if isinstance(value, Mapping) and "rank" in value:  # {"value": [...], "rank": [...]}, side by side
        given = value
    return _Reply(question, str(about.get("user_id", "")), str(about.get("status") or "submitted"), given)


def _flat(row: Mapping[str, Any], question: str) -> Iterator[_Reply]:
    def beside(name: str) -> Sequence[Any]:
        found = row.get(f"{question}.responses.{name}", row.get(f"{question}.{name}"))
        return found if is_list(found) else ()

    values = row[f"{question}.responses"]
    if values is not None and not is_list(values):
        raise BadRow("type", f"{question}.responses holds {type(values).__name__}, expected a list")
    for value, user, status in zip_longest(values or (), beside("users"), beside("status")):
        yield _Reply(question, str(user or ""), str(status or "submitted"), value)


def _votes(question: str, replies: Sequence[_Reply], fields: Mapping[str, Any], place: Place) -> list[Ballot]:
    """The votes on one question, which is a ranking where anybody gave a list."""
    given = [ranked for one in replies if (ranked := _ranking(one.value)) is not None]
    if given:
        kind, names = "ranking", list(dict.fromkeys(name for ranked in given for _, name in ranked))
    else:
        kind, names = "pairwise", _compared(replies, fields)
    unknown = [name for name in names if not isinstance(fields.get(name), str)]
    if unknown:
        raise BadRow("missing", f"no field with text is called {unknown[0]!r}")
    if not names:
        raise BadRow("unread question", "it is neither a ranking of fields nor a choice between two")
    prompt = _prompt(fields, names, place)
    answers = tuple(answer(name, text_in(fields, name), NAME) for name in names)
    ballots = []
    for reply in replies:
        try:
            ballots += _ballot(reply, answers, prompt, Question(kind, {"question": question}), place)
        except BadRow as bad:
            lost(place, bad.kind, f"question {question}: {bad.detail}")
    return ballots


def _ballot(
    reply: _Reply, answers: tuple[Answer, ...], prompt: Prompt, question: Question, place: Place
) -> list[Ballot]:
    said: Payload
    if reply.status == "discarded":
        said = skip("discarded")
    elif reply.status not in ("submitted", "ResponseStatus.submitted"):
        raise BadRow("draft", f"{reply.user or 'somebody'} has not handed it in: {reply.status}")
    elif question.kind == "ranking":
        ranked = _ranking(reply.value)
        if ranked is None:
            raise BadRow("label", f"{reply.value!r} is no ranking")
        if is_list(reply.value) and all(isinstance(one, str) for one in reply.value):
            place.mended("ranks lost", "a list of values without their ranks: which were tied is not known")
        said = ranking(tiers(ranked))
        kept = {name for _, name in ranked}
        answers = tuple(one for one in answers if one.name in kept)
    else:
        said = _choice(reply.value, [one.name for one in answers])
    known = bool(reply.user)
    labeler = person(f"{NAME} {reply.user}" if known else f"{NAME} users")
    return [Ballot(place.where, prompt, answers, labeler, said, question, crowd=not known)]


def _ranking(value: Any) -> list[tuple[float, str]] | None:
    """(rank, name) of a ranking, None for an answer of another kind."""
    if isinstance(value, Mapping) and is_list(value.get("value")) and is_list(value.get("rank")):
        value = [
            {"value": name, "rank": rank} for name, rank in zip(value["value"], value["rank"], strict=False)
        ]
    if not is_list(value) or not value:
        return None
    if all(isinstance(one, str) for one in value):
        return [(rank, name) for rank, name in enumerate(value, 1)]
    found = []
    for one in value:
        rank = one.get("rank") if isinstance(one, Mapping) else None
        if isinstance(rank, bool) or not isinstance(rank, int | float):
            raise BadRow("number", f"a ranking with {one!r}, expected an object with value and rank")
        found.append((rank, str(one.get("value"))))
    return found


def _compared(replies: Sequence[_Reply], fields: Mapping[str, Any]) -> list[str]:
    """The two fields that a choice is between, none where the values are not of a choice."""
    names = [name for name, value in fields.items() if isinstance(value, str) and name not in PROMPTS]
    values = [one.value for one in replies if one.value is not None]
    choices = (*names, *TIES, *BAD)
    return names if len(names) == 2 and values and all(value in choices for value in values) else []


def _choice(value: Any, names: Sequence[str]) -> Payload:
    if value in names:
        return prefer(value)
    if value in TIES:
        return tie()
    if value in BAD:
        return both_bad()
    raise BadRow("label", f"the answer is {value!r}, expected {', '.join(names)} or tie")


def _prompt(fields: Mapping[str, Any], names: Sequence[str], place: Place) -> Prompt:
    others = [name for name in fields if name not in names]
    likely = [name for name in PROMPTS if name in others] or (others if len(others) == 1 else [])
    if not likely:
        raise BadRow(
            "missing", f"which of [{', '.join(others)}] is the prompt? expected a field called prompt"
        )
    return prompt_of(asked(fields, likely[0], place), {}, place)


ARGILLA = Format(NAME, "fields, responses (or QUESTION.responses)", _fits, each(_read))
