"""Who says how good a completion is: the run's reward model, and the world's exact reward."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.data.template import Template, load_tokenizer
from concordant.data.types import Prompt
from concordant.feedback.answering.labelers import Labeler
from concordant.feedback.answering.simulated import simulated_labelers
from concordant.models.load import load_reward_model
from concordant.pipeline.context import Context, path_of
from concordant.pipeline.folder import StageFolder
from concordant.rollout.rollout import Rollout, Sample
from concordant.seeds import derive
from concordant.train.config import (
    EnsemblePartConfig,
    FunctionPartConfig,
    LabelersPartConfig,
    ModelPartConfig,
    ScoredConfig,
    ServerPartConfig,
)
from concordant.train.reward_sources import (
    Ensemble,
    Mix,
    OtherRewardModel,
    Ranked,
    source_outside,
)
from concordant.train.rewards import Reward, RewardModel

RewardPart = ModelPartConfig | EnsemblePartConfig | FunctionPartConfig | ServerPartConfig | LabelersPartConfig


def reward_model_of(context: Context, tokens: int) -> RewardModel:
    """The run's reward model, computing at most so many tokens at once."""
    return _reward_model_in(context, context.inputs["reward"], tokens)


def held_out_model_of(context: Context, tokens: int) -> RewardModel | None:
    """The second reward model, which no policy was trained on; None where the recipe wants none."""
    folder = context.inputs["reward"].held_out
    return None if folder.finished() is None else _reward_model_in(context, folder, tokens)


def _reward_model_in(context: Context, folder: StageFolder, tokens: int) -> RewardModel:
    model = load_reward_model(str(folder.model)).to(context.machine.device)
    return RewardModel(model, context.template.pad_id, tokens, context.machine, context.reporter.say)


def reward_of(context: Context, config: ScoredConfig) -> Reward:
    """Where the policy's scores come from, as the recipe says."""
    if not config.rewards:
        return reward_model_of(context, config.tokens)
    parts = {
        name: (part.weight, _source(context, part, config.tokens)) for name, part in config.rewards.items()
    }
    return Mix(parts)


def _source(context: Context, part: RewardPart, tokens: int) -> Reward:
    def text(sample: Sample) -> str:
        return context.template.text(sample.completion)

    def model(path: str) -> Reward:
        if not path:
            return reward_model_of(context, tokens)
        path = path_of(context.recipe, path)
        template = Template(load_tokenizer(path))
        loaded = load_reward_model(path).to(context.machine.device)
        scorer = RewardModel(loaded, template.pad_id, tokens, context.machine, context.reporter.say)
        return OtherRewardModel(scorer, template, text)

    if isinstance(part, EnsemblePartConfig):
        return Ensemble(tuple(map(model, part.paths)), part.combine, part.spread_coef)
    if isinstance(part, ModelPartConfig):
        return model(part.path)
    if isinstance(part, LabelersPartConfig):
        return Ranked(context.store, labelers_of(context), text, context.recipe.feedback.votes)
    return source_outside(part, text)


def labelers_of(context: Context) -> tuple[Labeler, ...]:
    """The recipe's labelers."""
    world = context.material.world
    assert world is not None, "planning refuses simulated labelers without a world"
    name = context.recipe.feedback.labelers
    return tuple(
        simulated_labelers(name, world.gold, seed=derive(context.recipe.seed, "feedback", "labelers"))
    )


def golds_of(context: Context, prompts: Sequence[Prompt], rollout: Rollout) -> list[float] | None:
    """The gold reward of each completion of a rollout of these prompts; None where nobody knows it."""
    world = context.material.world
    if world is None:
        return None
    text = context.template.text
    return [world.gold(prompts[s.prompt], text(s.completion)).total for s in rollout.samples]
