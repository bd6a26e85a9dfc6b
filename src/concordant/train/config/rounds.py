"""Rounds that sample, score, and fit the policy to what scored best."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from concordant.train.config.loop import CheckpointConfig, OptimizerConfig
from concordant.train.config.scores import ScoredConfig


class RoundsConfig(ScoredConfig):
    """Rounds of sampling, keeping what scored best, and fitting the policy to it."""

    checkpoint: CheckpointConfig = CheckpointConfig(every="1 step")
    rounds: int = Field(1, ge=1)
    """Rounds, each from the policy that the last one left."""
    prompts: int = Field(512, ge=1)
    """Prompts of a round."""
    samples: int = Field(8, ge=2)
    """Completions per prompt."""
    batch: int = Field(64, ge=1)
    """Examples per optimiser step."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the examples of a round."""

    @property
    def steps_per_round(self) -> int:
        """Optimiser steps of a round in which every prompt gives an example."""
        return max(1, round(self.epochs * self.prompts / self.batch))


class BestOfNConfig(RoundsConfig):
    """Fine-tuning on the best of n samples: rejection sampling; over rounds, expert iteration (arXiv:2307.09288)."""

    algorithm: Literal["best_of_n"] = "best_of_n"
    """This objective."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-5, schedule="constant")


class OnlineDPOConfig(RoundsConfig):
    """DPO on pairs of the policy's own samples, the best against the worst (Guo et al. 2024, arXiv:2402.04792)."""

    algorithm: Literal["online_dpo"] = "online_dpo"
    """This objective."""
    beta: float = Field(0.1, gt=0)
    """Weight of drift from the reference."""
    rounds: int = Field(8, ge=1)
    """Rounds, each from the policy that the last one left."""
    samples: int = Field(4, ge=2)
    """Completions per prompt."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=5e-6, schedule="constant")
