"""Detectors: bounds that a healthy step keeps to, and in words what is likely behind one that does not.

A detector looks at the figures of one step and at what earlier ones were like. It changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from concordant.monitor.canaries import CANARY, Bounds
from concordant.monitor.notice import (
    ACTIONS,
    BEHAVIOR,
    DISTANCE,
    OPTIMIZER,
    PROBE,
    Action,
    Notice,
    response,
)
from concordant.monitor.probes import FIGURE, Course, Probe
from concordant.train.step import Step

WINDOW = 32  # steps that say what is usual
ENOUGH = 16  # of them, before anything can be unusual
SPIKE = 10.0  # deviations above the median, the deviation from the median of their distances
GROWTH = 1.5  # and this many times the median: after a plateau the deviation is next to nothing
BURST = 20.0  # times the median, for the norm of a gradient, which is clipped anyway
FLAT = 5  # updates in a row in which the critic foresees nothing
LEARNING = 10  # updates that a critic has to begin with
QUIET = 10  # steps within bounds before the same detector speaks again
ROLLOUT = "rollout"  # before the names of figures of own samples; alone, the examples of any of them


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure and how far it may go, as it stands or as a share of what it was on the first step."""

    detector: str
    figure: str
    most: float = math.inf
    least: float = -math.inf
    saw: str = ""  # with {value}, as it is compared, and {rest}, what it lacks to 1
    causes: str = ""
    of_first: bool = False
    tier: int = OPTIMIZER
    precision: str = ""  # "fp32" or "half" where the bound is for one of them


LIMITS = (
    Limit(
        "not finite",
        "optimizer/skipped",
        most=0.0,
        saw="loss or gradient was not finite and optimiser steps were left out: {value:.0f}",
        causes="a learning rate that is too high, half precision, a broken row",
    ),
    *(
        Limit(
            "exploding ratio",
            figure,
            most,
            least,
            saw=saw,
            causes="a learning rate that is too high, or too many epochs over a rollout; see policy.early_stop_kl",
            tier=DISTANCE,
        )
        for figure, most, least, saw in (
            ("policy/ratio", 1.25, 0.8, "the mean importance ratio, of which 1 is expected, is {value:.2f}"),
            ("policy/clip_fraction", 0.5, -math.inf, "{value:.0%} of the tokens were clipped"),
        )
    ),
    *(
        Limit(
            "sampler gap",
            "rollout/logprob_gap",
            most=gap,
            saw=f"sampler and learner differ by {{value:.2g}} per token before the update, more than {gap:g}",
            causes="another precision or kernel in one of them, dropout that is on, or a sampler with older weights",
            precision=precision,
        )
        # Both computing in fp32 agree to 1e-5; NeMo-RL's bound for others is exp(gap) = 1.05.
        for gap, precision in ((1e-3, "fp32"), (0.05, "half"))
    ),
    Limit(
        "collapse",
        "policy/entropy",
        least=0.3,
        saw="the entropy per token is {value:.0%} of what it was when training began",
        causes="kl_coef too small or a learning rate too high; policy.ent_coef pulls the other way",
        of_first=True,
        tier=DISTANCE,
    ),
    Limit(
        "sameness",
        "rollout/unique",
        least=0.3,
        saw="the share of different completions is {value:.0%} of what it was when training began",
        causes="kl_coef too small: the policy says one thing to everybody",
        of_first=True,
        tier=DISTANCE,
    ),
    Limit(
        "nothing to tell",
        "rollout/zero_variance",
        most=0.5,
        saw="in {value:.0%} of the groups all completions have the same score",
        causes="questions that are too easy or too hard, or a policy that says one thing; see policy.dynamic_sampling",
        tier=DISTANCE,
    ),
    Limit(
        "displacement",
        "policy/chosen_change",
        least=-1.0,
        saw="chosen answers changed by {value:.1f} nats per token, which went to answers that nobody compared",
        causes="beta too small or a learning rate too high; rejected answers that are much like the chosen ones",
    ),
    Limit(
        "endless",
        "rollout/eos_rate",
        least=0.95,
        saw="the share of completions that come to an end is {value:.0%} of what it was when training began",
        causes="a reward that likes length, or policy.completion too small; policy.missing_eos_penalty pulls back",
        of_first=True,
        tier=DISTANCE,
    ),
    Limit(
        "length",
        "rollout/length",
        most=1.5,
        least=0.5,
        saw="completions are {value:.1f} times as long as when training began",
        causes="a reward that likes length, or brevity: compare score and length of the samples",
        of_first=True,
        tier=DISTANCE,
    ),
    Limit(
        "far away",
        "objective/kl",
        most=20.0,  # nats per completion; runs of 50 to 85 won fewer than one in five comparisons
        saw="the policy is {value:.0f} nats per completion away from the reference",
        causes="kl_coef too small: what the reward model says of such completions means little",
        tier=DISTANCE,
    ),
    *(
        Limit(
            "unequal ties",
            "reward/tie_gap",
            most=gap,
            saw="one and the same completion has got two scores, {value:.2g} apart",
            causes="a reward model that looks at what stands beside a completion: padding, batch, dropout that is on",
            precision=precision,
        )
        for gap, precision in ((1e-3, "fp32"), (0.25, "half"))
    ),
)


