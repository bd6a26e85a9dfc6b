"""Who says how good a completion is: the run's reward model, and the world's exact reward."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.data.types import Prompt
from concordant.models.load import load_reward_model
from concordant.pipeline.context import Context
from concordant.rollout.rollout import Rollout
from concordant.train.rewards import RewardModel


def reward_model_of(context: Context, tokens: int) -> RewardModel:
    """The run's reward model, computing at most so many tokens at once."""
    model = load_reward_model(str(context.inputs["reward"].model)).to(context.machine.device)
    return RewardModel(model, context.template.pad_id, tokens, context.machine)


def golds_of(context: Context, prompts: Sequence[Prompt], rollout: Rollout) -> list[float] | None:
    """The gold reward of each completion of a rollout of these prompts; None where nobody knows it."""
    world = context.material.world
    if world is None:
        return None
    text = context.template.text
    return [world.gold(prompts[s.prompt], text(s.completion)).total for s in rollout.samples]
