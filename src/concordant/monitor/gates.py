"""Gates: bounds that a healthy step keeps to, and in words what is likely behind one that does not.

A gate looks at the figures of one step and at what earlier ones were like. It changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from concordant.train.step import Step

WINDOW = 32  # steps that say what is usual
ENOUGH = 16  # of them, before anything can be unusual
SPIKE = 10.0  # deviations above the median, the deviation from the median of their distances
GROWTH = 1.5  # and this many times the median: after a plateau the deviation is next to nothing
BURST = 20.0  # times the median, for the norm of a gradient, which is clipped anyway
RATIO = 1.25  # mean importance ratio of an update; its expectation is 1
CLIPPED = 0.5  # share of tokens whose ratio was clipped
GAP = (
    0.05  # mean distance of log-probabilities between sampler and learner; NeMo-RL's gate is exp(gap) = 1.05
)
GAP_FP32 = 1e-3  # where both compute in fp32 they agree to 1e-5
FLAT = 5  # updates in a row in which the critic foresees nothing
LEARNING = 10  # updates that a critic has to begin with
QUIET = 10  # steps within bounds before the same gate speaks again


@dataclass(frozen=True)
class Notice:
    """A step out of bounds."""

    step: int
    gate: str
    saw: str
    causes: str

    def __str__(self) -> str:
        return f"step {self.step}, {self.gate}: {self.saw}. Likely: {self.causes}"

    def as_row(self) -> dict[str, Any]:
        """For a JSON-lines file."""
        return asdict(self)


class Watch:
    """The gates of one stage. Its state is part of a checkpoint, so that a resumed stage says the same."""

    def __init__(self, *, fp32: bool) -> None:
        self.gap = GAP_FP32 if fp32 else GAP
        self._recent: dict[str, list[float]] = {}
        self._flat = 0  # updates in a row in which the critic foresaw nothing
        self._spoke: dict[str, int] = {}  # the last step on which a gate was out of bounds

    def see(self, step: Step) -> list[Notice]:
        """What is out of bounds on this step, for each gate once until it has been quiet for a while."""
        found = [notice for gate in GATES for notice in gate(self, step)]
        new = []
        for notice in found:
            before = self._spoke.get(notice.gate)
            if before is None or step.number - before > QUIET:
                new.append(notice)
            self._spoke[notice.gate] = step.number
        self._remember(step.metrics)
        return new

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"recent": self._recent, "flat": self._flat, "spoke": self._spoke}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state()` gave."""
        self._recent = {name: list(values) for name, values in state["recent"].items()}
        self._flat, self._spoke = int(state["flat"]), dict(state["spoke"])

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


GATES: tuple[Callable[[Watch, Step], list[Notice]], ...] = (
    skipped,
    loss_spike,
    gradient_burst,
    dead_critic,
    exploding_ratio,
    sampler_gap,
)
