"""What every training stage has: an optimiser, checkpoints, and passes over fixed data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from concordant.config import Config
from concordant.errors import UserError

MOST_VALIDATED = 128  # examples in a look at what was kept out


class OptimizerConfig(Config):
    """AdamW with a warm-up and a schedule."""

    lr: float = Field(1e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls after the warm-up: not at all, to zero in a line, or as a cosine."""
    warmup: int = Field(0, ge=0)
    """Optimiser steps over which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    beta2: float = Field(0.999, gt=0, lt=1)
    """Decay of the second moment of AdamW."""
    clip_grad: float = Field(1.0, ge=0)
    """Largest norm of the gradient, policy and critic each by itself; 0 = no clipping."""
    skip_at_most: int = Field(5, ge=1)
    """Steps in a row whose loss or gradient is not finite, each left out, before training stops."""


class CheckpointConfig(Config):
    """When the state of a stage is saved; `checkpoint = 50` is short for `every` in this section."""

    every: str = Field("100 steps", pattern=r"^\d{1,9} (steps?|min)$")
    """Steps or minutes between two checkpoints: "50 steps", 50 or "10 min"; 0 = none before the end.

    Steps are those of steps.jsonl: optimiser steps; on own samples, rollouts or rounds.
    """
    keep: int = Field(2, ge=1)
    """Checkpoints that stay until the stage is complete, the newest ones."""
    best: str = Field("", pattern=r"^(-?[a-z_]+(/[a-z_0-9]+)?)?$")
    """Figure of steps.jsonl, with a minus where lower is better: the checkpoint with the best one stays too, and is
    what the stage leaves; empty = the stage leaves what its last step gave.

    Such as "objective/rlhf_reward" for PPO. Only the last step and those that `every` names are compared: with minutes
    they depend on the clock, and so does what the stage leaves.
    """

    @model_validator(mode="before")
    @classmethod
    def _every_unless_named(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping | CheckpointConfig) else {"every": value}

    @field_validator("every", mode="before")
    @classmethod
    def _steps_unless_said(cls, value: Any) -> Any:
        return f"{value} steps" if type(value) is int else value

    def check_best(self, metrics: Mapping[str, float]) -> None:
        """Raise a `UserError` where the steps of a stage, of which these are the figures, have none that is `best`."""
        name = self.best.removeprefix("-")
        if name and name not in metrics:
            raise UserError(
                f"the steps of this stage have no figure {name!r}",
                where="checkpoint.best",
                expected=f"one of {', '.join(sorted(metrics))}",
                fix="name one of them, or leave checkpoint.best empty",
            )

    def rank(self, metrics: Mapping[str, float]) -> float:
        """How good a step is by `best`: higher is better, and a step without that figure is the worst."""
        value = metrics.get(self.best.removeprefix("-"), math.nan)
        if not math.isfinite(value):
            return -math.inf
        return -value if self.best.startswith("-") else value

    @property
    def steps(self) -> int:
        """Steps between two checkpoints; 0 where minutes decide, or nothing does."""
        return 0 if self.every.endswith("min") else int(self.every.split()[0])

    @property
    def minutes(self) -> int:
        """Minutes between two checkpoints; 0 where steps decide, or nothing does."""
        return int(self.every.split()[0]) if self.every.endswith("min") else 0


class LoopConfig(Config):
    """What every training stage has."""

    tokens: int = Field(8192, ge=1)
    """Most tokens, padding included, in one forward pass; sets memory, not the result."""
    packing: bool = False
    """Learn without padding, rows one behind the other: for attention that skips what it may not see (flash, flex)."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    @field_validator("checkpoint", "optimizer", mode="before")
    @classmethod
    def _what_is_not_said_stays(cls, value: Any, info: ValidationInfo) -> Any:
        """A part of [optimizer] leaves the section's own defaults in force, not those of AdamW in general."""
        assert info.field_name is not None
        default = cls.model_fields[info.field_name].default
        return {**default.model_dump(), **value} if isinstance(value, Mapping) else value


class FitConfig(LoopConfig):
    """Learning from fixed data."""

    batch: int = Field(64, ge=1)
    """Examples per optimiser step."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the data; ignored when steps is set."""
    steps: int = Field(0, ge=0)
    """Optimiser steps; 0 = as many as epochs asks for."""
    validations: int = Field(5, ge=0)
    """Looks at up to 128 rows that were kept out, evenly over the steps: demonstrations and pairs."""

    def total_steps(self, examples: int) -> int:
        """Optimiser steps on this many examples."""
        return self.steps or max(1, round(self.epochs * examples / self.batch))
