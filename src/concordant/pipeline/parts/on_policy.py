"""Optimising the policy on its own samples: PPO and its critic-free relatives, against the reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from concordant.core.kl import AdaptiveKL, FixedKL
from concordant.models.critic import Critic, SharedCritic, TrunkCritic
from concordant.models.forward import bare
from concordant.models.load import load_policy, reference_of, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import go_on, last_checkpoint, make_learner, restorer, with_adapter
from concordant.pipeline.parts.judging import golds_of, reward_model_of, reward_of
from concordant.pipeline.parts.sampling import kept_sampler_of, with_ids
from concordant.pipeline.parts.watching import Canaries
from concordant.rollout.rollout import Asked, Sampler
from concordant.train.checkpoint import Checkpoint
from concordant.train.config import NORM_SAMPLES, CriticFreeConfig, PPOConfig
from concordant.train.estimate import Models, OnPolicy
from concordant.train.improve import improve
from concordant.train.improver import Improver
from concordant.train.learner import Group
from concordant.train.rewards import Reward, ScoreNorm, checked
from concordant.train.step import Step

SHOWN = 4  # completions per rollout kept for people


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

    canaries = Canaries(
        context,
        policy,
        completion=config.completion,
        temperature=config.temperature,
        steps=config.updates,
    )
    if not found:
        canaries.look_before()
    watched = canaries.over(improve(improver, sampler, reward, prompts))
    steps = (with_gold(context, step) for step in watched)
    title = config.algorithm.upper()
    following = context.follow(
        steps, title=title, when=config.checkpoint, state=state, restore=restorer(learner)
    )
    for step in following:
        context.folder.append(context.folder.samples, shown(context, step))
        if context.brakes:
            improver.brake()
            context.reporter.say(
                f"  braking: kl_coef is {controller.coef:g} from here on, learning rates are halved"
            )
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
