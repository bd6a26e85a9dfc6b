"""Transcripts: a conversation as one text, in paragraphs that begin with `Human:` and `Assistant:` (HH-RLHF).

People recorded them by hand, so that turns may be empty or stand twice in a row; this is mended and noted.
"""

from __future__ import annotations

import re
from typing import Any

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import ALIASES
from concordant.data.types import Message

_MARK = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def is_transcript(value: Any) -> bool:
    """Whether a cell holds a transcript."""
    return isinstance(value, str) and re.match(r"(\n\n)?Human:", value) is not None


def transcript(text: str) -> tuple[Message, ...]:
    """The turns of a transcript with `Human:` and `Assistant:` paragraphs; an open last turn is empty."""
    parts = _MARK.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise BadRow("role", "not a transcript that begins with Human: and goes on with Assistant:")
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Message(ALIASES[name.lower()], content.strip()) for name, content in pairs)


def joined_turns(messages: tuple[Message, ...], place: Place) -> tuple[Message, ...]:
    """The turns of a transcript, the empty ones left out, those of one speaker in a row joined."""
    joined: list[Message] = []
    for message in messages:
        if joined and message.content and joined[-1].role == message.role:
            joined[-1] = Message(message.role, f"{joined[-1].content}\n\n{message.content}")
        elif message.content:
            joined.append(message)
    if len(joined) < len(messages):
        place.mended("turns joined", f"{len(messages) - len(joined)} turns were empty or by the same speaker")
    return tuple(joined)


def spoken(text: str) -> str:
    """The last answer of a transcript, which people do leave empty: counted, not a mistake of the file."""
    if not text:
        raise BadRow("empty answer", "the last assistant turn is empty")
    return text
