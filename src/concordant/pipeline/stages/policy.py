"""Policy optimisation: PPO from the fine-tuned model against the reward model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from concordant.core.kl import AdaptiveKL, FixedKL
from concordant.data.types import Prompt
from concordant.models.critic import Critic, SharedCritic, TrunkCritic
from concordant.models.forward import bare
from concordant.models.load import load_policy, reference_of, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import make_learner, resume, with_adapter
from concordant.pipeline.parts.judging import golds_of, reward_model_of
from concordant.pipeline.parts.sampling import sampler_of, with_ids
from concordant.pipeline.recipe import PolicyConfig
from concordant.rollout.inline import InlineSampler
from concordant.train.checkpoint import Checkpoint
from concordant.train.improve import Models, improve
from concordant.train.learner import Group
from concordant.train.rewards import RewardModel, ScoreNorm
from concordant.train.step import Step

NORM_SAMPLES = 512  # completions of the reference that fix the score normalisation
SHOWN = 4  # completions per rollout kept for people


def run(context: Context) -> dict[str, Any]:
    """Optimise the policy and leave it as a transformers folder."""
    config = context.recipe.policy
    assert config is not None
    start = context.model_path(context.start)
    policy = with_adapter(context, load_policy(start).to(context.machine.device))
    reward = reward_model_of(context, config.tokens)
    sampler = sampler_of(context, policy, completion=config.completion, temperature=config.temperature)
    prompts = with_ids(context, context.material.prompts(), policy, config.completion)
    norm = reference_scores(sampler, reward, prompts, config, seed=context.seed("score norm"))
    critic = make_critic(policy, reward, norm, config).to(context.machine.device)
    groups = [
        Group("policy", policy, config.optimizer.lr),
        Group("critic", critic, config.critic_lr or config.optimizer.lr),
    ]
    total = config.updates * config.epochs * config.minibatches
    learner = make_learner(context, groups, config.optimizer, total_steps=total, tokens=config.tokens)
    controller = make_controller(config)
    facts = resume(context, learner)
    if facts:
        controller.load_state(facts["controller"])

    def checkpoint(_step: Step) -> Checkpoint:
        return Checkpoint(
            learner.state(), {"optimizer_steps": learner.steps, "controller": controller.state()}
        )

    models = Models(policy, reference_of(policy, start), critic, reward)
    seed, done = context.seed("updates"), int(facts.get("step", 0))
    steps = improve(models, sampler, prompts, learner, controller, norm, config, seed=seed, done=done)
    watched = (with_gold(context, step) for step in steps)
    last: dict[str, float] = {}
    for step in context.follow(watched, title="PPO", every=config.checkpoint, checkpoint=checkpoint):
        last = dict(step.metrics)
        context.folder.append(context.folder.samples, shown(context, step))
    save_model(policy, context.tokenizer, context.folder.model)
    return {"score_mean": norm.mean, "score_std": norm.std, **last}


def reference_scores(
    sampler: InlineSampler,
    reward: RewardModel,
    prompts: list[tuple[Prompt, tuple[int, ...]]],
    config: PolicyConfig,
    *,
    seed: int,
) -> ScoreNorm:
    """Mean and deviation of the scores of the reference's own completions; the policy still is the reference."""
    if config.score_norm == "none":
        return ScoreNorm()
    asked = [prompts[i % len(prompts)] for i in range(NORM_SAMPLES)]
    rollout = sampler.sample([ids for _, ids in asked], seed=seed)
    return ScoreNorm.of(reward.score([prompt for prompt, _ in asked], rollout))


def make_controller(config: PolicyConfig) -> FixedKL | AdaptiveKL:
    """The coefficient of the KL penalty: fixed, or steered towards a target."""
    if config.kl_target is None:
        return FixedKL(config.kl_coef)
    return AdaptiveKL(config.kl_coef, config.kl_target, config.kl_horizon)


def make_critic(policy: Any, reward: RewardModel, norm: ScoreNorm, config: PolicyConfig) -> Critic:
    """The critic the recipe asks for."""
    if config.critic == "shared":
        return SharedCritic(bare(policy).config.get_text_config().hidden_size)
    return TrunkCritic(reward.model, score_mean=norm.mean, score_std=norm.std)


def with_gold(context: Context, step: Step) -> Step:
    """The step with the mean gold reward of its rollout, where a world knows it."""
    assert step.rollout is not None
    golds = golds_of(context, step.prompts, step.rollout)
    if golds is None:
        return step
    metrics = {**step.metrics, "objective/gold": sum(golds) / len(golds)}
    return replace(step, metrics=metrics)


def shown(context: Context, step: Step) -> list[dict[str, Any]]:
    """A few completions of the step's rollout, for people."""
    assert step.rollout is not None
    return [
        {
            "step": step.number,
            "prompt": [m.as_dict() for m in step.prompts[sample.prompt].messages],
            "completion": context.template.text(sample.completion),
            "score": score,
            "ended": sample.ended,
        }
        for sample, score in list(zip(step.rollout.samples, step.scores, strict=True))[:SHOWN]
    ]
