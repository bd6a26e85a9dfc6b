"""Two models' answers before labelers that are programs, each pair in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from concordant.data.types import Completion, Prompt
from concordant.evaluation.win_rates import Duels
from concordant.feedback.answering.labelers import Labeler
from concordant.feedback.reading.agreement import Rate, rate
from concordant.feedback.votes import Comparison, Payload, verdicts

SIDES = ("a", "b")  # ids of the two completions: labelers are not told whose they are
ORDERS = (SIDES, SIDES[::-1])


class Answered(Protocol):
    """What is compared: which model said what to which draw of a prompt, and in how many tokens."""

    @property
    def model(self) -> str: ...
    @property
    def draw(self) -> int: ...
    @property
    def prompt(self) -> Prompt: ...
    @property
    def text(self) -> str: ...
    @property
    def length(self) -> int: ...


@dataclass(frozen=True)
class Judged:
    """What labelers said of pairs of answers.

    `consistent`: how often a labeler who took a side in both orders took the same; `first_shown`: how often what was
    shown first was preferred; one share a prompt. `rows` has every vote as it was given.
    """

    duels: Duels
    consistent: Rate
    first_shown: Rate
    rows: tuple[Mapping[str, Any], ...]

    def position(self) -> dict[str, Any]:
        """What the order did, for JSON."""
        return {
            name: {"rate": one.value if one.n else None, "low": one.low, "high": one.high, "n": one.n}
            for name, one in (("consistent", self.consistent), ("first_shown", self.first_shown))
        }


@dataclass(frozen=True)
class _Said:
    """The value of one pair for the second model: by one labeler, in one order; None where nothing was said."""

    pair: int
    labeler: str
    order: tuple[str, ...]
    value: float | None

    @property
    def took_first_shown(self) -> bool:
        return (self.value or 0.0) > 0.5 if self.order[0] == SIDES[1] else (self.value or 0.0) < 0.5


def judge(
    by: str, labelers: Sequence[Labeler], first: Sequence[Answered], second: Sequence[Answered]
) -> Judged:
    """Have every labeler compare the answers of two models to the same draws, in both orders.

    Equal texts are ties that nobody is asked about; a pair that everybody skips is left out.
    """
    pairs = list(zip(first, second, strict=True))
    asked = [k for k, (one, other) in enumerate(pairs) if one.text != other.text]
    said: list[_Said] = []
    rows: list[Mapping[str, Any]] = []
    for labeler in labelers:
        for order in ORDERS:
            votes = labeler.label([_comparison(k, *pairs[k], order) for k in asked])
            for k, vote in zip(asked, votes, strict=True):
                said.append(_Said(k, labeler.identity.name, order, _value(vote.payload)))
                rows.append(_row(by, labeler, pairs[k], order, vote.payload))
    values: dict[int, list[float]] = {k: [0.5] for k in set(range(len(pairs))) - set(asked)}
    for one in said:
        if one.value is not None:
            values.setdefault(one.pair, []).append(one.value)
    places = sorted(values)
    return Judged(
        Duels(
            by,
            first[0].model,
            second[0].model,
            tuple(pairs[k][0].draw for k in places),
            np.array([np.mean(values[k]) for k in places]),
            np.array([float(pairs[k][1].length - pairs[k][0].length) for k in places]),
        ),
        rate(list(_consistent(said))),
        rate(list(_first_shown(said))),
        tuple(rows),
    )


def _comparison(k: int, first: Answered, second: Answered, order: Sequence[str]) -> Comparison:
    shown = {
        side: Completion(answer.text, id=side) for side, answer in zip(SIDES, (first, second), strict=True)
    }
    task = f"{first.model} {second.model} {k} {first.prompt.id} {'-'.join(order)}"
    return Comparison(task, first.prompt, tuple(shown[side] for side in order))


def _value(payload: Payload) -> float | None:
    if payload.get("verdict") == "both_bad":
        return 0.5
    for one in verdicts(payload, SIDES):
        return one.p if one.better == SIDES[1] else 1 - one.p
    return None


def _row(
    by: str, labeler: Labeler, pair: tuple[Answered, Answered], order: Sequence[str], payload: Payload
) -> dict[str, Any]:
    models = dict(zip(SIDES, (one.model for one in pair), strict=True))
    return {
        "by": by,
        "labeler": labeler.identity.name,
        "models": models,
        "draw": pair[0].draw,
        "prompt_id": pair[0].prompt.id,
        "shown": list(order),
        "said": payload,
    }


def _consistent(said: Sequence[_Said]) -> Iterator[float]:
    """Per pair, the share of labelers with a side in both orders for whom it was the same side."""
    both: dict[int, dict[str, list[float]]] = {}
    for one in said:
        if one.value is not None and one.value != 0.5:
            both.setdefault(one.pair, {}).setdefault(one.labeler, []).append(one.value)
    for of_pair in both.values():
        same = [
            (a > 0.5) == (b > 0.5) for a, b in (two for two in of_pair.values() if len(two) == len(ORDERS))
        ]
        if same:
            yield sum(same) / len(same)


def _first_shown(said: Sequence[_Said]) -> Iterator[float]:
    """Per pair, the share of its decided votes that took what was shown first."""
    by_pair: dict[int, list[bool]] = {}
    for one in said:
        if one.value is not None and one.value != 0.5:
            by_pair.setdefault(one.pair, []).append(one.took_first_shown)
    for taken in by_pair.values():
        yield sum(taken) / len(taken)
