"""Optimising the policy on its own samples: PPO and its critic-free relatives, against the reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concordant.core.kl import AdaptiveKL, FixedKL
from concordant.models.critic import Critic, SharedCritic, TrunkCritic
from concordant.models.forward import bare
from concordant.models.load import load_policy, reference_of, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import go_on, last_checkpoint, make_learner, with_adapter
from concordant.pipeline.parts.judging import reward_model_of, reward_of
from concordant.pipeline.parts.own_samples import Moved, follow_samples
from concordant.pipeline.parts.sampling import kept_sampler_of, with_ids
from concordant.rollout.rollout import Asked, Sampler
from concordant.train.checkpoint import Checkpoint
from concordant.train.config import NORM_SAMPLES, CriticFreeConfig, PPOConfig
from concordant.train.estimate import Models, OnPolicy
from concordant.train.improve import improve
from concordant.train.improver import Improver
from concordant.train.learner import Group
from concordant.train.rewards import Reward, ScoreNorm, checked


def optimise(context: Context, config: OnPolicy) -> dict[str, Any]:
    """Improve the policy and leave it as a transformers folder."""
    start = context.model_path(context.start)
    policy = with_adapter(context, load_policy(start).to(context.machine.device))
    reward = reward_of(context, config)
    sampler = kept_sampler_of(
        context,
        policy,
        completion=config.completion,
        temperature=config.temperature,
        most=1 + (config.dynamic_sampling if isinstance(config, CriticFreeConfig) else 0),
    )
    prompts = with_ids(context, context.material.prompts(), policy, config.completion)
    found = last_checkpoint(context)
    if found:
        sampler.load_facts(found.facts["sampler"])
        norm = ScoreNorm(**found.facts["improver"]["norm"])
    else:
        norm = reference_scores(sampler, reward, prompts, config, seed=context.seed("score norm"))
    groups = [Group("policy", policy, config.optimizer.lr)]
    critic = None
    if isinstance(config, PPOConfig):
        critic = make_critic(context, policy, norm, config).to(context.machine.device)
        groups.append(Group("critic", critic, config.critic_lr or config.optimizer.lr))
    total = config.updates * config.epochs * config.minibatches
    learner = make_learner(context, groups, config, total_steps=total)
    models = Models(policy, reference_of(policy, start), critic)
    seed = context.seed("updates")
    controller = make_controller(config)
    improver = Improver(models, learner, controller, norm, config, seed=seed)
    go_on(context, learner, found)
    if found:
        improver.load_state(found.facts["improver"])

    def state() -> Checkpoint:
        facts = {"learner": learner.facts(), "improver": improver.state(), "sampler": sampler.facts()}
        return Checkpoint(learner.state(), facts)

    def brake() -> str:
        improver.brake()
        return f"kl_coef is {controller.coef:g} from here on, learning rates are halved"

    steps = improve(improver, sampler, reward, prompts)
    moved = Moved(policy, learner, state, found is None, brake, reward)
    for _ in follow_samples(context, steps, moved, config, total=config.updates):
        pass
    save_model(policy, context.tokenizer, context.folder.model)
    return {"score_mean": improver.norm.mean, "score_std": improver.norm.std, **context.figures}


def reference_scores(
    sampler: Sampler,
    reward: Reward,
    prompts: Sequence[Asked],
    config: OnPolicy,
    *,
    seed: int,
) -> ScoreNorm:
    """Mean and deviation of the scores of the reference's own completions; the policy still is the reference."""
    if config.score_norm == "none":
        return ScoreNorm()
    asked = [prompts[i % len(prompts)] for i in range(NORM_SAMPLES)]
    rollout = sampler.sample([ids for _, ids in asked], seed=seed)
    questions = [prompt for prompt, _ in asked]
    scores = checked(reward.score(questions, rollout), questions, rollout)
    return ScoreNorm.of(scores.values[scores.known])


def make_controller(config: OnPolicy) -> FixedKL | AdaptiveKL:
    """The coefficient of the KL penalty: fixed, or steered towards a target."""
    if config.kl_target is None:
        return FixedKL(config.kl_coef)
    return AdaptiveKL(config.kl_coef, config.kl_target, config.kl_horizon)


def make_critic(context: Context, policy: Any, norm: ScoreNorm, config: PPOConfig) -> Critic:
    """The critic the recipe asks for."""
    if config.critic == "shared":
        return SharedCritic(bare(policy).config.get_text_config().hidden_size)
    model = reward_model_of(context, config.tokens).model
    if config.rewards:
        return TrunkCritic(model)  # its scores are on a scale of their own: the head learns the shift
    return TrunkCritic(model, score_mean=norm.mean, score_std=norm.std)
