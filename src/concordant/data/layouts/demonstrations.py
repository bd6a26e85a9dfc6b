"""Rows with an answer to imitate: their readers, and the table of their layouts at the end.

Rows of pairs are demonstrations too, by their chosen side.
"""

from __future__ import annotations

from collections.abc import Mapping

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import LABELS, Value, cell, is_list, is_undesirable, text_in, turns
from concordant.data.layouts.exchange import after_system, alternating, answered, asked, prompt_of
from concordant.data.layouts.layout import Layout, Reader
from concordant.data.layouts.preferences import PAIRS
from concordant.data.layouts.transcripts import is_transcript, joined_turns, spoken, transcript
from concordant.data.types import Completion, Demonstration, Message, Preference


def _prompt_completion(row: Value, place: Place) -> list[Demonstration]:
    before = asked(row, "prompt", place)
    answer = answered(row, "completion", before)
    return [Demonstration(prompt_of(before, row, place), Completion(answer))]


def _instruction_output(row: Value, place: Place) -> list[Demonstration]:
    before = asked(row, "instruction", place)
    answer = text_in(row, "output")
    return [Demonstration(prompt_of(before, row, place), Completion(answer))]


def instances(row: Value, place: Place) -> list[Demonstration]:
    """One instruction with several inputs and outputs."""
    several = cell(row, "instances")
    if not is_list(several) or not several:
        raise BadRow("type", "column instances holds no list of inputs and outputs")
    found = []
    for instance in several:
        if not isinstance(instance, Mapping):
            raise BadRow("type", "column instances holds something else than objects")
        found += _instruction_output({**row, **instance}, place)
    return found


def _conversation(column: str) -> Reader[Demonstration]:
    """A reader of whole conversations as lists of turns."""

    def read(row: Value, place: Place) -> list[Demonstration]:
        return [_last_answer(after_system(turns(cell(row, column), column), row), row, place)]

    return read


def text_transcript(row: Value, place: Place) -> list[Demonstration]:
    """A whole conversation as a transcript in the column `text`."""
    text = text_in(row, "text")
    if not is_transcript(text):
        raise BadRow(
            "role", "column text holds no turns: what is the prompt? expected Human: and Assistant: turns"
        )
    found = transcript(text)
    if found[-1].role == "assistant":
        spoken(found[-1].content)
    return [_last_answer(joined_turns(found, place), row, place)]


def _last_answer(messages: tuple[Message, ...], row: Value, place: Place) -> Demonstration:
    """Split a conversation before its last assistant turn."""
    alternating(messages)
    last = max((n for n, turn in enumerate(messages) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise BadRow("role", "a conversation without an assistant turn")
    if last + 1 < len(messages):
        place.mended("open end", "the last user turn has no answer and is left out")
    return Demonstration(prompt_of(messages[:last], row, place), Completion(messages[last].content))


def chosen_side(read: Reader[Preference]) -> Reader[Demonstration]:
    """A reader of pairs as a reader of demonstrations."""

    def chosen(row: Value, place: Place) -> list[Demonstration]:
        return [Demonstration(pair.prompt, pair.chosen) for pair in read(row, place)]

    return chosen


def _desired(read: Reader[Demonstration]) -> Reader[Demonstration]:
    """The same reader, leaving out answers that a label column calls bad."""

    def checked(row: Value, place: Place) -> list[Demonstration]:
        if is_undesirable(row):
            raise BadRow("undesirable", "the label says that this answer is a bad one: not to be imitated")
        return read(row, place)

    return checked


# One answer to a row, which a label beside it may call good or bad.
SINGLE: tuple[Layout[Demonstration], ...] = (
    Layout("prompt, completion", ("prompt", "completion"), _prompt_completion, ("system", "family")),
    Layout(
        "instruction, output",
        ("instruction", "output"),
        _instruction_output,
        ("input", "system", "history", "family"),
    ),
    Layout("messages", ("messages",), _conversation("messages"), ("system", "family")),
    Layout("conversations", ("conversations",), _conversation("conversations"), ("system", "family")),
)

_OTHERS: tuple[Layout[Demonstration], ...] = (
    Layout("instruction, instances", ("instruction", "instances"), instances, ("family",)),
    Layout("transcript", ("text",), text_transcript, ("family",)),
)

DEMONSTRATIONS = (
    *(Layout(f"{p.name}: the chosen side", p.needs, chosen_side(p.read), p.uses) for p in PAIRS),
    *(Layout(d.name, d.needs, _desired(d.read), (*d.uses, *LABELS)) for d in (*SINGLE, *_OTHERS)),
)
