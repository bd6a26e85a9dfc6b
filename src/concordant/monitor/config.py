"""What is watched while a policy learns from its own samples, and what an alarm does."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from concordant.config import Config


class MonitorConfig(Config):
    """Fixed questions that provoke one failure each, asked again and again while the policy is trained."""

    canaries: int = Field(5, ge=0)
    """Steps of steps.jsonl between two looks at the canaries; 0 = none. Only a world has canaries."""
    samples: int = Field(64, ge=16)
    """Completions of a canary in one look."""
    on_alarm: Literal["warn", "brake"] = "warn"
    """What a canary's alarm does: say so; or also double kl_coef and halve the learning rate from there on."""
