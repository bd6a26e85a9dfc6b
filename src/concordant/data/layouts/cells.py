"""One column of a row: text, a number, a label, a list of turns. What a cell should not hold is a `BadRow`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from concordant.data.layouts.account import BadRow
from concordant.data.types import Message

Value = Mapping[str, Any]  # a row as the source has it, under our column names

ALIASES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}


def cell(row: Value, column: str) -> Any:
    """A cell whose column must be there."""
    if column not in row:
        raise BadRow("missing", f"no column {column}")
    return row[column]


def is_text(value: Any) -> bool:
    """Whether a cell is meant as text; null is text that is missing."""
    return value is None or isinstance(value, str)


def text(value: Any, column: str) -> str:
    """A cell that must hold text."""
    if value is None:
        raise BadRow("null", f"column {column} is null")
    if not isinstance(value, str):
        raise BadRow("type", f"column {column} holds {type(value).__name__}, expected text")
    if not value.strip():
        raise BadRow("empty", f"column {column} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow("type", f"column {column} holds half of a surrogate pair, which is no text") from None
    return value


def text_in(row: Value, column: str) -> str:
    """The text of a column that must be there."""
    return text(cell(row, column), column)


def optional_text(row: Value, column: str) -> str:
    """A cell that may be absent, null or empty."""
    value = row.get(column)
    return text(value, column) if value not in (None, "") else ""


def number(row: Value, column: str, default: float, low: float, high: float = math.inf) -> float:
    """A number from `low` to `high`, or `default` where the cell is absent, null or empty."""
    value = row.get(column)
    if value is None or value == "":
        return default
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not low <= found <= high or math.isinf(found):
        raise BadRow("number", f"column {column} holds {value!r}, expected a number from {low} to {high}")
    return found


LABELS = ("label", "kto_tag")  # columns that call an answer good or bad; the second as LLaMA-Factory names it


def is_desirable(row: Value, column: str) -> bool:
    """Whether a label (rows judged one by one) calls the answer a good one."""
    label = cell(row, column)
    if label in (True, 1, "true", "True", "1"):
        return True
    if label in (False, 0, "false", "False", "0"):
        return False
    raise BadRow("label", f"column {column} holds {label!r}, accepted are true, false, 1, 0")


def is_undesirable(row: Value) -> bool:
    """Whether a row has a label that calls its answer a bad one; rows need none."""
    return any(row.get(column) is not None and not is_desirable(row, column) for column in LABELS)


def is_list(value: Any) -> bool:
    """Whether a cell holds a list; text is none."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def turns(value: Any, column: str) -> tuple[Message, ...]:
    """A list of turns; an empty system turn stands for none."""
    if value is None:
        raise BadRow("null", f"column {column} is null")
    if not is_list(value):
        raise BadRow("type", f"column {column} holds {type(value).__name__}, expected a list of turns")
    found = tuple(message for turn in value if (message := _message(turn, column)).content)
    if not found:
        raise BadRow("empty", f"column {column} has no turns")
    return found


def _message(value: Any, column: str) -> Message:
    if not isinstance(value, Mapping):
        raise BadRow(
            "type", f"column {column} holds a turn that is {type(value).__name__}, expected an object"
        )
    role, content = ("role", "content") if "role" in value else ("from", "value")
    if role not in value or content not in value:
        keys = ", ".join(map(str, value))
        raise BadRow(
            "missing", f"a turn of {column} has [{keys}], expected role and content, or from and value"
        )
    name = value[role]
    if not isinstance(name, str) or name.lower() not in ALIASES:
        known = ", ".join(ALIASES)
        raise BadRow("role", f"column {column} has a turn of {name!r}, known roles are {known}")
    if ALIASES[name.lower()] == "system" and value[content] == "":
        return Message("system", "")
    return Message(ALIASES[name.lower()], text(value[content], f"{column}.{content}"))
