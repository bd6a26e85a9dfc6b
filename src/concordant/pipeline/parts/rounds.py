"""Optimising the policy in rounds: on the best of its own samples, or on pairs of them."""

from __future__ import annotations

from typing import Any

from concordant.models.load import load_policy, reference_of, save_model
from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import go_on, last_checkpoint, make_learner, with_adapter
from concordant.pipeline.parts.judging import reward_of
from concordant.pipeline.parts.own_samples import Moved, follow_samples
from concordant.pipeline.parts.sampling import kept_sampler_of, with_ids
from concordant.train.checkpoint import Checkpoint
from concordant.train.config import BestOfNConfig, DPOConfig, OnlineDPOConfig
from concordant.train.learner import Group, Objective
from concordant.train.objectives.direct import pair_objective
from concordant.train.objectives.sft import sft_objective
from concordant.train.refine import Keep, best, best_and_worst, refine


def iterate(context: Context, config: BestOfNConfig | OnlineDPOConfig) -> dict[str, Any]:
    """Refine the policy round by round and leave it as a transformers folder."""
    start = context.model_path(context.start)
    policy = with_adapter(context, load_policy(start).to(context.machine.device))
    reward = reward_of(context, config)
    sampler = kept_sampler_of(context, policy, completion=config.completion, temperature=config.temperature)
    prompts = with_ids(context, context.material.prompts(), policy, config.completion)
    total = config.rounds * config.steps_per_round
    groups = [Group("policy", policy, config.optimizer.lr)]
    learner = make_learner(context, groups, config, total_steps=total)
    keep: Keep = best
    objective: Objective = sft_objective(policy)
    if isinstance(config, OnlineDPOConfig):
        keep = best_and_worst
        objective = pair_objective(policy, DPOConfig(beta=config.beta), reference_of(policy, start))
    found = last_checkpoint(context)
    if found:
        sampler.load_facts(found.facts["sampler"])
    done = go_on(context, learner, found)

    def state() -> Checkpoint:
        return Checkpoint(learner.state(), {"learner": learner.facts(), "sampler": sampler.facts()})

    def brake() -> str:
        learner.pace /= 2
        return "learning rates are halved from here on"

    given = (learner, sampler, reward, prompts, keep, objective, config)
    steps = refine(*given, seed=context.seed("rounds"), done=done)
    moved = Moved(policy, learner, state, found is None, brake, reward)
    for _ in follow_samples(context, steps, moved, config, total=config.rounds):
        pass
    save_model(policy, context.tokenizer, context.folder.model)
    return context.figures
