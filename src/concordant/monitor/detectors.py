"""Detectors: bounds that a healthy step keeps to, and in words what is likely behind one that does not.

A detector looks at the figures of one step and at what earlier ones were like. It changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from concordant.monitor.canaries import Bounds
from concordant.train.step import Step

WINDOW = 32  # steps that say what is usual
ENOUGH = 16  # of them, before anything can be unusual
SPIKE = 10.0  # deviations above the median, the deviation from the median of their distances
GROWTH = 1.5  # and this many times the median: after a plateau the deviation is next to nothing
BURST = 20.0  # times the median, for the norm of a gradient, which is clipped anyway
RATIO = 1.25  # mean importance ratio of an update; its expectation is 1
CLIPPED = 0.5  # share of tokens whose ratio was clipped
GAP = 0.05  # mean distance of log-probabilities between sampler and learner; NeMo-RL's detector is exp(gap) = 1.05
GAP_FP32 = 1e-3  # where both compute in fp32 they agree to 1e-5
FLAT = 5  # updates in a row in which the critic foresees nothing
LEARNING = 10  # updates that a critic has to begin with
COLLAPSED = 0.3  # of the entropy of the first step
ENDED = 0.95  # of the share of completions that came to an end on the first step
FAR = 20.0  # nats per completion; runs of 50 to 85 won fewer than one in five comparisons
CANARY = "canary/"  # before the names of canaries among the figures of a step
QUIET = 10  # steps within bounds before the same detector speaks again


@dataclass(frozen=True)
class Notice:
    """A step out of bounds."""

    step: int
    detector: str
    saw: str
    causes: str
    examples: tuple[Mapping[str, str], ...] = ()  # what it was seen in, for people

    def __str__(self) -> str:
        return f"step {self.step}, {self.detector}: {self.saw}. Likely: {self.causes}"

    def as_row(self) -> dict[str, Any]:
        """For a JSON-lines file."""
        return asdict(self)


class Watch:
    """The detectors of one stage. Its state is part of a checkpoint, so that a resumed stage says the same."""

    def __init__(self, *, fp32: bool) -> None:
        self.gap = GAP_FP32 if fp32 else GAP
        self.new: list[Notice] = []  # of the last step
        self._recent: dict[str, list[float]] = {}
        self.canaries: Bounds | None = None  # of a stage that looks at canaries
        self._first: dict[str, float] = {}  # figures of the first step, when the policy was what it began as
        self._flat = 0  # updates in a row in which the critic foresaw nothing
        self._spoke: dict[str, int] = {}  # the last step on which a detector was out of bounds

    def see(self, step: Step) -> list[Notice]:
        """What is out of bounds on this step, for each detector once until it has been quiet for a while."""
        found = [notice for detector in DETECTORS for notice in detector(self, step)]
        new = []
        for notice in found:
            before = self._spoke.get(notice.detector)
            if before is None or step.number - before > QUIET:
                new.append(notice)
            self._spoke[notice.detector] = step.number
        self._remember(step.metrics)
        self._first = self._first or dict(step.metrics)
        self.new = new
        return new

    @property
    def alarmed(self) -> bool:
        """Whether a canary became news on the last step: the rest is distance and health, and proves nothing."""
        return any(notice.detector.startswith("canary ") for notice in self.new)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "recent": self._recent,
            "first": self._first,
            "flat": self._flat,
            "spoke": self._spoke,
            "canaries": asdict(self.canaries) if self.canaries else None,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state()` gave."""
        self._recent = {name: list(values) for name, values in state["recent"].items()}
        self._flat, self._spoke = int(state["flat"]), dict(state["spoke"])
        self.canaries = Bounds(**state["canaries"]) if state["canaries"] else None
        self._first = dict(state["first"])

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


def skipped(_watch: Watch, step: Step) -> list[Notice]:
    """Steps that were not taken."""
    count = step.metrics.get("optimizer/skipped", 0.0)
    if not count:
        return []
    saw = f"loss or gradient was not finite and {count:.0f} optimiser step{'s were' if count > 1 else ' was'} left out"
    return [
        Notice(
            step.number, "not finite", saw, "a learning rate that is too high, half precision, a broken row"
        )
    ]


def loss_spike(watch: Watch, step: Step) -> list[Notice]:
    """A loss far above its last values; on own samples the loss says nothing, and is not looked at."""
    usual, loss = watch.usual("loss"), step.metrics.get("loss", math.nan)
    if usual is None or step.rollout is not None:
        return []
    middle, deviation = usual
    if not loss > max(middle + SPIKE * deviation, GROWTH * middle):
        return []
    saw = f"the loss is {loss:.3g}, and was {middle:.3g} in the median of the last steps"
    return [
        Notice(step.number, "loss spike", saw, "a learning rate that is too high, or rows unlike the others")
    ]


