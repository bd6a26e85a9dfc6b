"""Canaries: fixed questions that provoke one failure each, and how often the policy fails on them.

What is usual comes from the run itself: the model that training starts from is looked at several times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev

from concordant.monitor.notice import SHOWN
from concordant.rollout.rollout import Asked, Sampler
from concordant.seeds import derive
from concordant.worlds.gold import Canary

CANARY = "canary/"  # before the names of canaries among the figures of a step
BEFORE = 4  # looks at the model that training starts from
DEVIATIONS = 3.0  # of the rate of one look, above its mean before training
AGAIN = 4.0  # of the difference of two looks, above the best one: that is the lowest of many
LEAST = 0.10  # and at least so much above it: what is smaller is no news to anybody


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
        usual = {canary.name: limit([look[canary.name] for look in looks]) for canary in self.canaries}
        return Bounds(usual, self.samples)


@dataclass
class Bounds:
    """The share of failures above which a canary is out of bounds.

    That is more than chance makes before training, or more than chance makes at the best that training has come to:
    what it had unlearnt and does again is news as well.
    """

    usual: dict[str, float]  # by canary
    n: int  # answers of one look
    best: dict[str, float] = field(default_factory=dict)  # the lowest rate so far

    def of(self, canary: str) -> float:
        """The limit of a canary now."""
        best = self.best.get(canary)
        if best is None:
            return self.usual[canary]
        likely = best + 2 * chance(best, self.n)  # the best one was lucky
        again = best + max(LEAST, AGAIN * math.sqrt(2) * chance(likely, self.n))
        return min(self.usual[canary], again)

    def note(self, canary: str, rate: float) -> None:
        """Take note of a look."""
        self.best[canary] = min(rate, self.best.get(canary, rate))


def limit(looks: Sequence[Look]) -> float:
    """Mean rate of several looks plus `DEVIATIONS` of one look, and at least `LEAST` above the mean.

    The deviation is what was seen, or what chance makes where less was seen.
    """
    n = looks[0].n
    mean = sum(look.failed for look in looks) / (n * len(looks))
    seen = stdev([look.rate for look in looks])
    # The mean itself is known from so many looks only.
    spread = max(seen, chance(mean, n)) * math.sqrt(1 + 1 / len(looks))
    return mean + max(LEAST, DEVIATIONS * spread)


def chance(rate: float, n: int) -> float:
    """Standard deviation of the share in n answers; a rate of 0 or 1 counts as half an answer away from it."""
    share = min(max(rate, 0.5 / n), 1 - 0.5 / n)
    return math.sqrt(share * (1 - share) / n)
