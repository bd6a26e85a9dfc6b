"""Sampling from the policy, and where the scores of its samples come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from concordant.config import Config
from concordant.train.config.loop import LoopConfig


class RewardPartConfig(Config):
    """One source of scores."""

    weight: float = 1.0
    """Factor of its scores in the sum."""


class ModelPartConfig(RewardPartConfig):
    """A reward model."""

    kind: Literal["model"] = "model"
    """This source."""
    path: str = ""
    """Folder (relative to data_root or to here) or hub name; empty = the reward model of this run."""


class EnsemblePartConfig(RewardPartConfig):
    """Several reward models as one (Coste et al. 2023, arXiv:2310.02743)."""

    kind: Literal["ensemble"]
    """This source."""
    paths: tuple[str, ...] = Field(min_length=2)
    """Folders or hub names; "" is the reward model of this run."""
    combine: Literal["mean", "min", "spread"] = "mean"
    """Their mean, their minimum, or the mean less spread_coef times the variance."""
    spread_coef: float = Field(1.0, ge=0)
    """Weight of the variance, where combine = spread."""

    @field_validator("spread_coef")
    @classmethod
    def _a_spread_to_weigh(cls, coef: float, info: ValidationInfo) -> float:
        if coef != 1 and info.data.get("combine", "spread") != "spread":
            raise ValueError(f"1 for combine = {info.data['combine']}, which has no use for it")
        return coef


class FunctionPartConfig(RewardPartConfig):
    """A Python function."""

    kind: Literal["function"]
    """This source."""
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    """Dotted name package.module:function; called with lists of chats and completions, returns a list of numbers."""


class ServerPartConfig(RewardPartConfig):
    """A server that gives scores over HTTP; the text of prompts and completions is sent there."""

    kind: Literal["server"]
    """This source."""
    url: str = Field(pattern=r"^https?://")
    """Address of the POST request."""
    timeout: float = Field(60.0, gt=0)
    """Seconds to wait for an answer; three tries."""


class LabelersPartConfig(RewardPartConfig):
    """The labelers of [feedback], who rank the completions of each prompt; their votes are kept."""

    kind: Literal["labelers"]
    """This source: the score is the share of the other completions that one is put above."""


def _model_unless_named(value: Any) -> Any:
    return {"kind": "model", **value} if isinstance(value, Mapping) else value


class ScoredConfig(LoopConfig):
    """Sampling from the policy, and scores for what it said."""

    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""
    completion: int = Field(64, ge=1)
    """Most tokens of a completion."""
    rewards: dict[
        str,
        Annotated[
            ModelPartConfig | EnsemblePartConfig | FunctionPartConfig | ServerPartConfig | LabelersPartConfig,
            Field(discriminator="kind"),
            BeforeValidator(_model_unless_named),
        ],
    ] = Field(default_factory=dict)
    """Where scores come from, by name; they are added up. None = the reward model of this run."""

    @property
    def needs_reward_stage(self) -> bool:
        """Whether scores come from a reward model trained in this run."""
        own = [part for part in self.rewards.values() if isinstance(part, ModelPartConfig) and not part.path]
        mixed = [part for part in self.rewards.values() if isinstance(part, EnsemblePartConfig)]
        return not self.rewards or bool(own) or any("" in part.paths for part in mixed)

    @property
    def asks_labelers(self) -> bool:
        """Whether scores come from the ranks that labelers give."""
        return any(isinstance(part, LabelersPartConfig) for part in self.rewards.values())
