"""Which prompts and answers are looked at closely: a few of every family, each prompt once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer

SHOWN_PER_FAMILY = 2
SHOWN_WITHOUT_FAMILIES = 12


def spread(prompts: Sequence[Prompt], n: int) -> list[int]:
    """Places of `n` prompts, different ones as far as there are any, in turn from all families."""
    families: dict[str, dict[str, int]] = {}
    for place, prompt in enumerate(prompts):
        families.setdefault(prompt.family, {}).setdefault(prompt.id, place)
    columns = [list(members.values()) for members in families.values()]
    longest = max(map(len, columns))
    return [column[i] for i in range(longest) for column in columns if i < len(column)][:n]


def side_by_side(answers: Mapping[str, Sequence[Answer]]) -> list[dict[str, Any]]:
    """A few prompts of each family with the answers of all models, which are given by name, one per draw."""
    shown: dict[str, dict[str, dict[str, Any]]] = {}  # rows by family and prompt
    for row in zip(*answers.values(), strict=True):
        prompt = row[0].prompt
        rows = shown.setdefault(prompt.family, {})
        limit = SHOWN_PER_FAMILY if prompt.family else SHOWN_WITHOUT_FAMILIES
        if len(rows) < limit and prompt.id not in rows:
            rows[prompt.id] = {
                "id": prompt.id,
                "family": prompt.family,
                "prompt": [message.as_dict() for message in prompt.messages],
                "answers": {answer.model: _beside(answer) for answer in row},
            }
    return [row for rows in shown.values() for row in rows.values()]


def _beside(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "gold": None if answer.gold is None else answer.gold.total,
        "score": answer.score,
    }
