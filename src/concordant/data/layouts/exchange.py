"""What a row asks and what it answers, in whatever form it says so: the pieces that all readers of rows share.

The question may be text, a transcript, a list of turns, or an instruction with history and input; a column
`system` goes before it. The answer may be text, one turn, or a list that repeats the question.
"""

from __future__ import annotations

from collections.abc import Mapping

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import Value, cell, is_list, is_text, optional_text, text, text_in, turns
from concordant.data.layouts.transcripts import is_transcript, joined_turns, transcript
from concordant.data.types import Message, Prompt


def asked(row: Value, column: str, place: Place) -> tuple[Message, ...]:
    """The turns before the answer, with the system column before them."""
    if column == "instruction":
        return _instructed(row)
    value = cell(row, column)
    if is_transcript(value):
        found = transcript(text(value, column))
        if found[-1] == Message("assistant", ""):
            found = found[:-1]
        found = joined_turns(found, place)
    elif is_text(value):
        found = (Message("user", text(value, column)),)
    else:
        found = turns(value, column)
    return ending_with_user(after_system(found, row), column)


def _instructed(row: Value) -> tuple[Message, ...]:
    """The turns before the answer in an instruction row: system, history, instruction and input."""
    found = [Message("system", system)] if (system := optional_text(row, "system")) else []
    history = row.get("history") or ()
    for pair in history if is_list(history) else [history]:
        if not is_list(pair) or len(pair) != 2:
            raise BadRow("type", "column history holds something else than pairs of question and answer")
        question, answer = (text(side, "history") for side in pair)
        found += [Message("user", question), Message("assistant", answer)]
    instruction, material = text_in(row, "instruction"), optional_text(row, "input")
    return (*found, Message("user", f"{instruction}\n\n{material}" if material else instruction))


def answered(row: Value, column: str, before: tuple[Message, ...]) -> str:
    """The text of the answer to `before`: text, one assistant turn, or a list that repeats the prompt."""
    value = cell(row, column)
    if is_text(value):
        return text(value, column)
    found = turns([value] if isinstance(value, Mapping) else value, column)
    if len(found) > 1 and found[:-1] == before[-len(found) + 1 :]:
        found = found[-1:]
    if len(found) != 1 or found[0].role != "assistant":
        order = ", ".join(turn.role for turn in found)
        raise BadRow(
            "role", f"column {column} has turns [{order}], expected one assistant turn after the prompt"
        )
    return found[0].content


def after_system(messages: tuple[Message, ...], row: Value) -> tuple[Message, ...]:
    """The turns with the system column of their row before them, unless they begin with a system turn."""
    system = optional_text(row, "system")
    has_own = bool(messages) and messages[0].role == "system"
    return (Message("system", system), *messages) if system and not has_own else messages


def ending_with_user(messages: tuple[Message, ...], column: str) -> tuple[Message, ...]:
    """The same turns, once it is clear that they are a prompt: the user spoke last."""
    if not messages or messages[-1].role != "user":
        last = f"ends with a turn of {messages[-1].role}" if messages else "is empty"
        raise BadRow("role", f"the prompt in {column} {last}, expected the user's turn at its end")
    return alternating(messages)


def alternating(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same turns, once it is clear that user and assistant take turns and a system turn comes first."""
    if not messages:
        raise BadRow("role", "there are no turns, expected user and assistant by turns, user first")
    spoken = messages[1:] if messages[0].role == "system" else messages
    for number, message in enumerate(spoken):
        wanted = "assistant" if number % 2 else "user"
        if message.role != wanted:
            order = ", ".join(m.role for m in messages)
            raise BadRow("role", f"turns are [{order}], expected user and assistant by turns, user first")
    return messages


def prompt_of(messages: tuple[Message, ...], row: Value, place: Place, answer: str = "") -> Prompt:
    """A prompt that knows its row: where it stands, and the family if the row has one."""
    family = row.get("family")
    return Prompt(messages, family if isinstance(family, str) else "", place.where, answer)
