"""The labelled pairs that models are measured on: all that were kept out, and as many that were learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from concordant.data.batches import Example, Row
from concordant.data.template import Overlong
from concordant.data.types import Preference
from concordant.evaluation.pairs import HELD_OUT, TRAINING, LabelledPair, Side
from concordant.pipeline.context import Context
from concordant.pipeline.parts.lengths import fit_all, longest, shortened
from concordant.pipeline.parts.measuring.study import Study, scored
from concordant.pipeline.parts.preferences import example_of, grouped, learnt_and_kept, voted_preferences


@dataclass(frozen=True)
class Compared:
    """The pairs of one ranking, as text and as tokens."""

    split: str
    preferences: Sequence[Preference]
    example: Example


def compared_answers(context: Context, model: Any) -> list[Compared]:
    """The rankings and pairs of the run's votes that are measured on; none where no stage learns from votes.

    Of those that were learnt from, every so many-th is taken.
    """
    if not context.recipe.reads_votes:
        return []
    voted, kept_out = voted_preferences(context)
    training, held_out = grouped(learnt_and_kept(context, voted)[0]), grouped(kept_out)
    some = training[:: max(1, len(training) // max(1, len(held_out)))][: len(held_out)]
    sides = ((HELD_OUT, held_out, "held-out preferences"), (TRAINING, some, "preferences of training"))
    return [
        one for split, groups, what in sides if groups for one in _fitted(context, split, groups, model, what)
    ]


def _fitted(
    context: Context, split: str, groups: Sequence[Sequence[Preference]], model: Any, what: str
) -> list[Compared]:
    limit = context.limit(model)
    rows = [Compared(split, group, example_of(context.template, group)) for group in groups]

    def shorten(one: Compared, overlong: Overlong) -> Compared | None:
        example = shortened(context, one.example, limit, overlong)
        return None if example is None else replace(one, example=example)

    return fit_all(context, rows, [longest(one.example) for one in rows], limit, shorten, what=what)


def rows_of(compared: Sequence[Compared]) -> list[Row]:
    """The tokens of all answers, each ranking's once."""
    return [row for one in compared for row in one.example.rows]


def labelled_pairs(
    study: Study, compared: Sequence[Compared], logprobs: Mapping[str, Sequence[float]]
) -> list[LabelledPair]:
    """One record per pair, with what the reward model says; `logprobs` by model, of each of `rows_of`."""
    rows = rows_of(compared)
    with study.context.timed("score") as timer:
        timer.tokens = sum(row.length for row in rows)
        scores, others = (scored(model, rows) for model in (study.reward, study.held_out))
    found, first = [], 0
    for number, one in enumerate(compared):
        sides = [
            replace(
                _side(study, one, row, scores[at], {name: values[at] for name, values in logprobs.items()}),
                held_out=others[at],
            )
            for at, row in enumerate(one.example.rows, start=first)
        ]
        first += len(sides)
        prompt = one.preferences[0].prompt
        found += [
            LabelledPair(
                one.split,
                prompt.id,
                str(number),
                prompt.family,
                sides[pair.chosen],
                sides[pair.rejected],
                pair.p_chosen,
                pair.weight,
                pair.margin,
            )
            for pair in one.example.pairs
        ]
    return found


def _side(study: Study, one: Compared, row: Row, score: float | None, logprobs: Mapping[str, float]) -> Side:
    text = study.context.template.text(row.completion)
    gold = study.context.material.gold(one.preferences[0].prompt, text)
    return Side(text, len(row.completion), score, None if gold is None else gold.total, logprobs)
