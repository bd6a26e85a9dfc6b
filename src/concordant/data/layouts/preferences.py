"""Rows of pairs, two answers to one prompt: their readers, and the table of their layouts at the end."""

from __future__ import annotations

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import Value, cell, is_text, number, text, turns
from concordant.data.layouts.exchange import after_system, answered, asked, ending_with_user, prompt_of
from concordant.data.layouts.layout import Layout, Reader
from concordant.data.layouts.transcripts import joined_turns, spoken, transcript
from concordant.data.types import Completion, Message, Preference


def _pair(messages: tuple[Message, ...], chosen: str, rejected: str, row: Value, place: Place) -> Preference:
    return Preference(
        prompt_of(messages, row, place),
        Completion(chosen),
        Completion(rejected),
        p_chosen=number(row, "p_chosen", 1.0, 0.0, 1.0),
        margin=number(row, "margin", 0.0, 0.0),
        weight=number(row, "weight", 1.0, 0.0),
    )


def _asked_pair(column: str) -> Reader[Preference]:
    """A reader of rows whose prompt stands in a column of its own."""

    def read(row: Value, place: Place) -> list[Preference]:
        before = asked(row, column, place)
        chosen, rejected = (answered(row, side, before) for side in ("chosen", "rejected"))
        return [_pair(before, chosen, rejected, row, place)]

    return read


def whole_pair(row: Value, place: Place) -> list[Preference]:
    """Two whole conversations; the prompt is what they share, and each adds one assistant turn."""
    chosen, rejected = (_conversation(row, side) for side in ("chosen", "rejected"))
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    if common == len(chosen) == len(rejected):
        common -= 1  # equal conversations: the last turn is still the answer
    tails = [[turn.role for turn in side[common:]] for side in (chosen, rejected)]
    if common == 0 or tails != [["assistant"], ["assistant"]]:
        raise BadRow(
            "no common prompt",
            f"after {common} shared turns, chosen goes on with [{', '.join(tails[0])}] and rejected with "
            f"[{', '.join(tails[1])}], expected one assistant turn each",
        )
    answers = [spoken(side[-1].content) for side in (chosen, rejected)]
    shared = joined_turns(chosen[:common], place) if is_text(row["chosen"]) else chosen[:common]
    before = ending_with_user(after_system(shared, row), "chosen")
    return [_pair(before, answers[0], answers[1], row, place)]


def _conversation(row: Value, column: str) -> tuple[Message, ...]:
    """All turns of one side: a transcript, or a list."""
    value = cell(row, column)
    return transcript(text(value, column)) if is_text(value) else turns(value, column)


def _different(read: Reader[Preference]) -> Reader[Preference]:
    """The same reader, refusing pairs that state no preference."""

    def checked(row: Value, place: Place) -> list[Preference]:
        pairs = read(row, place)
        if any(pair.chosen.text == pair.rejected.text for pair in pairs):
            raise BadRow("identical", "chosen and rejected are the same text")
        return pairs

    return checked


_USES = ("system", "family", "p_chosen", "margin", "weight")

# Equal sides state no preference, but the chosen one may still be imitated: `PREFERENCES` refuses them.
PAIRS: tuple[Layout[Preference], ...] = (
    Layout("prompt, chosen, rejected", ("prompt", "chosen", "rejected"), _asked_pair("prompt"), _USES),
    Layout(
        "conversations with chosen, rejected",
        ("conversations", "chosen", "rejected"),
        _asked_pair("conversations"),
        _USES,
    ),
    Layout(
        "instruction with chosen, rejected",
        ("instruction", "chosen", "rejected"),
        _asked_pair("instruction"),
        (*_USES, "input", "history"),
    ),
    Layout("whole conversations chosen, rejected", ("chosen", "rejected"), whole_pair, _USES),
)

PREFERENCES = tuple(Layout(p.name, p.needs, _different(p.read), p.uses) for p in PAIRS)
