"""What the loops that learn from own samples share: what is looked at beside their figures, and what alarms do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from concordant.monitor.detectors import ROLLOUT
from concordant.monitor.notice import SHOWN as EXAMPLES
from concordant.pipeline.context import Context
from concordant.pipeline.parts.fitting import restorer
from concordant.pipeline.parts.judging import golds_of
from concordant.pipeline.parts.probing import Probes, Programs, Replies
from concordant.pipeline.parts.probing_people import People
from concordant.pipeline.parts.relabeling import ask_people_about
from concordant.pipeline.parts.watching import Canaries
from concordant.pipeline.recipe import PEOPLE
from concordant.train.checkpoint import Checkpoint
from concordant.train.config import RoundsConfig
from concordant.train.estimate import OnPolicy
from concordant.train.learner import Learner
from concordant.train.rewards import Reward
from concordant.train.step import Step

SHOWN = 4  # completions per rollout kept for people


@dataclass(frozen=True)
class Moved:
    """What a loop moves, and how it is saved."""

    policy: Any
    learner: Learner
    state: Callable[[], Checkpoint]
    anew: bool  # no step was taken yet, here or before
    brake: Callable[[], str]  # go on more carefully; says how
    reward: Reward


def follow_samples(
    context: Context, steps: Iterable[Step], moved: Moved, config: OnPolicy | RoundsConfig, *, total: int
) -> Iterator[Step]:
    """Follow a loop of `total` steps, looking at its policy beside it, act on alarms, and keep some of its samples."""
    canaries = Canaries(context, moved.policy, moved.reward, config, steps=total)
    probes = probes_of(context, moved.policy, config)
    canaries.look_before(anew=moved.anew)
    following = context.follow(
        (with_evidence(context, step) for step in probes.over(canaries.over(steps))),
        title=str(getattr(config, "algorithm", "")).upper(),
        when=config.checkpoint,
        state=moved.state,
        restore=restorer(moved.learner),
        goes_back=context.recipe.monitor.on_alarm == "rollback",
    )
    for step in following:
        context.folder.append(context.folder.samples, shown(context, step))
        if context.watch.action == "brake":
            context.reporter.say(f"  braking: {moved.brake()}")
        if context.watch.action == "pause":
            context.stop.ask(ask_people_about(context, moved.policy, config, step))
        yield step


def probes_of(context: Context, policy: Any, config: OnPolicy | RoundsConfig) -> Probes:
    """The probes of a stage, answered by whom its recipe names."""
    by = context.recipe.probed_by
    replies = Replies(context, policy, config, distinct=by == PEOPLE)
    if not by:
        return Probes(context, replies, None)
    return Probes(context, replies, People(context, replies) if by == PEOPLE else Programs(context, replies))


def with_evidence(context: Context, step: Step) -> Step:
    """The step with samples for people, and the mean gold reward of its rollout, where a world knows it."""
    assert step.rollout is not None
    golds = golds_of(context, step.prompts, step.rollout)
    gold = {} if golds is None else {"objective/gold": sum(golds) / len(golds)}
    examples = {**step.examples, **samples_by_figure(context, step)}
    return replace(step, metrics={**step.metrics, **gold}, examples=examples)


def samples_by_figure(context: Context, step: Step) -> dict[str, list[dict[str, str]]]:
    """Completions in which a figure is seen best: the first ones, those that did not end, the longest ones."""
    assert step.rollout is not None
    samples = step.rollout.samples
    longest = sorted(samples, key=lambda one: len(one.completion), reverse=True)
    picked = {
        ROLLOUT: samples,
        "rollout/eos_rate": [one for one in samples if not one.ended],
        "rollout/length": longest,
    }
    return {
        name: [
            {
                "prompt": step.prompts[one.prompt].messages[-1].content,
                "completion": context.template.text(one.completion),
            }
            for one in some[:EXAMPLES]
        ]
        for name, some in picked.items()
    }


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