class Watch:
    """The detectors of one stage. Its state is part of a checkpoint, so that a resumed stage says the same.

    `most` is the furthest that an alarm may go.
    """

    def __init__(self, *, fp32: bool, most: Action = "warn") -> None:
        self.most = most
        self.precision = "fp32" if fp32 else "half"
        self.new: list[Notice] = []  # of the last step
        self.canaries: Bounds | None = None  # of a stage that looks at canaries
        self.course = Course()  # of the probes
        self._recent: dict[str, list[float]] = {}
        self._first: dict[str, float] = {}  # figures of the first step, when the policy was what it began as
        self._flat = 0  # updates in a row in which the critic foresaw nothing
        self._spoke: dict[str, int] = {}  # the last step on which a detector was out of bounds
        self._tripped = ""

    def see(self, step: Step) -> list[Notice]:
        """What is out of bounds on this step, for each detector once until it has been quiet for a while."""
        self._first = self._first or dict(step.metrics)
        found = {one.detector: one for one in self._out_of_bounds(step)}
        new = [one for name, one in found.items() if step.number - self._spoke.get(name, -math.inf) > QUIET]
        self._spoke |= dict.fromkeys(found, step.number)
        self._remember(step.metrics)
        signals = sum(one.tier == DISTANCE for one in found.values())
        self.new = [replace(one, action=response(one, signals, self.most)) for one in new]
        self._tripped = next((one.detector for one in new if one.tier in (DISTANCE, BEHAVIOR)), "")
        return self.new

    def _out_of_bounds(self, step: Step) -> Iterator[Notice]:
        for limit in LIMITS:
            yield from self._beyond(limit, step)
        for detector in DETECTORS:
            yield from detector(self, step)

    def _beyond(self, limit: Limit, step: Step) -> Iterator[Notice]:
        value = self.share_of_first(step, limit.figure) if limit.of_first else step.metrics.get(limit.figure)
        if limit.precision not in ("", self.precision) or value is None:
            return
        if value > limit.most or value < limit.least:
            saw = limit.saw.format(value=value)
            examples = examples_of(step, limit.figure)
            yield Notice(step.number, limit.detector, saw, limit.causes, examples, limit.tier)

    @property
    def action(self) -> Action:
        """What the last step calls for: the furthest that one of its notices does."""
        return max((one.action for one in self.new), key=ACTIONS.index, default="warn")

    @property
    def tripped(self) -> str:
        """The detector that asks, since the last step, for a look at who likes the answers; else nothing."""
        return self._tripped

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "recent": self._recent,
            "first": self._first,
            "flat": self._flat,
            "spoke": self._spoke,
            "tripped": self._tripped,
            "course": asdict(self.course),
            "canaries": asdict(self.canaries) if self.canaries else None,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state()` gave."""
        self._recent = {name: list(values) for name, values in state["recent"].items()}
        self._flat, self._spoke = int(state["flat"]), dict(state["spoke"])
        self._first, self._tripped = dict(state["first"]), str(state["tripped"])
        self.course = Course.of(state["course"])
        self.canaries = Bounds.of_state(state["canaries"]) if state["canaries"] else None

    def usual(self, name: str) -> tuple[float, float] | None:
        """Median of a figure's last values and their robust deviation; None before there are enough."""
        values = self._recent.get(name, [])
        if len(values) < ENOUGH:
            return None
        middle = median(values)
        return middle, 1.4826 * median(abs(value - middle) for value in values)

    def flat_in_a_row(self, step: Step) -> int:
        """Updates in a row, up to this one, in which the critic foresaw no more than the mean of the returns."""
        explained = step.metrics.get("value/explained_variance")
        dead = explained is not None and step.number > LEARNING and explained <= 0
        self._flat = self._flat + 1 if dead else 0
        return self._flat

    def share_of_first(self, step: Step, name: str) -> float | None:
        """A figure as a share of what it was on the first step; None where one of them is missing."""
        first, now = self._first.get(name), step.metrics.get(name)
        return None if not first or now is None else now / first

    def _remember(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if (name == "loss" or name.startswith("optimizer/grad_norm")) and math.isfinite(value):
                self._recent[name] = [*self._recent.get(name, []), value][-WINDOW:]


def examples_of(step: Step, figure: str) -> tuple[Mapping[str, str], ...]:
    """What a figure was seen in, or else any samples of the step."""
    return tuple(step.examples.get(figure) or step.examples.get(ROLLOUT, ()))


def loss_spike(watch: Watch, step: Step) -> Iterator[Notice]:
    """A loss far above its last values; on own samples the loss says nothing, and is not looked at."""
    usual, loss = watch.usual("loss"), step.metrics.get("loss", math.nan)
    if usual is None or step.rollout is not None:
        return
    middle, deviation = usual
    if loss > max(middle + SPIKE * deviation, GROWTH * middle):
        saw = f"the loss is {loss:.3g}, and was {middle:.3g} in the median of the last steps"
        causes = "a learning rate that is too high, or rows unlike the others"
        yield Notice(step.number, "loss spike", saw, causes)


def gradient_burst(watch: Watch, step: Step) -> Iterator[Notice]:
    """A norm of the gradient many times what it was."""
    for name, norm in step.metrics.items():
        usual = watch.usual(name) if name.startswith("optimizer/grad_norm_") else None
        if usual is not None and norm > BURST * usual[0] > 0:
            group = name.removeprefix("optimizer/grad_norm_")
            saw = f"the gradient of the {group} has norm {norm:.3g}, and had {usual[0]:.3g}"
            causes = "rows unlike the others, or weights that have gone astray; optimizer.clip_grad limits what it does"
            examples = examples_of(step, name)
            yield Notice(step.number, f"gradient burst of the {group}", saw, causes, examples)


def dead_critic(watch: Watch, step: Step) -> Iterator[Notice]:
    """A critic that foresees no more of the returns than their mean."""
    flat = watch.flat_in_a_row(step)
    if flat >= FLAT:
        saw = f"in {flat} updates in a row the critic explained nothing of the returns"
        causes = (
            "policy.critic_lr too low or too high, or scores that hardly differ; see policy.critic_warmup"
        )
        yield Notice(step.number, "dead critic", saw, causes, examples_of(step, "value/explained_variance"))


def canary(watch: Watch, step: Step) -> Iterator[Notice]:
    """Canaries that fail more often than before training, or again after training had mended them."""
    bounds = watch.canaries
    for name in bounds.before if bounds else ():
        figure = f"{CANARY}{name}"
        rate = step.metrics.get(figure)
        if bounds is None or rate is None:
            continue
        limit, passed = bounds.of(name), bounds.passed(name, rate)
        bounds.note(name, rate)
        if passed:
            saw = f"fails in {rate:.0%} of the answers, where at most {limit.above:.0%} was to be expected"
            causes = "the reward pays for it: look at the examples, and ask people about answers like them"
            yield Notice(step.number, f"canary {name}", saw, causes, examples_of(step, figure), BEHAVIOR)


def turnover(watch: Watch, step: Step) -> Iterator[Notice]:
    """A policy that is liked less than it was at its best."""
    probe = Probe.of(step)
    if probe is None:
        return
    course = watch.course
    if course.fell(probe):
        saw = (
            f"at step {probe.step} its answers win {probe.rate:.0%} of {probe.n} blind comparisons with those of the "
            f"model that training began with, and won {course.best.rate:.0%} at step {course.best.step}"
        )
        saw += ", while the score rises" if course.turned(probe) else ""
        causes = "the score pays for what nobody likes: ask about answers like these, or take the model of that step"
        yield Notice(step.number, "turnover", saw, causes, examples_of(step, f"{FIGURE}rate"), PROBE)
    course.note(probe)


DETECTORS: tuple[Callable[[Watch, Step], Iterator[Notice]], ...] = (
    loss_spike,
    gradient_burst,
    dead_critic,
    canary,
    turnover,
)
