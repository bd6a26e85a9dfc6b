"""One record per labelled pair: figures of a reward model, and of what a policy learnt from pairs, come from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

TRAINING, HELD_OUT = "training", "held out"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two answers of a pair."""

    text: str
    length: int  # tokens, end-of-sequence included
    score: float | None  # of the reward model
    gold: float | None
    logprobs: Mapping[str, float] = field(default_factory=dict)  # by model: the sum over its tokens, in nats
    held_out: float | None = None  # score of the second reward model


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """What labelers said of two answers to a prompt, and what the models say of them."""

    split: str  # `TRAINING` or `HELD_OUT`
    prompt_id: str
    group: str  # pairs of one ranking share it
    family: str
    chosen: Side
    rejected: Side
    p_chosen: float
    weight: float
    margin: float

    @property
    def delta(self) -> float:
        """By how much the chosen answer scores higher."""
        return self.delta_by("score")

    def delta_by(self, score: str) -> float:
        """The same by `score`, or by that of the second reward model, `held_out`."""
        chosen, rejected = getattr(self.chosen, score), getattr(self.rejected, score)
        if chosen is None or rejected is None:
            raise ValueError("there is no reward model that has scored this pair")
        return float(chosen - rejected)

    @property
    def longer(self) -> int:
        """By how many tokens the chosen answer is longer."""
        return self.chosen.length - self.rejected.length

    def as_row(self) -> dict[str, Any]:
        """For `pairs.jsonl`."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> LabelledPair:
        """The inverse of `as_row`."""
        return cls(**{**row, "chosen": Side(**row["chosen"]), "rejected": Side(**row["rejected"])})
