"""A new round of labels: what the policy says now, put before people, where an alarm has paused its training."""

from __future__ import annotations

from typing import Any

from concordant.feedback.store import Store
from concordant.pipeline.context import Context
from concordant.pipeline.interrupt import PausedByMonitor
from concordant.pipeline.parts.sampling import completion_of, sampler_of, with_ids
from concordant.train.config import RoundsConfig
from concordant.train.estimate import OnPolicy
from concordant.train.step import Step

FIRST = 1.0  # priority of these questions: they come before those that wait already


def ask_people_about(
    context: Context, policy: Any, config: OnPolicy | RoundsConfig, step: Step
) -> PausedByMonitor:
    """Ask for votes on pairs of the policy's answers to prompts of training; the reason to pause, for people.

    Votes on them belong to training: the reward model learns from them, and the policy is trained anew.
    """
    settings = context.recipe.feedback
    prompts = with_ids(
        context, context.material.prompts()[: context.recipe.monitor.relabel], policy, config.completion
    )
    sampler = sampler_of(
        context, policy, completion=config.completion, temperature=config.temperature, stops=False
    )
    seed = context.seed("relabel", step.number)
    rollout = sampler.sample([ids for _, ids in prompts], samples=2, seed=seed)
    producer = {"stage": "policy", "step": step.number, "temperature": config.temperature, "seed": seed}
    rows = [
        (prompts[one.prompt][0], completion_of(context, one), producer | {"row": one.prompt}, one.ended)
        for one in rollout.samples
    ]
    with Store.open(context.store, durability=settings.durability) as store:
        ids = store.add_completions(rows)
        different = [
            [ids[n], ids[n + 1]]
            for n in range(0, len(ids), 2)
            if rollout.samples[n].completion != rollout.samples[n + 1].completion
        ]
        store.create_tasks("pairwise", different, need=settings.votes, rubric=context.rubric, priority=FIRST)
    alarm = "; ".join(f"step {one.step}, {one.detector}" for one in context.watch.new)
    return PausedByMonitor(alarm, len(different))
