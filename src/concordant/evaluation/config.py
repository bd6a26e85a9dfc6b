"""How much is measured."""

from __future__ import annotations

from pydantic import Field

from concordant.config import Config

SAMPLES = 16  # completions per prompt for diversity


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
    tokens: int = Field(16_384, ge=1)
    """Most tokens, padding included, in one forward pass."""
