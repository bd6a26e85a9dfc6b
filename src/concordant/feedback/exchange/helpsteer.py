"""HelpSteer 2 and 3: ratings from 0 to 4, and preferences from -3 to 3 where a positive one is for the second answer.

HelpSteer 2 (arXiv:2406.08673, preferences arXiv:2410.01257), HelpSteer 3 (arXiv:2505.11475). Where the scores of
the single people are there, those are the votes and the overall one, which is made from them, is none. People
have no names in these files: "helpsteer3 #1" is whoever stands first in a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import cell, is_list, text_in
from concordant.data.layouts.exchange import asked, ending_with_user, prompt_of
from concordant.data.types import Message, Prompt
from concordant.feedback.exchange.ballots import (
    Ballot,
    Format,
    Question,
    answer,
    each,
    having,
    lost,
    observed,
    person,
    scaled,
    signed,
)
from concordant.feedback.votes import rating

RATINGS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")  # 0 to 4
RATED = Question("rating", {"question": "How good is this answer?", "dimensions": ["overall", *RATINGS]})
PAIRWISE = Question("pairwise")
_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")  # how HelpSteer 2 writes several turns as one text


def _read_ratings(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    """Each person's ratings of one answer; "overall", by which they are sorted into good and bad, is helpfulness."""
    prompt = prompt_of(_turns(text_in(row, "prompt")), row, place)
    answers = (answer("response", observed(cell(row, "response"), "response", place), "helpsteer2"),)
    columns = {name: row[name] if is_list(row[name]) else [row[name]] for name in RATINGS if name in row}
    people = max(map(len, columns.values()), default=0)
    if not people:
        raise BadRow("missing", f"none of {', '.join(RATINGS)} is there")
    ballots = []
    for number in range(people):
        given = {}
        for name, values in columns.items():
            if number < len(values) and (value := _rating(values[number], name, place)) is not None:
                given[name] = scaled(value, 0, 4)
        if "helpfulness" in given:
            given["overall"] = given["helpfulness"]
        if given:
            labeler = person(f"helpsteer2 #{number + 1}" if people > 1 else "helpsteer2 mean")
            ballots.append(Ballot(place.where, prompt, answers, labeler, rating({"response": given}), RATED))
    return ballots


def _rating(value: Any, column: str, place: Place) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 4:
        return value
    lost(place, "number", f"column {column} holds {value!r}, expected 0 to 4")
    return None


def _turns(said: str) -> tuple[Message, ...]:
    """The turns of a prompt that marks them inside its text."""
    first, *rest = _TURN.split(said)
    messages = [Message("user", first)]
    messages += [Message(role.lower(), text) for role, text in zip(rest[::2], rest[1::2], strict=True)]
    return ending_with_user(tuple(messages), "prompt")


def _read_second(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    people = row.get("all_preferences_unprocessed") or row.get("three_most_similar_preferences")
    prompt = prompt_of(_turns(text_in(row, "prompt")), row, place)
    names = ("response_1", "response_2", "preference_strength", "strength", "elaboration")
    return _votes(row, place, prompt, "helpsteer2", people, names)


def _read_third(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    prompt = prompt_of(asked(row, "context", place), {"family": row.get("domain")}, place)
    names = ("response1", "response2", "overall_preference", "score", "reasoning")
    return _votes(row, place, prompt, "helpsteer3", row.get("individual_preference"), names)


def _votes(
    row: Mapping[str, Any],
    place: Place,
    prompt: Prompt,
    source: str,
    people: Any,
    names: tuple[str, str, str, str, str],
) -> list[Ballot]:
    """A vote per person, or one of all together; `names` has the columns of answers, overall and single scores."""
    first, second, overall, score, reasons = names
    answers = tuple(answer(name, observed(cell(row, name), name, place), source) for name in (first, second))
    if not is_list(people) or not people:
        said = signed(cell(row, overall), first, second, f"column {overall}")
        return [Ballot(place.where, prompt, answers, person(f"{source} overall"), said, PAIRWISE)]
    ballots = []
    for number, one in enumerate(people, 1):
        try:
            if not isinstance(one, Mapping):
                raise BadRow("type", f"score {number} is {type(one).__name__}, expected an object")
            said = signed(cell(one, score), first, second, f"score {number}")
        except BadRow as bad:
            lost(place, bad.kind, bad.detail)
            continue
        reason = one.get(reasons)
        if isinstance(reason, str) and reason:
            said["rationale"] = reason
        labeler = person(f"{source} #{number}")
        ballots.append(Ballot(place.where, prompt, answers, labeler, said, PAIRWISE))
    return ballots


HELPSTEER_RATINGS = Format(
    "helpsteer2-ratings",
    "prompt, response, helpfulness",
    having("prompt", "response", "helpfulness"),
    each(_read_ratings),
)
HELPSTEER_2 = Format(
    "helpsteer2",
    "prompt, response_1, response_2, preference_strength",
    having("prompt", "response_1", "response_2", "preference_strength"),
    each(_read_second),
)
HELPSTEER_3 = Format(
    "helpsteer3",
    "context, response1, response2, overall_preference",
    having("context", "response1", "response2", "overall_preference"),
    each(_read_third),
)
