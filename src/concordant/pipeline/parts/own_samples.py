"""What the loops that learn from own samples share: canaries and gold beside their figures, samples for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import restorer
from concordant.pipeline.parts.judging import golds_of
from concordant.pipeline.parts.watching import Canaries
from concordant.train.checkpoint import Checkpoint
from concordant.train.config import RoundsConfig
from concordant.train.estimate import OnPolicy
from concordant.train.learner import Learner
from concordant.train.step import Step

SHOWN = 4  # completions per rollout kept for people


@dataclass(frozen=True)
class Moved:
    """What a loop moves, and how it is saved."""

    policy: Any
    learner: Learner
    state: Callable[[], Checkpoint]
    anew: bool  # no step was taken yet, here or before


def follow_samples(
    context: Context, steps: Iterable[Step], moved: Moved, config: OnPolicy | RoundsConfig, *, total: int
) -> Iterator[Step]:
    """Follow a loop of `total` steps, looking at canaries and gold beside it, and keep some of its samples."""
    canaries = Canaries(
        context,
        moved.policy,
        completion=config.completion,
        temperature=config.temperature,
        steps=total,
    )
    if moved.anew:
        canaries.look_before()
    following = context.follow(
        (with_gold(context, step) for step in canaries.over(steps)),
        title=str(getattr(config, "algorithm", "")).upper(),
        when=config.checkpoint,
        state=moved.state,
        restore=restorer(moved.learner),
    )
    for step in following:
        context.folder.append(context.folder.samples, shown(context, step))
        yield step


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
