"""Label Studio JSON exports: tasks with `data` and `annotations`, each a person's results.

A `pairwise` result says left or right, which are the first and second of the two answers in the task's data (by
name, unless `to_name` says otherwise); that is also the order shown. A `ranker` result is a list, the best first,
or buckets; buckets are ordered by the number in their name, or by words such as good and bad. What lies in "_" was
not ranked. A cancelled annotation is a skip; `lead_time` (seconds) counts as wall time, idle time included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import cell, is_list, text
from concordant.data.layouts.exchange import asked, prompt_of
from concordant.data.types import Prompt
from concordant.feedback.exchange.ballots import (
    Answer,
    Ballot,
    Format,
    Question,
    answer,
    each,
    having,
    lost,
    person,
)
from concordant.feedback.votes import Payload, prefer, ranking, skip

NAME = "label-studio"
PROMPTS = ("prompt", "instruction", "question", "input", "context", "query", "conversation")
BODIES = ("body", "text", "html", "title")  # what an item of a list shows, the fullest first
UNRANKED = "_"
GOOD = ("best", "better", "good", "relevant", "positive", "accept")
BAD = ("worst", "worse", "bad", "irrelevant", "negative", "biased", "reject")
PAIRWISE, RANKED = Question("pairwise"), Question("ranking")


@dataclass(frozen=True, slots=True)
class _Task:
    """The data of a task as a question: its prompt and the answers in the order shown."""

    prompt: Prompt
    answers: tuple[Answer, ...]
    question: Question


def _read(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    data, several = cell(row, "data"), cell(row, "annotations")
    if not isinstance(data, Mapping) or not is_list(several):
        raise BadRow("type", "expected an object in data and a list in annotations")
    if not several:
        raise BadRow("no votes", "nobody has answered this task")
    task = _task(data, several, place)
    ballots = []
    for one in several:
        try:
            ballots.append(_ballot(one, task, place))
        except BadRow as bad:
            lost(place, bad.kind, bad.detail)
    return ballots


def _task(data: Mapping[str, Any], several: Sequence[Any], place: Place) -> _Task:
    named = next((name for name in PROMPTS if name in data), None)
    if named is None:
        raise BadRow(
            "missing", f"data has [{', '.join(data)}], expected a prompt: one of {', '.join(PROMPTS)}"
        )
    prompt = prompt_of(asked(data, named, place), {}, place)
    lists = [value for name, value in data.items() if name != named and _is_items(value)]
    if len(lists) == 1:
        return _Task(prompt, tuple(_item(one) for one in lists[0]), RANKED)
    texts = sorted(name for name, value in data.items() if name != named and isinstance(value, str))
    targets = _targets(several)
    names = targets if targets and all(name in texts for name in targets) else texts
    if len(names) == 2:
        return _Task(prompt, tuple(answer(name, text(data[name], name), NAME) for name in names), PAIRWISE)
    raise BadRow(
        "missing", f"data has the texts [{', '.join(names)}] beside the prompt, expected two, or a list"
    )


def _is_items(value: Any) -> bool:
    return is_list(value) and bool(value) and all(isinstance(one, Mapping) and "id" in one for one in value)


def _item(one: Mapping[str, Any]) -> Answer:
    body = next((one[name] for name in BODIES if isinstance(one.get(name), str)), None)
    return answer(str(one["id"]), text(body, f"items.{BODIES[0]}"), NAME)


def _results(annotation: Any) -> list[Mapping[str, Any]]:
    found = annotation.get("result") if isinstance(annotation, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _targets(several: Sequence[Any]) -> list[str]:
    """The two data names that a pairwise result says it is about, left first; none where it does not."""
    for annotation in several:
        for result in _results(annotation):
            named = result.get("to_name")
            parts = named.split(",") if isinstance(named, str) else named
            if result.get("type") == "pairwise" and isinstance(parts, list) and len(parts) == 2:
                return [str(part).strip() for part in parts]
    return []


def _ballot(annotation: Any, task: _Task, place: Place) -> Ballot:
    if not isinstance(annotation, Mapping):
        raise BadRow("type", f"an annotation is {type(annotation).__name__}, expected an object")
    said, answers = _said(annotation, task, place)
    seconds = annotation.get("lead_time")
    timed = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0
    by = annotation.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("id", by.get("email"))
    return Ballot(
        place.where,
        task.prompt,
        answers,
        person(f"{NAME} users" if by is None else f"{NAME} {by}"),
        said,
        task.question,
        shown=tuple(one.name for one in answers),
        crowd=by is None,
        wall_ms=round(1000 * seconds) if timed else None,  # type: ignore[operator]
        client={"ground_truth": True} if annotation.get("ground_truth") is True else {},
    )


def _said(annotation: Mapping[str, Any], task: _Task, place: Place) -> tuple[Payload, tuple[Answer, ...]]:
    if annotation.get("was_cancelled") is True:
        return skip("was_cancelled"), task.answers
    wanted = {"pairwise": "pairwise", "ranking": "ranker"}[task.question.kind]
    results = _results(annotation)
    for result in results:
        if result.get("type") != wanted:
            lost(place, "unread result", f"a result of type {result.get('type')!r}")
    found = [one.get("value") for one in results if one.get("type") == wanted]
    if len(found) != 1 or not isinstance(found[0], Mapping):
        raise BadRow("missing", f"{len(found)} results of type {wanted}, expected one")
    if wanted == "pairwise":
        return _side(found[0], task.answers), task.answers
    return _ranked(found[0].get("ranker"), task.answers, place)


def _side(value: Mapping[str, Any], answers: Sequence[Answer]) -> Payload:
    sides = dict(zip(("left", "right"), answers, strict=True))
    if value.get("selected") not in sides:
        raise BadRow("label", f"selected is {value.get('selected')!r}, expected left or right")
    return prefer(sides[value["selected"]].name)


def _ranked(value: Any, answers: tuple[Answer, ...], place: Place) -> tuple[Payload, tuple[Answer, ...]]:
    buckets = value if isinstance(value, Mapping) else {"": value}
    if not all(is_list(ids) for ids in buckets.values()):
        raise BadRow("type", "ranker holds something else than lists of ids")
    ordered = [name for name in buckets if name != UNRANKED]
    if len(ordered) == 1:
        found = [[str(key)] for key in buckets[ordered[0]]]
    else:
        found = [[str(key) for key in buckets[name]] for name in sorted(ordered, key=_place_of(ordered))]
    known = {one.name for one in answers}
    listed = [name for tier in found for name in tier]
    if set(listed) - known or len(set(listed)) < len(listed):
        raise BadRow("label", f"the ranking {listed} is not of the items {sorted(known)}")
    if len(listed) < 2:
        raise BadRow("unranked", f"{len(listed)} of {len(known)} items were ranked")
    if len(listed) < len(known):
        place.mended("unranked", f"{len(known) - len(listed)} of {len(known)} items were not ranked")
    return ranking([tier for tier in found if tier]), tuple(one for one in answers if one.name in listed)


def _place_of(names: Sequence[str]) -> Any:
    """A key that sorts buckets from the best to the worst. A wrong guess would turn every vote around: no guess."""
    numbers = {name: re.findall(r"\d+", name) for name in names}
    if all(len(found) == 1 for found in numbers.values()):
        return lambda name: int(numbers[name][0])
    places = {name: _by_word(name) for name in names}
    if None in places.values() or len(set(places.values())) < len(places):
        raise BadRow(
            "buckets",
            f"which of [{', '.join(names)}] is better? expected numbers (1 the best), or good and bad",
        )
    return places.__getitem__


def _by_word(name: str) -> int | None:
    words = re.split(r"[^a-z]+", name.lower())
    if any(word in BAD for word in words):
        return 1
    return 0 if any(word in GOOD for word in words) else None


LABEL_STUDIO = Format(NAME, "data, annotations", having("data", "annotations"), each(_read))
