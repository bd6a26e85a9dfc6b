"""UltraFeedback (arXiv:2310.01377): the answers of several models to one instruction, rated by a judge model.

A row is one rating of all its answers. The aspects go from 1 to 5 and the overall score from 1 to 10; both are
kept on the scale of the store. Of the overall scores of 10 some meant 1 (issue 8 of its repository): where the
fine-grained score, the mean of the aspects, is 2 or less, 10 is read as 1. Rows out of TruthfulQA are left out,
because models are measured on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import cell, is_list
from concordant.data.layouts.exchange import asked, prompt_of
from concordant.feedback.exchange.ballots import (
    Answer,
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
)
from concordant.feedback.votes import rating

NAME = "ultrafeedback"
JUDGE = person("ultrafeedback gpt-4", "judge")
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
QUESTION = Question(
    "rating", {"question": "How good are these answers?", "dimensions": ["overall", *ASPECTS]}
)
BENCHMARK = "truthful_qa"
TEN_MEANT_ONE = 2.0  # fine-grained score up to which an overall score of 10 is one of 1


def _read(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    if row.get("source") == BENCHMARK:
        raise BadRow("benchmark", "the row is out of TruthfulQA, which models are measured on")
    prompt = prompt_of(asked(row, "instruction", place), row, place)
    completions = cell(row, "completions")
    if not is_list(completions):
        raise BadRow("type", "column completions holds no list")
    answers: list[Answer] = []
    scores: dict[str, dict[str, float]] = {}
    for number, one in enumerate(completions, 1):
        name = f"completions[{number}]"
        try:
            given = _scores(one, name, place)
            said = observed(cell(one, "response"), f"{name}.response", place)
        except BadRow as bad:
            lost(place, bad.kind, bad.detail)
            continue
        answers.append(answer(name, said, NAME, one.get("model")))
        scores[name] = given
    if not answers:
        raise BadRow("empty", "no answer of the row was rated")
    return [Ballot(place.where, prompt, tuple(answers), JUDGE, rating(scores), QUESTION)]


def _scores(one: Any, name: str, place: Place) -> dict[str, float]:
    """What the judge said of one answer, from 1 to 7."""
    if not isinstance(one, Mapping):
        raise BadRow("type", f"{name} is {type(one).__name__}, expected an object")
    said = one.get("annotations")
    aspects: dict[str, float] = {}
    for aspect in ASPECTS:
        about = said.get(aspect) if isinstance(said, Mapping) else None
        value = about.get("Rating") if isinstance(about, Mapping) else None
        if (found := _number(value, 5)) is not None:
            aspects[aspect] = found
        elif value is not None:
            place.mended("not rated", f"{name}: {aspect} is {value!r}, and left out")
    overall = _number(one.get("overall_score"), 10)
    fine = _number(one.get("fine-grained_score"), 5)
    if fine is None and aspects:
        fine = sum(aspects.values()) / len(aspects)
    if overall == 10 and fine is not None and fine <= TEN_MEANT_ONE:
        place.mended("10 meant 1", f"{name}: overall score 10 beside a fine-grained score of {fine:g}")
        overall = 1.0
    given = {aspect: scaled(value, 1, 5) for aspect, value in aspects.items()}
    if overall is not None:
        given["overall"] = scaled(overall, 1, 10)
    if not given:
        raise BadRow("number", f"{name} has neither an overall score from 1 to 10 nor aspects from 1 to 5")
    return given


def _number(value: Any, high: float) -> float | None:
    """A score from 1 to `high`, as text or as a number; None where there is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if 1 <= found <= high else None


ULTRAFEEDBACK = Format(NAME, "instruction, completions", having("instruction", "completions"), each(_read))
