"""What the stages that learn from fixed data share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from concordant.data.batches import Example
from concordant.models.load import add_adapter
from concordant.pipeline.context import Context
from concordant.train.checkpoint import Checkpoint, Checkpoints
from concordant.train.config import FitConfig, LoopConfig
from concordant.train.fit import fit, validated
from concordant.train.learner import Group, Learner, Objective


def fit_stage(
    context: Context,
    model: Any,
    examples: Sequence[Example],
    objective_of: Callable[[Sequence[Example]], Objective],
    config: FitConfig,
    *,
    title: str,
    held_out: Sequence[Example] = (),
) -> dict[str, float]:
    """Fit `model` on examples, from the stage's checkpoint if there is one; returns the figures of what is left.

    `held_out`, if there are any, are looked at now and then.
    """
    total = config.total_steps(len(examples))
    groups = [Group("model", model, config.optimizer.lr)]
    learner = make_learner(context, groups, config, total_steps=total)
    go_on(context, learner, last_checkpoint(context))

    def state() -> Checkpoint:
        return Checkpoint(learner.state(), {"learner": learner.facts()})

    steps = fit(learner, examples, objective_of, config, seed=context.seed("order"))
    if held_out and config.validations:
        steps = validated(steps, learner, held_out, objective_of(held_out), config)
    following = context.follow(
        steps, title=title, when=config.checkpoint, state=state, restore=restorer(learner)
    )
    for _ in following:
        pass
    return context.figures


def with_adapter(context: Context, model: Any) -> Any:
    """The model as it is trained: with an adapter on it where the recipe wants one."""
    adapter = context.recipe.model.adapter
    return add_adapter(model, adapter, context.seed("adapter")) if adapter else model


def make_learner(context: Context, groups: list[Group], config: LoopConfig, *, total_steps: int) -> Learner:
    """A learner for the run's machine and tokenizer."""
    return Learner(
        groups,
        config.optimizer,
        total_steps=total_steps,
        tokens=config.tokens,
        packing=config.packing,
        pad_id=context.template.pad_id,
        machine=context.machine,
        skipped=context.folder.skipped,
        say=context.reporter.say,
    )


def last_checkpoint(context: Context) -> Checkpoint | None:
    """The newest whole checkpoint of a half-done stage; None for a fresh start."""
    return Checkpoints(context.folder.checkpoints).newest(context.reporter.say)


def go_on(context: Context, learner: Learner, found: Checkpoint | None) -> int:
    """Put learner, logs and totals where the checkpoint was taken; returns its step, 0 for a fresh start."""
    step = int(found.facts["step"]) if found else 0
    context.folder.cut_steps(step)
    if found:
        learner.load_state(found.tensors, found.facts["learner"])
        context.load_facts(found.facts)
        context.reporter.say(f"  taken up again after step {step}")
    return step


def restorer(learner: Learner) -> Callable[[Checkpoint], None]:
    """What puts a learner back to where a checkpoint was taken."""
    return lambda found: learner.load_state(found.tensors, found.facts["learner"])
