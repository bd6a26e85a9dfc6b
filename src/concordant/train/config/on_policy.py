"""PPO and its relatives without a critic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from concordant.train.config.loop import CheckpointConfig, OptimizerConfig
from concordant.train.config.scores import ScoredConfig

NORM_SAMPLES = 512  # completions of the reference that fix the score normalisation


class OnPolicyConfig(ScoredConfig):
    """Learning from own samples: rollouts, each followed by clipped updates (arXiv:1707.06347)."""

    checkpoint: CheckpointConfig = CheckpointConfig(every="10 steps")
    updates: int = Field(50, ge=1)
    """Rollouts; each is followed by `epochs` passes of clipped updates."""
    batch: int = Field(128, ge=1)
    """Completions per rollout."""
    group: int = Field(1, ge=1)
    """Completions of each draw of a prompt, which are compared with each other; they divide the batch."""
    epochs: int = Field(2, ge=1)
    """Passes over one rollout."""
    minibatches: int = Field(1, ge=1)
    """Optimiser steps per pass; they divide the batch."""
    kl_coef: float = Field(0.05, ge=0)
    """Weight of the penalty on drift from the reference."""
    kl: Literal["reward", "k2", "k3"] = "reward"
    """Where the penalty stands: per token (k1) in the reward, or in the loss, estimated by k2 or ratio * k3."""
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
    clip: float = Field(0.2, gt=0)
    """The importance ratio is clipped to 1 - clip .. 1 + clip."""
    clip_high: float | None = Field(None, gt=0)
    """Upper clip by itself; unset = clip."""
    ratio: Literal["token", "sequence", "sequence_mean"] = "token"
    """The importance ratio of each token, or of the whole completion: of its sum or mean of log-ratios."""
    average: Literal["token", "sequence", "limit"] = "token"
    """Every token counts the same, or every completion, or the sum of each completion over its longest length."""
    ent_coef: float = Field(0.0, ge=0)
    """Weight of the entropy bonus."""
    early_stop_kl: float | None = Field(None, gt=0)
    """Leave the passes over a rollout once KL(old, new) per token exceeds 1.5 times this; unset = never."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-5, schedule="constant")

    @field_validator("kl_target")
    @classmethod
    def _something_to_adapt(cls, target: float | None, info: ValidationInfo) -> float | None:
        if target is not None and info.data.get("kl_coef") == 0:
            raise ValueError("kl_coef above 0 to start from, as the controller multiplies it")
        return target

    @field_validator("kl_horizon")
    @classmethod
    def _a_target_to_steer_to(cls, horizon: float, info: ValidationInfo) -> float:
        if horizon != cls.model_fields["kl_horizon"].default and not info.data.get("kl_target"):
            raise ValueError("a kl_target beside it: a fixed kl_coef has no horizon")
        return horizon

    @field_validator("group", "minibatches")
    @classmethod
    def _divide_the_batch(cls, part: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch")  # absent where it was refused itself
        if batch and batch % part:
            fitting = _divisors(batch)
            below = max(n for n in fitting if n < part)
            above = min((n for n in fitting if n > part), default=batch)
            raise ValueError(f"a divisor of the batch of {batch}, such as {below} or {above}")
        return part


def _divisors(n: int) -> list[int]:
    """Those up to a million, and what is left beside each: a batch may be absurd, and is refused all the same."""
    small = [d for d in range(1, min(math.isqrt(n), 1_000_000) + 1) if n % d == 0]
    return [*small, *(n // d for d in small)]


class PPOConfig(OnPolicyConfig):
    """PPO with a critic and a KL penalty (arXiv:1707.06347; Ouyang et al. 2022, arXiv:2203.02155)."""

    algorithm: Literal["ppo"] = "ppo"
    """This objective."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount per token."""
    lam: float = Field(0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""
    whiten: bool = True
    """Whiten advantages over the whole rollout."""
    clip_value: float = Field(0.2, gt=0)
    """Values are clipped to the old value plus or minus this."""
    vf_coef: float = Field(0.5, ge=0)
    """Weight of the value loss; with a critic of its own trunk its learning rate says more."""
    critic: Literal["reward_model", "shared"] = "reward_model"
    """A trunk of its own started from the reward model, or a head on the policy's trunk."""
    critic_lr: float | None = Field(None, gt=0)
    """Learning rate of the critic; unset = the policy's."""
    critic_warmup: int = Field(0, ge=0)
    """Rollouts in which only the critic learns."""


class CriticFreeConfig(OnPolicyConfig):
    """PPO without a critic: completions of one prompt are compared with each other.

    An algorithm is a row of `CRITIC_FREE`, a set of defaults of which every one can be changed.
    """

    algorithm: Literal["rloo", "grpo", "dr_grpo", "dapo", "reinforce++", "reinforce++_baseline"]
    """Which set of defaults."""
    advantage: Literal["leave_one_out", "normalised", "centred", "to_go"] = "leave_one_out"
    """The score against the others of its group, in deviations of its group, against its mean, or alone."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount per token, where advantage = to_go."""
    whiten: bool = False
    """Whiten advantages over the whole rollout."""
    dynamic_sampling: int = Field(0, ge=0)
    """Times that groups whose scores are all the same are replaced by groups of other prompts."""
    overlong_buffer: int = Field(0, ge=0)
    """Tokens before the longest completion over which a penalty grows to 1; 0 = none."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_algorithm(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        known = dict(CRITIC_FREE.get(str(values.get("algorithm")), {}))
        longest = values.get("completion", cls.model_fields["completion"].default)
        if "overlong_buffer" in known and type(longest) is int:  # the paper's share of its longest completion
            known["overlong_buffer"] = max(1, longest // 4)
        return {**known, **values}

    @field_validator("overlong_buffer")
    @classmethod
    def _no_longer_than_a_completion(cls, buffer: int, info: ValidationInfo) -> int:
        if buffer > info.data.get("completion", buffer):
            raise ValueError(f"at most the longest completion of {info.data['completion']} tokens")
        return buffer

    @field_validator("gamma")
    @classmethod
    def _steps_to_discount(cls, gamma: float, info: ValidationInfo) -> float:
        if gamma != 1 and info.data.get("advantage", "to_go") != "to_go":
            raise ValueError(
                f"1 for advantage = {info.data['advantage']}, which has one reward per completion"
            )
        return gamma

    @field_validator("dynamic_sampling")
    @classmethod
    def _groups_to_replace(cls, times: int, info: ValidationInfo) -> int:
        if times and info.data.get("advantage") == "to_go":
            raise ValueError("0 for advantage = to_go: a completion by itself has no group to agree with")
        return times

    @field_validator("advantage")
    @classmethod
    def _groups_to_compare(cls, advantage: str, info: ValidationInfo) -> str:
        if advantage != "to_go" and info.data.get("group", 2) < 2:
            raise ValueError(
                "to_go for a group of 1; the others compare the completions of a prompt: set group"
            )
        return advantage


# Defaults after the papers; what they leave open is as elsewhere here (score_norm, missing_eos_penalty).
CRITIC_FREE: Mapping[str, Mapping[str, Any]] = {
    # Ahmadian et al. 2024, arXiv:2402.14740
    "rloo": {
        "group": 4,
        "epochs": 1,
        "ratio": "sequence",
        "average": "sequence",
        "advantage": "leave_one_out",
    },
    # Shao et al. 2024, arXiv:2402.03300
    "grpo": {
        "group": 8,
        "epochs": 1,
        "kl": "k3",
        "kl_coef": 0.04,
        "average": "sequence",
        "advantage": "normalised",
    },
    # Liu et al. 2025, arXiv:2503.20783: without the biases of length and difficulty
    "dr_grpo": {
        "group": 8,
        "epochs": 1,
        "kl": "k3",
        "kl_coef": 0.0,
        "average": "limit",
        "advantage": "centred",
    },
    # Yu et al. 2025, arXiv:2503.14476: no KL, wider clip above, no token wasted on groups that agree
    "dapo": {
        "group": 16,
        "epochs": 1,
        "kl": "k3",
        "kl_coef": 0.0,
        "clip_high": 0.28,
        "advantage": "normalised",
        "dynamic_sampling": 3,
        "overlong_buffer": 16,  # a quarter of the longest completion
        "missing_eos_penalty": 0.0,  # the buffer punishes what never stops
    },
    # Hu 2025, arXiv:2501.03262
    "reinforce++": {"group": 1, "epochs": 1, "advantage": "to_go", "whiten": True},
    "reinforce++_baseline": {
        "group": 8,
        "epochs": 1,
        "kl": "k2",
        "advantage": "centred",
        "whiten": True,
    },
}
