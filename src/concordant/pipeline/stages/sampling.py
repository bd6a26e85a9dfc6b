"""Prompts to token ids and samples to text, for the stages that sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.pipeline.context import Context
from concordant.rollout.inline import InlineSampler
from concordant.rollout.rollout import Sample


def sampler_of(
    context: Context, model: Any, *, completion: int, temperature: float, slots: int = 256
) -> InlineSampler:
    """A sampler of the run's models on the run's machine."""
    return InlineSampler(
        model,
        stop_ids=context.template.stop_ids,
        pad_id=context.template.pad_id,
        limit=completion,
        machine=context.machine,
        temperature=temperature,
        slots=slots,
    )


def with_ids(
    context: Context, prompts: Sequence[Prompt], model: Any, completion: int, *, where: str
) -> list[tuple[Prompt, tuple[int, ...]]]:
    """Prompts with their token ids; those that leave no room for a completion are counted and left out."""
    room = context.limit(model) - completion
    pairs = [(prompt, tuple(context.template.prompt_ids(prompt.messages))) for prompt in prompts]
    kept = [(prompt, ids) for prompt, ids in pairs if len(ids) <= room]
    if not kept:
        longest = max((len(ids) for _, ids in pairs), default=0)
        raise UserError(
            f"none of the {len(pairs)} prompts leaves room for a completion",
            where=where,
            expected=f"prompts of at most {room} tokens (context {room + completion} less "
            f"{completion} for the completion); the longest has {longest}",
            fix="shorten the prompts or the completion limit, or take a model with a longer context",
        )
    if len(kept) < len(pairs):
        context.reporter.say(
            f"  {len(pairs) - len(kept)} of {len(pairs)} prompts left out: longer than {room} tokens"
        )
    return kept


def completion_of(context: Context, sample: Sample) -> Completion:
    """The sample with its text."""
    return Completion(context.template.text(sample.completion), sample.completion)
