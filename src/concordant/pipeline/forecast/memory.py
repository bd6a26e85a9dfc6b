"""What a stage holds in memory at once, worked out from sizes alone: bytes by what they are for."""

from __future__ import annotations

from collections.abc import Mapping

from concordant.pipeline.forecast.lengths import mean
from concordant.pipeline.forecast.size import FLOAT, ModelSize
from concordant.pipeline.forecast.work import Work
from concordant.pipeline.recipe import Recipe
from concordant.train.config import NORM_SAMPLES, OnlineDPOConfig, OnPolicyConfig, PPOConfig, ScoredConfig

MOMENTS = 2  # numbers that AdamW keeps of each trained one
SLOTS = 256  # rows that `rollout.inline.InlineSampler` samples at once
LOGITS = 2  # times the logits of a forward pass are held: themselves, and their gradient
CACHES = 3  # times keys and values are held while rows join: the old ones, these padded, and all of them

SAMPLING = ("feedback", "policy", "evaluate")


def memory_of(recipe: Recipe, size: ModelSize, work: Work) -> dict[str, int]:
    """Bytes of weights, gradients, moments, frozen models, logits and cache; activations are not among them."""
    parts = {"weights": size.parameters * FLOAT}
    if work.settings is not None:
        parts |= _training(recipe, size, work)
    if work.stage == "policy":
        parts |= _others(recipe, size)
    if work.stage == "evaluate":
        parts["reference"] = size.parameters * FLOAT
        if recipe.reward is not None:
            parts["reward model"] = size.trunk * FLOAT
            parts["second reward model"] = size.trunk * FLOAT * bool(recipe.reward.held_out)
    if work.stage in SAMPLING and "sample" in work.spent:
        parts["sampler"] = sampler_bytes(recipe, size, work)
    return {name: number for name, number in parts.items() if number}


def _training(recipe: Recipe, size: ModelSize, work: Work) -> dict[str, int]:
    assert work.settings is not None
    trained = trained_numbers(recipe, size, work.stage)
    read = mean([shape.tokens for shape in work.shapes])
    # A forward pass computes logits for completion columns only, and a reward model none at all.
    share = mean([sum(shape.completions) for shape in work.shapes]) / read if read else 1.0
    logits = 0 if work.stage == "reward" else round(work.settings.tokens * share) * size.vocabulary
    return {
        "adapter": trained * FLOAT if recipe.model.adapter else 0,
        "gradients": trained * FLOAT,
        "moments": trained * FLOAT * MOMENTS,
        "logits": logits * FLOAT * LOGITS,
    }


def _others(recipe: Recipe, size: ModelSize) -> dict[str, int]:
    """Models beside the policy; those that learn from fixed data ask their reference before they begin."""
    policy = recipe.policy
    parts = {}
    if isinstance(policy, OnPolicyConfig | OnlineDPOConfig) and recipe.model.adapter is None:
        parts["reference"] = size.parameters * FLOAT
    if isinstance(policy, ScoredConfig) and policy.needs_reward_stage:
        parts["reward model"] = size.trunk * FLOAT
    if isinstance(policy, PPOConfig):
        parts["critic"] = critic_numbers(policy, size) * FLOAT
    return parts


def critic_numbers(policy: PPOConfig, size: ModelSize) -> int:
    """Numbers of the critic: a trunk of its own with a head, or the head alone."""
    return size.hidden + 1 + (size.trunk if policy.critic == "reward_model" else 0)


def trained_numbers(recipe: Recipe, size: ModelSize, stage: str) -> int:
    """Numbers that the optimiser of a stage moves."""
    adapter = None if stage == "base" else recipe.model.adapter
    if stage == "reward":
        return (size.adapter(adapter) if adapter else size.trunk) + size.hidden
    trained = size.trained(adapter)
    if stage == "policy" and isinstance(recipe.policy, PPOConfig):
        trained += critic_numbers(recipe.policy, size)
    return trained


def sampler_bytes(recipe: Recipe, size: ModelSize, work: Work) -> int:
    """Keys and values of all rows at their longest, and the mask with which their prompts are read."""
    at_once = work.completions
    if (
        isinstance(recipe.policy, OnPolicyConfig)
        and work.stage == "policy"
        and recipe.policy.score_norm != "none"
    ):
        at_once = max(at_once, NORM_SAMPLES)
    rows, prompt = min(SLOTS, at_once), max((shape.prompt for shape in work.shapes), default=0)
    return CACHES * size.cache(rows, columns(recipe, work)) + rows * prompt**2 * FLOAT


def columns(recipe: Recipe, work: Work) -> int:
    """Tokens of the longest row that a stage samples, as far as prompts are known."""
    limits: Mapping[str, int] = {
        "feedback": recipe.feedback.completion,
        "policy": recipe.policy.completion if isinstance(recipe.policy, ScoredConfig) else 0,
        "evaluate": recipe.evaluate.completion if recipe.evaluate else 0,
    }
    return limits[work.stage] + max((shape.prompt for shape in work.shapes), default=0)
