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
AGAIN = 4.0  # of the difference to the best two looks, above them: they are the lowest of many
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
    """The shares of failures above which a canary is out of bounds: its own model before training says which.

    Worse than before training is news at once. Worse than the best that training has come to is news as well, although
    it was usual before; but a policy wanders from update to update, so that two looks in a row make a best one, and
    two looks in a row have to be above its limit.
    """

    usual: dict[str, float]  # by canary: what chance makes of the rate before training
    n: int  # answers of one look
    best: dict[str, float] = field(default_factory=dict)  # the lowest mean of two looks in a row
    last: dict[str, float] = field(default_factory=dict)  # the rate of the last look

    def again(self, canary: str) -> float:
        """The limit above the best two looks, the best pair of many and so a lucky one; 1 before there are two."""
        best = self.best.get(canary)
        if best is None:
            return 1.0
        likely = best + 2 * chance(best, 2 * self.n)
        difference = math.hypot(chance(likely, self.n), chance(likely, 2 * self.n))
        return best + max(LEAST, AGAIN * difference)

    def of(self, canary: str) -> float:
        """The rate from which on a look is worth another one."""
        return min(self.usual[canary], self.again(canary))

    def passed(self, canary: str, rate: float) -> float | None:
        """The limit that a rate is news beyond; None where it is none."""
        if rate > self.usual[canary]:
            return self.usual[canary]
        again = self.again(canary)
        return again if rate > again and self.last.get(canary, 0.0) > again else None

    def note(self, canary: str, rate: float) -> None:
        """Take note of a look."""
        if canary in self.last:
            pair = (self.last[canary] + rate) / 2
            self.best[canary] = min(pair, self.best.get(canary, pair))
        self.last[canary] = rate


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
