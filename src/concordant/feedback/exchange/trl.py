"""The layouts that TRL reads, as messages or as strings.

As messages every row is exact. As strings a prompt of one user turn is its text, and one of several turns is a
transcript with Human: and Assistant: paragraphs, as `data.layouts` reads them; a system turn goes into a column
`system`. A conversation whose text would be taken for other turns has no string: None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from concordant.data.layouts.account import BadRow
from concordant.data.layouts.transcripts import is_transcript, transcript
from concordant.data.types import Completion, Judgement, Message, Preference, Prompt

Row: TypeAlias = dict[str, Any]
Turns = Literal["messages", "strings"]

SPEAKERS = {"user": "Human", "assistant": "Assistant"}


def explicit(one: Preference, turns: Turns) -> Row | None:
    """`prompt`, `chosen`, `rejected`."""
    row = asked(one.prompt, turns)
    sides = {"chosen": _answer(one.chosen, turns), "rejected": _answer(one.rejected, turns)}
    return None if row is None else row | sides


def implicit(one: Preference, turns: Turns) -> Row | None:
    """`chosen`, `rejected`, each a whole conversation."""
    row: Row = {}
    for name, side in (("chosen", one.chosen), ("rejected", one.rejected)):
        messages = (*one.prompt.messages, Message("assistant", side.text))
        if turns == "messages":
            row[name] = [message.as_dict() for message in messages]
        else:
            system, spoken = _split(messages)
            text = _transcript(spoken)
            if text is None:
                return None
            row |= {name: text} | system
    return row


def judged(one: Judgement, turns: Turns) -> Row | None:
    """`prompt`, `completion`, `label`."""
    row = answered(one.prompt, one.completion, turns)
    return None if row is None else row | {"label": one.desirable}


def answered(prompt: Prompt, completion: Completion, turns: Turns) -> Row | None:
    """`prompt`, `completion`."""
    row = asked(prompt, turns)
    return None if row is None else row | {"completion": _answer(completion, turns)}


def asked(prompt: Prompt, turns: Turns) -> Row | None:
    """`prompt`."""
    if turns == "messages":
        return {"prompt": [message.as_dict() for message in prompt.messages]}
    system, spoken = _split(prompt.messages)
    if len(spoken) == 1 and not is_transcript(spoken[0].content):
        return {"prompt": spoken[0].content} | system
    text = _transcript((*spoken, Message("assistant", "")))
    return None if text is None else {"prompt": text} | system


def _answer(completion: Completion, turns: Turns) -> Any:
    if turns == "strings":
        return completion.text
    return [{"role": "assistant", "content": completion.text}]


def _split(messages: Sequence[Message]) -> tuple[Row, Sequence[Message]]:
    """The system turn as a column, and the turns after it."""
    if messages[0].role == "system":
        return {"system": messages[0].content}, messages[1:]
    return {}, messages


def _transcript(messages: Sequence[Message]) -> str | None:
    """The turns as one text, unless it would be read as others."""
    text = "".join(f"\n\n{SPEAKERS[one.role]}: {one.content}".rstrip(" ") for one in messages)
    try:
        read = transcript(text)
    except BadRow:
        return None
    same = [(one.role, one.content.strip()) for one in messages]
    return text if [(one.role, one.content) for one in read] == same else None
