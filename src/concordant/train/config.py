"""Settings of the two loops. No torch here: recipes are read without it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from concordant.config import Config


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


class LoopConfig(Config):
    """What every training stage has."""

    tokens: int = Field(8192, ge=1)
    """Most tokens, padding included, in one forward pass; sets memory, not the result."""
    checkpoint: int = Field(100, ge=0)
    """Optimiser steps (rollouts, in PPO) between two checkpoints; 0 = none before the end."""


class FitConfig(LoopConfig):
    """Learning from fixed data."""

    batch: int = Field(64, ge=1)
    """Examples per optimiser step."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the data; ignored when steps is set."""
    steps: int = Field(0, ge=0)
    """Optimiser steps; 0 = as many as epochs asks for."""
    optimizer: OptimizerConfig = OptimizerConfig()

    def total_steps(self, examples: int) -> int:
        """Optimiser steps on this many examples."""
        return self.steps or max(1, round(self.epochs * examples / self.batch))


class PPOConfig(LoopConfig):
    """PPO with a KL penalty (Schulman et al. 2017, arXiv:1707.06347; Ouyang et al. 2022, arXiv:2203.02155)."""

    updates: int = Field(50, ge=1)
    """Rollouts; each is followed by `epochs` passes of clipped updates."""
    batch: int = Field(128, ge=1)
    """Prompts per rollout, one completion each."""
    epochs: int = Field(2, ge=1)
    """Passes over one rollout."""
    minibatches: int = Field(1, ge=1)
    """Optimiser steps per pass; they divide the batch."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature; it stands inside every log-probability of the update."""
    completion: int = Field(64, ge=1)
    """Most tokens of a completion."""
    kl_coef: float = Field(0.05, ge=0)
    """Weight of the per-token KL penalty (k1) against the reference, inside the reward."""
    kl_target: float | None = Field(None, gt=0)
    """Adapt kl_coef so that the KL per sequence stays near this many nats; unset = fixed kl_coef."""
    kl_horizon: float = Field(10_000, gt=0)
    """Completions over which the adaptive controller corrects (Ziegler et al. 2019, arXiv:1909.08593)."""
    score_norm: Literal["none", "reference"] = "reference"
    """Shift and scale scores by their mean and deviation on the reference's own completions."""
    score_clip: float = Field(0.0, ge=0)
    """Clip normalised scores to plus or minus this; 0 = no clipping."""
    missing_eos_penalty: float = Field(1.0, ge=0)
    """Taken off the score of a completion that never stopped."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount per token."""
    lam: float = Field(0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""
    whiten: bool = True
    """Whiten advantages over the whole rollout."""
    clip: float = Field(0.2, gt=0)
    """The importance ratio is clipped to 1 - clip .. 1 + clip."""
    clip_high: float | None = Field(None, gt=0)
    """Upper clip by itself; unset = clip."""
    clip_value: float = Field(0.2, gt=0)
    """Values are clipped to the old value plus or minus this."""
    vf_coef: float = Field(0.5, ge=0)
    """Weight of the value loss; with a critic of its own trunk its learning rate says more."""
    ent_coef: float = Field(0.0, ge=0)
    """Weight of the entropy bonus."""
    target_kl: float | None = Field(None, gt=0)
    """Leave the passes over a rollout once KL(old, new) per token exceeds 1.5 times this; unset = never."""
    critic: Literal["reward_model", "shared"] = "reward_model"
    """A trunk of its own started from the reward model, or a head on the policy's trunk."""
    critic_lr: float | None = Field(None, gt=0)
    """Learning rate of the critic; unset = the policy's."""
    critic_warmup: int = Field(0, ge=0)
    """Rollouts in which only the critic learns."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-5, schedule="constant")

    @field_validator("minibatches")
    @classmethod
    def _divide_the_batch(cls, minibatches: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch")  # absent where it was refused itself
        if batch and batch % minibatches:
            raise ValueError(f"a divisor of the batch of {batch}")
        return minibatches
