"""Setting rows aside for validation, so that no prompt stands on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from concordant.data.types import Demonstration, Preference, Prompt

Row = TypeVar("Row", Prompt, Demonstration, Preference)


def prompt_of(row: Prompt | Demonstration | Preference) -> Prompt:
    """The prompt a row is about."""
    return row if isinstance(row, Prompt) else row.prompt


def place(prompt_id: str, seed: int) -> float:
    """A number in [0, 1) that depends on the prompt and the seed alone."""
    digest = hashlib.sha256(f"{seed}/{prompt_id}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


def split_by_prompt(rows: Sequence[Row], validation: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Split rows into training and validation by the hash of their prompt; order is kept.

    About the fraction `validation` of the prompts goes to validation. A prompt never changes sides
    when rows are added, except where a set is so small that no prompt falls below the fraction: then
    the one nearest to it is taken, so that there is something to validate on.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation is a fraction in [0, 1), not {validation}")
    places = {prompt.id: place(prompt.id, seed) for prompt in map(prompt_of, rows)}
    if validation == 0 or len(places) < 2:
        return list(rows), []
    aside = {prompt_id for prompt_id, at in places.items() if at < validation}
    if not aside:
        aside = {min(places, key=places.__getitem__)}
    if len(aside) == len(places):
        aside.remove(max(places, key=places.__getitem__))
    training = [row for row in rows if prompt_of(row).id not in aside]
    return training, [row for row in rows if prompt_of(row).id in aside]


def shared_prompts(
    left: Sequence[Prompt | Demonstration | Preference], right: Sequence[Prompt | Demonstration | Preference]
) -> int:
    """How many prompts stand in both sets: anything but 0 spoils a measurement."""
    return len({prompt_of(row).id for row in left} & {prompt_of(row).id for row in right})
