"""From chats with an answer to imitate to rows that a loss can read."""

from __future__ import annotations

from concordant.data.batches import Row
from concordant.data.template import Template
from concordant.data.types import Demonstration, Message


def demonstration_row(template: Template, demo: Demonstration, limit: int) -> Row:
    """Token ids of a chat: everything before the first assistant turn is prompt, only assistant turns count.

    In a chat of more than `limit` tokens only the last answer counts, so that what is before it can be trimmed.
    """
    ids, mask = template.conversation((*demo.prompt.messages, Message("assistant", demo.completion.text)))
    first = mask.index(True)
    if len(ids) > limit:
        first = len(mask) - mask[::-1].index(False) if False in mask[first:] else first
    return Row(tuple(ids[:first]), tuple(ids[first:]), tuple(mask[first:]))
