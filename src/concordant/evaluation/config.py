"""How much is measured, and what the figures have to show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from concordant.config import Config
from concordant.data.config import Sources
from concordant.files import sha256_of

SAMPLES = 16  # completions per prompt for diversity

Rule = Literal["better", "no_more", "no_less"]


class EvaluateConfig(Config):
    """Every model answers the same held-back prompts."""

    prompts: int = Field(1_000, ge=1)
    """Prompts, one completion each; of a world, this many in each of its splits."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""
    completion: int = Field(64, ge=1)
    """Most tokens of a completion."""
    diversity_prompts: int = Field(64, ge=1)
    """Prompts that get 16 completions each, for diversity and for the accuracy on the policy's own pairs."""
    best_of_prompts: int = Field(64, ge=0)
    """Prompts of the best-of-n curve; 0 = no curve."""
    best_of: int = Field(256, ge=2)
    """Completions per prompt of the best-of-n curve, sampled from the fine-tuned model."""
    labelers: str = ""
    """Of a world: simulated labelers (as feedback.labelers) who compare the models, in both orders; empty = nobody."""
    compared: int = Field(500, ge=1)
    """Prompts on which they do."""
    text: Sources = ()
    """Held-out text on which the perplexity of every model is measured: rows with a column `text`, or a .txt file
    whose documents are told apart by blank lines. A world has its own."""
    documents: int = Field(500, ge=0)
    """Most documents of it, and of a world so many chats; 0 = no perplexity."""
    tokens: int = Field(16_384, ge=1)
    """Most tokens, padding included, in one forward pass."""


class GateConfig(Config):
    """What the policy has to show before it may be released, stated before anything is measured."""

    target: str = "win_rate.people"
    """The figure in which the policy has to be better than the model that its training started from."""
    margin: float = Field(0.0, ge=0)
    """By more than this; of a win rate, above one half by more than this."""
    no_more: dict[str, float] = Field({"duplicate_bigrams": 0.02})
    """Figures that may not rise, each with the margin up to which it may all the same."""
    no_less: dict[str, float] = Field({"eos_rate": 0.02})
    """Figures that may not fall, each with the margin up to which it may all the same."""

    @field_validator("no_more", "no_less", mode="before")
    @classmethod
    def _dotted(cls, value: Any) -> Any:
        return dict(_leaves(value, "")) if isinstance(value, Mapping) else value

    @field_validator("no_more", "no_less")
    @classmethod
    def _not_negative(cls, margins: dict[str, float]) -> dict[str, float]:
        if any(margin < 0 for margin in margins.values()):
            raise ValueError("margins of 0 or more, in the units of their figures")
        return margins

    def demands(self) -> list[tuple[str, Rule, float]]:
        """Figure, rule and margin of each demand, the target first."""
        more: list[tuple[str, Rule, float]] = [
            (name, "no_more", margin) for name, margin in self.no_more.items()
        ]
        less: list[tuple[str, Rule, float]] = [
            (name, "no_less", margin) for name, margin in self.no_less.items()
        ]
        return [(self.target, "better", self.margin), *more, *less]

    def digest(self) -> str:
        """What tells these demands from all others."""
        return sha256_of(self.model_dump(mode="json"))[:16]


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """TOML reads `refusals_by_family.harm = 0` as a table in a table; figures are named by the whole of it."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
