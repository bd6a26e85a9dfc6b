"""Which embedded world, and how much of it."""

from __future__ import annotations

from pydantic import Field

from concordant.config import Config


class WorldConfig(Config):
    """An embedded world instead of files: text, prompts, labelers' taste and an exact gold reward."""

    name: str = "town"
    """Name of the world."""
    corpus: int = Field(40_000, ge=1, le=10_000_000)
    """Chats the embedded model is pretrained on."""
    demonstrations: int = Field(3_000, ge=1, le=10_000_000)
    """Demonstrations for supervised fine-tuning."""
    prompts: int = Field(6_000, ge=1, le=10_000_000)
    """Training prompts: for candidates, and for PPO."""
