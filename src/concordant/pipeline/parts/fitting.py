"""What the stages that learn from fixed data share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from concordant.data.batches import Example
from concordant.models.load import add_adapter
from concordant.pipeline.context import Context, Totals
from concordant.train.checkpoint import Checkpoint, Checkpoints
from concordant.train.config import FitConfig, LoopConfig
from concordant.train.fit import fit
from concordant.train.learner import Group, Learner, Objective


def fit_stage(
    context: Context,
    model: Any,
    examples: Sequence[Example],
    objective_of: Callable[[Sequence[Example]], Objective],
    config: FitConfig,
    *,
    title: str,
) -> dict[str, float]:
    """Fit `model` on examples, from the stage's checkpoint if there is one; returns the last metrics."""
    total = config.total_steps(len(examples))
    groups = [Group("model", model, config.optimizer.lr)]
    learner = make_learner(context, groups, config, total_steps=total)
    resume(context, learner)

    def state() -> Checkpoint:
        return Checkpoint(learner.state(), {"learner": learner.facts()})

    steps = fit(learner, examples, objective_of, config, seed=context.seed("order"))
    last: dict[str, float] = {}
    for step in context.follow(steps, title=title, when=config.checkpoint, state=state):
        last = dict(step.metrics)
    return last


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


def resume(context: Context, learner: Learner) -> dict[str, Any]:
    """Restore learner and totals from the newest checkpoint; returns its facts, empty for a fresh start."""
    found = Checkpoints(context.folder.checkpoints).newest(context.reporter.say)
    facts = dict(found.facts) if found else {}
    step = int(facts.get("step", 0))
    context.folder.cut_steps(step)
    if found:
        learner.load_state(found.tensors, facts["learner"])
        context.totals = Totals.of(facts)
        context.reporter.say(f"  taken up again after step {step}")
    return facts
