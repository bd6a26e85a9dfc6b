"""Canaries: fixed questions that provoke one failure each, and how often the policy fails on them.

What is usual comes from the run itself: the model that training starts from is looked at several times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from concordant.monitor.notice import SHOWN
from concordant.rollout.rollout import Asked, Sampler
from concordant.seeds import derive
from concordant.worlds.gold import Canary

CANARY = "canary/"  # before the names of canaries among the figures of a step
CANARY_LIMIT = "canary_limit/"  # before the rates above which they are out of bounds
BEFORE = 4  # looks at the model that training starts from
DEVIATIONS = 3.0  # of the rate of one look, above its mean before training
LEAST = 0.10  # and at least so much above it: what is smaller is no news to anybody
AGAIN = 4.0  # of the difference between a look and the best two, above these: they are the lowest of many
AT_ONCE = 2.0  # times as far above as is news where it is seen twice: news at the first look
RELAPSE = 0.20  # and at least so much above them: a policy that does well wanders, by more than chance


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed answer, for people."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Look:
    """One canary at one time."""

    failed: int
    n: int
    failures: tuple[Failure, ...] = ()

    @property
    def rate(self) -> float:
        """Share of failed answers."""
        return self.failed / self.n


@dataclass(frozen=True)
class Aviary:
    """Canaries, and how they are asked."""

    canaries: Sequence[Canary]
    asked: Mapping[str, Sequence[Asked]]  # the prompts of each canary, by its name
    text: Callable[[tuple[int, ...]], str]
    samples: int  # completions per canary

    def look(
        self, sampler: Sampler, seed: int, only: Container[str] | None = None
    ) -> tuple[dict[str, Look], int]:
        """How often each canary, or `only` some of them, fails now, and how many tokens that took."""
        looks, tokens = {}, 0
        for canary in self.canaries:
            if only is not None and canary.name not in only:
                continue
            asked = self.asked[canary.name]
            questions = [asked[i % len(asked)] for i in range(self.samples)]
            rollout = sampler.sample([ids for _, ids in questions], seed=derive(seed, canary.name))
            tokens += rollout.tokens
            failures = []
            for sample in rollout.samples:
                prompt, said = questions[sample.prompt][0], self.text(sample.completion)
                if canary.fails(prompt, said):
                    failures.append(Failure(prompt.messages[-1].content, said))
            looks[canary.name] = Look(len(failures), self.samples, tuple(failures[:SHOWN]))
        return looks, tokens

    def bounds(self, sampler: Sampler, seed: int) -> Bounds:
        """What is usual for the model as it is now."""
        looks = [self.look(sampler, derive(seed, number))[0] for number in range(BEFORE)]
        before = {canary.name: limit_of([look[canary.name] for look in looks]) for canary in self.canaries}
        return Bounds(before, self.samples)


@dataclass(frozen=True, slots=True)
class ControlLimit:
    """The share of failures `above` which a canary is out of bounds, and the `usual` one that this is measured from."""

    usual: float
    above: float

    def passed(self, rate: float, last: float) -> bool:
        """Whether a rate and the one before it are above, or this one alone by `AT_ONCE` times as much."""
        far = rate > self.usual + AT_ONCE * (self.above - self.usual)
        return rate > self.above and (last > self.above or far)


NONE = ControlLimit(0.0, 1.0)  # no rate is above it


@dataclass
class Bounds:
    """When a canary is out of bounds: its own model before training says what is usual.

    Worse than before training is news, and so is much worse than the best that training has come to, although it was
    usual before. But a policy wanders from update to update, so that two looks in a row make a best one, and it takes
    two looks in a row to be news, or one that is far above.
    """

    before: dict[str, ControlLimit]  # by canary: of the model that training starts from
    n: int  # answers of one look
    rates: dict[str, list[float]] = field(default_factory=dict)  # by canary: of all looks while training

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Bounds:
        """From what `asdict` made of one."""
        return cls(
            **{**state, "before": {name: ControlLimit(**limit) for name, limit in state["before"].items()}}
        )

    def again(self, canary: str) -> ControlLimit:
        """Above the best two looks, the best pair of many and so a lucky one; none before there are two."""
        rates = self.rates.get(canary, [])
        if len(rates) < 2:
            return NONE
        best = min(fmean(pair) for pair in pairwise(rates))
        likely = best + 2 * chance(best, 2 * self.n)
        difference = math.hypot(chance(likely, self.n), chance(likely, 2 * self.n))
        return ControlLimit(best, best + max(RELAPSE, AGAIN * difference))

    def of(self, canary: str) -> ControlLimit:
        """The lower one of both limits; a rate above it is worth another look."""
        return min(self.before[canary], self.again(canary), key=lambda one: one.above)

    def passed(self, canary: str, rate: float) -> bool:
        """Whether a rate that comes after those noted so far is out of bounds."""
        rates = self.rates.get(canary)
        return self.of(canary).passed(rate, rates[-1] if rates else 0.0)

    def note(self, canary: str, rate: float) -> None:
        """Take note of a look."""
        self.rates.setdefault(canary, []).append(rate)


def limit_of(looks: Sequence[Look]) -> ControlLimit:
    """Mean rate of several looks plus `DEVIATIONS` of one look, and at least `LEAST` above the mean.

    The deviation is what was seen, or what chance makes where less was seen.
    """
    n = looks[0].n
    mean = sum(look.failed for look in looks) / (n * len(looks))
    seen = stdev([look.rate for look in looks])
    # The mean itself is known from so many looks only.
    spread = max(seen, chance(mean, n)) * math.sqrt(1 + 1 / len(looks))
    return ControlLimit(mean, mean + max(LEAST, DEVIATIONS * spread))


def chance(rate: float, n: int) -> float:
    """Standard deviation of the share in n answers; a rate of 0 or 1 counts as half an answer away from it."""
    share = min(max(rate, 0.5 / n), 1 - 0.5 / n)
    return math.sqrt(share * (1 - share) / n)
