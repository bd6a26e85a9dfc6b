"""Prompts to token ids and samples to text, for the stages that sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concordant.data.template import Overlong, fit
from concordant.data.types import Completion, Prompt
from concordant.pipeline.context import Context
from concordant.pipeline.parts.lengths import fit_all, lead
from concordant.rollout.inline import InlineSampler
from concordant.rollout.kept import KeptRollouts
from concordant.rollout.rollout import Asked, Sample


def sampler_of(
    context: Context,
    model: Any,
    *,
    completion: int,
    temperature: float,
    slots: int = 256,
    stops: bool = True,
) -> InlineSampler:
    """A sampler of the run's models on the run's machine; where it `stops`, also in the middle when asked to."""
    return InlineSampler(
        model,
        stop_ids=context.template.stop_ids,
        pad_id=context.template.pad_id,
        limit=completion,
        machine=context.machine,
        temperature=temperature,
        slots=slots,
        check=context.stop.check if stops else None,
        say=context.reporter.say,
    )


def kept_sampler_of(
    context: Context, model: Any, *, completion: int, temperature: float, most: int | None = 1
) -> KeptRollouts:
    """The same, whose last rollouts outlive a crash; where `most` is None all of them, until the stage is complete."""
    sampler = sampler_of(context, model, completion=completion, temperature=temperature)
    return KeptRollouts(sampler, context.folder.rollouts, most=most)


def with_ids(
    context: Context, prompts: Sequence[Prompt], model: Any, completion: int, *, what: str = "prompts"
) -> list[Asked]:
    """Prompts with their token ids, each leaving room for a completion of so many tokens."""
    room = context.limit(model) - completion
    pairs = [(prompt, tuple(context.template.prompt_ids(prompt.messages))) for prompt in prompts]

    def shorten(pair: Asked, overlong: Overlong) -> Asked | None:
        ids = fit(pair[1], [()], room, overlong, head=lead(context, pair[1]))
        return None if ids is None else (pair[0], ids)

    return fit_all(context, pairs, [len(ids) for _, ids in pairs], room, shorten, what=what)


def completion_of(context: Context, sample: Sample) -> Completion:
    """The sample with its text."""
    return Completion(context.template.text(sample.completion), sample.completion)
