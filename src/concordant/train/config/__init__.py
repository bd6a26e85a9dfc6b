"""Settings of the two loops, a file for each family. No torch here: recipes are read without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from concordant.train.config.direct import (
    DirectConfig,
    DirectPolicyConfig,
    DPOConfig,
    IPOConfig,
    KTOConfig,
    ORPOConfig,
    PairConfig,
    SimPOConfig,
)
from concordant.train.config.loop import (
    MOST_VALIDATED,
    CheckpointConfig,
    FitConfig,
    LoopConfig,
    OptimizerConfig,
)
from concordant.train.config.on_policy import (
    CRITIC_FREE,
    NORM_SAMPLES,
    CriticFreeConfig,
    OnPolicyConfig,
    PPOConfig,
)
from concordant.train.config.rounds import (
    BestOfNConfig,
    OnlineDPOConfig,
    RoundsConfig,
)
from concordant.train.config.scores import (
    EnsemblePartConfig,
    FunctionPartConfig,
    LabelersPartConfig,
    ModelPartConfig,
    RewardPartConfig,
    ScoredConfig,
    ServerPartConfig,
)

__all__ = [
    "CRITIC_FREE",
    "MOST_VALIDATED",
    "NORM_SAMPLES",
    "BestOfNConfig",
    "CheckpointConfig",
    "CriticFreeConfig",
    "DPOConfig",
    "DirectConfig",
    "DirectPolicyConfig",
    "EnsemblePartConfig",
    "FitConfig",
    "FunctionPartConfig",
    "IPOConfig",
    "KTOConfig",
    "LabelersPartConfig",
    "LoopConfig",
    "ModelPartConfig",
    "ORPOConfig",
    "OnPolicyConfig",
    "OnlineDPOConfig",
    "OptimizerConfig",
    "PPOConfig",
    "PairConfig",
    "PolicyConfig",
    "RewardPartConfig",
    "RoundsConfig",
    "ScoredConfig",
    "ServerPartConfig",
    "SimPOConfig",
]


def _ppo_unless_named(value: Any) -> Any:
    return {"algorithm": "ppo", **value} if isinstance(value, Mapping) else value


PolicyConfig = Annotated[
    PPOConfig
    | CriticFreeConfig
    | BestOfNConfig
    | OnlineDPOConfig
    | DPOConfig
    | IPOConfig
    | KTOConfig
    | ORPOConfig
    | SimPOConfig,
    Field(discriminator="algorithm"),
    BeforeValidator(_ppo_unless_named),
]
