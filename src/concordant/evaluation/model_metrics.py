"""The figures of a model, from its answers alone: how far it went, how it writes, what it earns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from concordant.evaluation.answers import Answer, by_behavior, by_family, gold_mean
from concordant.evaluation.figures import PARTS
from concordant.evaluation.intervals import mean_of, ratio_of, wilson
from concordant.evaluation.text_metrics import (
    EAD_ORDERS,
    distinct_n,
    duplicate_bigrams,
    ead,
    ends_in_loop,
    jaccard_distance,
    mean_ead,
    same_text,
)


def describe(answers: Sequence[Answer]) -> dict[str, Any]:
    """The figures of one model on one set of prompts; gold and score where they are known.

    Errors are clustered by draw. A world's prompts are drawn independently, so the same question
    drawn twice is two draws; several completions of one draw would be one.
    """
    texts = [answer.text for answer in answers]
    figures = {
        **_distance(answers),
        "length": _mean(answers, lambda a: a.length),
        "length_p95": float(np.quantile([a.length for a in answers], 0.95)),
        "eos_rate": wilson(sum(a.ended for a in answers), len(answers)).as_dict(),
        "duplicate_bigrams": duplicate_bigrams(texts).as_dict(),
        "loops": wilson(sum(map(ends_in_loop, texts)), len(texts)).as_dict(),
        "distinct": {str(n): distinct_n(texts, n) for n in (1, 2)},
    }
    if all(answer.score is not None for answer in answers):
        figures["score"] = _mean(answers, lambda a: a.score or 0.0)
    if all(answer.held_out is not None for answer in answers):
        figures["held_out"] = _mean(answers, lambda a: a.held_out or 0.0)
    if all(answer.gold is not None for answer in answers):
        figures |= _by_gold(answers)
    return figures


def _mean(answers: Sequence[Answer], value: Callable[[Answer], float]) -> dict[str, Any]:
    return mean_of([value(answer) for answer in answers], [answer.draw for answer in answers]).as_dict()


def _distance(answers: Sequence[Answer]) -> dict[str, Any]:
    """In nats: to the model that training started from, and to itself. -log pi is an unbiased estimate of entropy."""

    def both(name: str, value: Callable[[Answer], float]) -> dict[str, Any]:
        values, lengths = [value(a) for a in answers], [a.length for a in answers]
        draws = [a.draw for a in answers]
        per_token = ratio_of(values, lengths, draws).as_dict()
        return {name: mean_of(values, draws).as_dict(), f"{name}_per_token": per_token}

    return {
        **both("kl", lambda a: a.kl),
        **both("kl_k3", lambda a: a.drift.k3),
        **both("entropy", lambda a: -a.drift.logprob),
        **both("ref_nll", lambda a: -a.drift.ref_logprob),
    }


def _by_gold(answers: Sequence[Answer]) -> dict[str, Any]:
    families = by_family(answers)
    return {
        "gold": gold_mean(answers).as_dict(),
        "gold_parts": {
            part: _mean(answers, lambda a, part=part: getattr(a.gold, part))  # type: ignore[misc]
            for part in PARTS
        },
        "gold_by_family": {family: gold_mean(some).as_dict() for family, some in families.items()},
        "refusals_by_family": {
            family: wilson(sum(bool(a.refused) for a in some), len(some)).as_dict()
            for family, some in families.items()
        },
        "behaviors": {
            name: wilson(sum(a.failures[name] for a in some), len(some)).as_dict()
            for name, some in by_behavior(answers).items()
        },
    }


def relative_to(start: Sequence[Answer], answers: Sequence[Answer]) -> dict[str, Any]:
    """Length and scores in standard deviations of those of the model that training started from, less their mean.

    `held_out_gap`: by how much more the score rose than that of the second reward model, both in these units.
    """
    values: dict[str, Callable[[Answer], float | None]] = {
        "length_z": lambda a: a.length,
        "score_z": lambda a: a.score,
        "held_out_z": lambda a: a.held_out,
    }
    known = {name: found for name, value in values.items() if (found := _standard(start, answers, value))}
    if {"score_z", "held_out_z"} <= known.keys():
        known["held_out_gap"] = [a - b for a, b in zip(known["score_z"], known["held_out_z"], strict=True)]
    draws = [answer.draw for answer in answers]
    return {name: mean_of(found, draws).as_dict() for name, found in known.items()}


def _standard(
    start: Sequence[Answer], answers: Sequence[Answer], value: Callable[[Answer], float | None]
) -> list[float] | None:
    """The values of answers on the scale of the start's; None where some are unknown, or all of the start's alike."""
    usual, found = ([value(answer) for answer in side] for side in (start, answers))
    if any(one is None for one in (*usual, *found)) or len(usual) < 2:
        return None
    scale = np.array(usual, dtype=np.float64)
    spread = float(scale.std(ddof=1))
    return [(one - float(scale.mean())) / spread for one in found if one is not None] if spread else None


def within_prompts(groups: Sequence[Sequence[Answer]], vocabulary: Mapping[int, int]) -> dict[str, Any]:
    """How different the answers to one prompt are, as means over prompts. `vocabulary`: see `text_metrics.ead`."""
    texts = [[answer.text for answer in group] for group in groups]
    adjusted = [found for group in texts if (found := mean_ead(group, vocabulary)) is not None]
    return {
        "ead": mean_of(adjusted).as_dict() if adjusted else None,
        "jaccard_distance": mean_of([jaccard_distance(group) for group in texts]).as_dict(),
    }


def across_prompts(answers: Sequence[Answer], vocabulary: Mapping[int, int]) -> dict[str, Any] | None:
    """How different the answers to different prompts are, one each; None where there is one prompt only.

    A model that has collapsed to a template says the same to whatever it is asked.
    """
    first: dict[str, str] = {}
    for answer in answers:
        first.setdefault(answer.prompt.id, answer.text)
    texts = list(first.values())
    if len(texts) < 2:
        return None
    text, times = Counter(texts).most_common(1)[0]
    return {
        "ead": {str(n): ead(texts, n, vocabulary[n]) for n in EAD_ORDERS},
        "same_text": same_text(texts).as_dict(),
        "commonest": wilson(times, len(texts)).as_dict() | {"text": text},
    }
