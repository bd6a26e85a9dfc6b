"""What changed from one model to another, figure by figure, each difference paired by draw and with its interval.

The names of figures are those of `figures.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from concordant.evaluation.answers import Answer, by_behavior, by_family
from concordant.evaluation.figures import PARTS
from concordant.evaluation.intervals import Change
from concordant.evaluation.text_metrics import duplicate_bigrams, ends_in_loop

Value = Callable[[Answer], float]


def changes(
    answers: Mapping[str, Sequence[Answer]], repeated: Mapping[str, Sequence[Sequence[Answer]]]
) -> dict[str, dict[str, Any]]:
    """Every change from an earlier model to a later one, as `LATER_minus_EARLIER`, by figure.

    `answers` has one answer of each model to each draw, models in the order in which they were made and draws in
    one order; `repeated` several of each to each of a few prompts.
    """
    found = {}
    for before, after in combinations(answers, 2):
        figures = _between(answers[after], answers[before])
        figures["distinct.unique_of_16"] = Change.between(
            _unique(repeated[after]), _unique(repeated[before]), range(len(repeated[after]))
        )
        found[f"{after}_minus_{before}"] = {name: change.as_dict() for name, change in figures.items()}
    return found


def _between(after: Sequence[Answer], before: Sequence[Answer]) -> dict[str, Change]:
    draws = [answer.draw for answer in after]
    found = {
        name: Change.between([value(a) for a in after], [value(a) for a in before], draws)
        for name, value in _values(after[0]).items()
    }
    found["eos_rate"] = Change.of_shares([a.ended for a in after], [a.ended for a in before])
    loops = [[ends_in_loop(a.text) for a in side] for side in (after, before)]
    found["loops"] = Change.of_shares(loops[0], loops[1])
    if after[0].gold is not None:
        found |= _by_family(after, before) | _by_behavior(after, before)
    return found


def _values(answer: Answer) -> dict[str, Value]:
    """The figures that are means over answers, of models whose answers are known as `answer` is."""
    found: dict[str, Value] = {
        "length": lambda a: a.length,
        "kl": lambda a: a.kl,
        "duplicate_bigrams": lambda a: duplicate_bigrams([a.text]).mean,
    }
    if answer.score is not None:
        found["score"] = lambda a: a.score or 0.0
    if answer.held_out is not None:
        found["held_out"] = lambda a: a.held_out or 0.0
    if answer.gold is not None:
        found["gold"] = lambda a: _gold(a, "total")
        found |= {f"gold_parts.{part}": lambda a, part=part: _gold(a, part) for part in PARTS}  # type: ignore[misc]
    return found


def _gold(answer: Answer, part: str) -> float:
    return float(getattr(answer.gold, part))


def _by_family(after: Sequence[Answer], before: Sequence[Answer]) -> dict[str, Change]:
    found = {}
    earlier = by_family(before)
    for family, some in by_family(after).items():
        others = earlier[family]
        draws = [answer.draw for answer in some]
        golds = [[_gold(a, "total") for a in side] for side in (some, others)]
        found[f"gold_by_family.{family}"] = Change.between(golds[0], golds[1], draws)
        refused = [[bool(a.refused) for a in side] for side in (some, others)]
        found[f"refusals_by_family.{family}"] = Change.of_shares(refused[0], refused[1])
    return found


def _by_behavior(after: Sequence[Answer], before: Sequence[Answer]) -> dict[str, Change]:
    others = by_behavior(before)
    return {
        f"behaviors.{name}": Change.of_shares(
            [a.failures[name] for a in some], [a.failures[name] for a in others[name]]
        )
        for name, some in by_behavior(after).items()
    }


def _unique(groups: Sequence[Sequence[Answer]]) -> list[float]:
    return [len({answer.text for answer in group}) / len(group) for group in groups]
