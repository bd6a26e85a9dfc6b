"""From chats with an answer to imitate to rows that a loss can read."""

from __future__ import annotations

from typing import Any

from concordant.data.batches import Example, Row
from concordant.data.template import Overlong, Template
from concordant.data.types import Demonstration, Message
from concordant.pipeline.context import Context
from concordant.pipeline.parts.lengths import fit_all, longest, shortened

Shown = tuple[Demonstration, Example]


def demonstration_row(template: Template, demo: Demonstration, limit: int) -> Row:
    """Token ids of a chat: everything before the first assistant turn is prompt, only assistant turns count.

    In a chat of more than `limit` tokens only the last answer counts, so that what is before it can be trimmed.
    """
    ids, mask = template.conversation((*demo.prompt.messages, Message("assistant", demo.completion.text)))
    first = mask.index(True)
    if len(ids) > limit:
        first = len(mask) - mask[::-1].index(False) if False in mask[first:] else first
    return Row(tuple(ids[:first]), tuple(ids[first:]), tuple(mask[first:]))


def held_out_demonstrations(context: Context, model: Any, n: int) -> list[Shown]:
    """Up to `n` demonstrations that nothing learns from, with their tokens, as far as they fit into the model."""
    demos = context.material.held_out_demonstrations(n)
    if not demos:
        return []
    limit = context.limit(model)
    shown = [(demo, Example((demonstration_row(context.template, demo, limit),))) for demo in demos]

    def shorten(one: Shown, overlong: Overlong) -> Shown | None:
        example = shortened(context, one[1], limit, overlong)
        return None if example is None else (one[0], example)

    lengths = [longest(example) for _, example in shown]
    return fit_all(context, shown, lengths, limit, shorten, what="held-out demonstrations")