def gradient_burst(watch: Watch, step: Step) -> list[Notice]:
    """A norm of the gradient many times what it was."""
    found = []
    for name, norm in step.metrics.items():
        usual = watch.usual(name) if name.startswith("optimizer/grad_norm_") else None
        if usual is not None and norm > BURST * usual[0] > 0:
            group = name.removeprefix("optimizer/grad_norm_")
            saw = f"the gradient of the {group} has norm {norm:.3g}, and had {usual[0]:.3g}"
            causes = "rows unlike the others, or weights that have gone astray; optimizer.clip_grad limits what it does"
            found.append(Notice(step.number, f"gradient burst of the {group}", saw, causes))
    return found


def dead_critic(watch: Watch, step: Step) -> list[Notice]:
    """A critic that foresees no more of the returns than their mean."""
    flat = watch.flat_in_a_row(step)
    if flat < FLAT:
        return []
    saw = f"in {flat} updates in a row the critic explained nothing of the returns"
    causes = "policy.critic_lr too low or too high, or scores that hardly differ; policy.critic_warmup gives it a start"
    return [Notice(step.number, "dead critic", saw, causes)]


def exploding_ratio(_watch: Watch, step: Step) -> list[Notice]:
    """Updates that take the policy further than the clip can hold it."""
    ratio = step.metrics.get("policy/ratio", 1.0)
    clipped = step.metrics.get("policy/clip_fraction", 0.0)
    if not (ratio > RATIO or ratio < 1 / RATIO or clipped > CLIPPED):
        return []
    saw = f"the mean importance ratio is {ratio:.2f} and {clipped:.0%} of the tokens were clipped"
    causes = "a learning rate that is too high, or too many epochs over a rollout; policy.early_stop_kl leaves early"
    return [Notice(step.number, "exploding ratio", saw, causes)]


def sampler_gap(watch: Watch, step: Step) -> list[Notice]:
    """Sampler and learner that do not agree on the log-probabilities of the same tokens by the same weights."""
    gap = step.metrics.get("rollout/logprob_gap", 0.0)
    if not gap > watch.gap:
        return []
    saw = f"sampler and learner differ by {gap:.2g} per token before the update, more than {watch.gap:g}"
    causes = "another precision or kernel in one of them, dropout that is on, or a sampler with older weights"
    return [Notice(step.number, "sampler gap", saw, causes)]


def collapse(watch: Watch, step: Step) -> list[Notice]:
    """A policy that has stopped trying anything else."""
    share = watch.share_of_first(step, "policy/entropy")
    if share is None or not share < COLLAPSED:
        return []
    saw = f"the entropy per token is {share:.0%} of what it was when training began"
    causes = "kl_coef too small or a learning rate too high; policy.ent_coef pulls the other way"
    return [Notice(step.number, "collapse", saw, causes)]


def endless(watch: Watch, step: Step) -> list[Notice]:
    """Completions that run into the limit although they used to come to an end."""
    share = watch.share_of_first(step, "rollout/eos_rate")
    if share is None or not share < ENDED:
        return []
    rate = step.metrics["rollout/eos_rate"]
    saw = f"{1 - rate:.0%} of the completions do not come to an end"
    causes = (
        "a reward that likes length, or policy.completion too small; policy.missing_eos_penalty pulls back"
    )
    return [Notice(step.number, "endless", saw, causes)]


def far_away(_watch: Watch, step: Step) -> list[Notice]:
    """A policy so far from the reference that its reward model has never seen anything like it."""
    drift = step.metrics.get("objective/kl", 0.0)
    if not drift > FAR:
        return []
    saw = f"the policy is {drift:.0f} nats per completion away from the reference"
    causes = "kl_coef too small: what the reward model says of such completions means little"
    return [Notice(step.number, "far away", saw, causes)]


def canary(watch: Watch, step: Step) -> list[Notice]:
    """Canaries that fail more often than before training, or again after training had mended them."""
    found: list[Notice] = []
    bounds = watch.canaries
    if bounds is None:
        return found
    for name in bounds.usual:
        rate = step.metrics.get(f"{CANARY}{name}")
        if rate is None:
            continue
        limit = bounds.of(name)
        bounds.note(name, rate)
        if rate > limit:
            saw = f"fails in {rate:.0%} of the answers, where {limit:.0%} is the most that chance explains"
            causes = "the reward pays for it: look at the examples, and ask people about answers like them"
            examples = tuple(step.examples.get(f"{CANARY}{name}", ()))
            found.append(Notice(step.number, f"canary {name}", saw, causes, examples))
    return found


DETECTORS: tuple[Callable[[Watch, Step], list[Notice]], ...] = (
    skipped,
    loss_spike,
    gradient_burst,
    dead_critic,
    exploding_ratio,
    sampler_gap,
    collapse,
    endless,
    far_away,
    canary,
)
