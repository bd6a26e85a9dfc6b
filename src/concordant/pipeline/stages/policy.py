"""Policy optimisation, by the algorithm of the recipe: on its own samples, or directly on preferences."""

from __future__ import annotations

from typing import Any

from concordant.pipeline.context import Context
from concordant.train.config import OnPolicyConfig, RoundsConfig


def run(context: Context) -> dict[str, Any]:
    """Optimise the policy and leave it as a transformers folder."""
    config = context.recipe.policy
    assert config is not None
    if isinstance(config, OnPolicyConfig):
        from concordant.pipeline.parts.on_policy import optimise

        return optimise(context, config)
    if isinstance(config, RoundsConfig):
        from concordant.pipeline.parts.rounds import iterate

        return iterate(context, config)
    from concordant.pipeline.parts.direct import learn

    return learn(context, config)
