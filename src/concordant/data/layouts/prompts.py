"""Rows that ask something: their readers, and the table of their layouts at the end.

Pairs and demonstrations are prompts too; the answer of a demonstration is kept as a reference.
"""

from __future__ import annotations

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import Value, cell, turns
from concordant.data.layouts.demonstrations import chosen_side, instances, text_transcript
from concordant.data.layouts.exchange import alternating, asked, prompt_of
from concordant.data.layouts.layout import Layout, Reader
from concordant.data.layouts.preferences import whole_pair
from concordant.data.types import Demonstration, Prompt


def _plain(column: str) -> Reader[Prompt]:
    """A reader of rows whose prompt stands in a column of its own."""

    def read(row: Value, place: Place) -> list[Prompt]:
        return [prompt_of(asked(row, column, place), row, place, _reference(row))]

    return read


def _reference(row: Value) -> str:
    """A reference answer, where a row has one as text."""
    for column in ("answer", "completion", "output"):
        value = row.get(column)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def _conversation(column: str) -> Reader[Prompt]:
    """A reader of conversations: the turns before the last answer, or all where the user spoke last."""

    def read(row: Value, place: Place) -> list[Prompt]:
        found = alternating(turns(cell(row, column), column))
        if found[-1].role == "user":
            return [prompt_of(found, row, place)]
        if len(found) == 1:
            raise BadRow("role", "a conversation without a user turn")
        return [prompt_of(found[:-1], row, place, found[-1].content)]

    return read


def _prompt_side(read: Reader[Demonstration], *, answers: bool = True) -> Reader[Prompt]:
    """A reader of demonstrations as a reader of prompts, with or without their answers as a reference."""

    def prompts(row: Value, place: Place) -> list[Prompt]:
        return [
            prompt_of(d.prompt.messages, row, place, d.completion.text if answers else "")
            for d in read(row, place)
        ]

    return prompts


_USES = ("answer", "completion", "output", "system", "family")

PROMPTS: tuple[Layout[Prompt], ...] = (
    Layout("prompt", ("prompt",), _plain("prompt"), _USES),
    Layout("instruction, instances", ("instruction", "instances"), _prompt_side(instances), ("family",)),
    Layout("instruction", ("instruction",), _plain("instruction"), (*_USES, "input", "history")),
    Layout("messages", ("messages",), _conversation("messages"), ("family",)),
    Layout("conversations", ("conversations",), _conversation("conversations"), ("family",)),
    Layout(
        "whole conversations chosen, rejected: their prompt",
        ("chosen", "rejected"),
        _prompt_side(chosen_side(whole_pair), answers=False),
        ("family",),
    ),
    Layout("transcript", ("text",), _prompt_side(text_transcript), ("family",)),
)
