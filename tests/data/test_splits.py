"""Validation rows share no prompt with training rows, and stay where they are."""

from __future__ import annotations

import pytest

from concordant.data.splits import shared_prompts, split_by_prompt
from concordant.data.types import Completion, Preference, Prompt


def pairs(n: int) -> list[Preference]:
    """Three pairs for each of n prompts."""
    return [Preference(Prompt.user(f"q{k % n}"), Completion(f"a{k}"), Completion("b")) for k in range(3 * n)]


def test_no_prompt_on_both_sides_and_nothing_lost() -> None:
    rows = pairs(400)
    training, validation = split_by_prompt(rows, 0.1, seed=1)
    assert shared_prompts(training, validation) == 0
    assert sorted(training + validation, key=lambda row: int(row.chosen.text[1:])) == rows
    assert len(validation) / len(rows) == pytest.approx(0.1, abs=0.05)
    assert split_by_prompt(rows, 0.1, seed=2)[1] != validation


def test_sides_are_stable_when_rows_are_added() -> None:
    few, many = split_by_prompt(pairs(100), 0.2, seed=1), split_by_prompt(pairs(400), 0.2, seed=1)
    for side in (0, 1):
        assert {row.prompt.id for row in few[side]} <= {row.prompt.id for row in many[side]}


def test_small_sets_and_no_validation() -> None:
    rows = [Prompt.user(text) for text in ("a", "b", "c")]
    training, validation = split_by_prompt(rows, 0.001, seed=0)
    assert (len(training), len(validation)) == (2, 1)
    assert split_by_prompt(rows, 0.0, seed=0) == (rows, [])
    assert split_by_prompt(rows[:1], 0.5, seed=0) == (rows[:1], [])
    with pytest.raises(ValueError, match="fraction"):
        split_by_prompt(rows, 1.0, seed=0)
