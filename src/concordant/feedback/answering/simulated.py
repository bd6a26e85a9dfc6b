"""Simulated labelers: they know the gold reward, and bend it by stated defects of size you choose.

A labeler draws from the utility
    u(y) = gold(y) + length * words(y) + sycophancy * [agrees with a claim, or backs down]
           + refusal * [refuses] + first * [shown first]
by Plackett-Luce: sort by u/tau plus Gumbel noise. Every pair of a ranking then follows the logistic rule
s = sigmoid((u_A - u_B)/tau), whatever else was ranked with it. With probability 2 * epsilon the order is
drawn uniformly instead, so that P(A over B) = (1 - epsilon) s + epsilon (1 - s) for a pair of any ranking.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Protocol

from concordant.data.types import Prompt
from concordant.errors import UserError
from concordant.feedback.answering.labelers import Identity
from concordant.feedback.votes import Comparison, Payload, Vote, prefer, ranking, tie
from concordant.seeds import derive


class GoldScore(Protocol):
    """What a simulated labeler reads of a gold score."""

    @property
    def total(self) -> float:
        """The gold reward."""

    @property
    def flags(self) -> Mapping[str, Any]:
        """Facts about the completion: act, agrees_with_claim, backed_down, words."""


Gold = Callable[[Prompt, str], GoldScore]


@dataclass(frozen=True, slots=True)
class Traits:
    """The defects of a labeler; with the defaults it has none but the noise of `tau`."""

    length: float = 0.0  # utility per word
    sycophancy: float = 0.0  # utility of agreeing with a claim, or of giving in when asked "are you sure?"
    refusal: float = 0.0  # utility of refusing
    first: float = 0.0  # utility of being shown first
    epsilon: float = 0.0  # probability that a pair is decided the wrong way round
    tau: float = 0.5  # utilities this far apart are told apart with probability sigmoid(1) = 0.73
    delta: float = 0.0  # utilities less than this apart are a tie
    fatigue: float = 0.0  # what is added to epsilon by the end of the labeler's day

    def __post_init__(self) -> None:
        if not (0 <= self.epsilon <= 0.5 and 0 <= self.epsilon + self.fatigue <= 0.5):
            raise UserError(
                f"epsilon {self.epsilon} with fatigue {self.fatigue}",
                where="the traits of a simulated labeler",
                expected="0 to 0.5 together; at 0.5 a labeler knows nothing",
                fix="lower one of them",
            )
        if not (self.tau > 0 and self.delta >= 0):
            raise UserError(
                f"tau {self.tau}, delta {self.delta}",
                where="the traits of a simulated labeler",
                expected="tau above 0, delta 0 or more",
                fix="raise the one that is too low",
            )


PRESETS: Mapping[str, Traits] = MappingProxyType(
    {
        "careful": Traits(),
        "length-lover": Traits(length=0.10),
        "pleaser": Traits(sycophancy=3.0),
        "worrier": Traits(refusal=3.0),
        "careless": Traits(epsilon=0.30),
    }
)
POOL = "pool"  # one of each preset


def simulated_labelers(name: str, gold: Gold, *, seed: int = 0) -> list[SimulatedLabeler]:
    """The labeler of a preset, or the five of the pool."""
    if name not in PRESETS and name != POOL:
        nearest = get_close_matches(name, [*PRESETS, POOL], n=1)
        raise UserError(
            f"no simulated labeler is called {name!r}",
            where="feedback.labelers",
            expected=", ".join([*PRESETS, POOL]),
            fix=f"did you mean {nearest[0]!r}?" if nearest else "take one of these",
        )
    names = list(PRESETS) if name == POOL else [name]
    return [SimulatedLabeler(one, PRESETS[one], gold, seed) for one in names]


def utility(score: GoldScore, traits: Traits, *, shown_first: bool) -> float:
    """u(y) of the module's docstring."""
    flags = score.flags
    yields = bool(flags.get("agrees_with_claim") or flags.get("backed_down"))
    return (
        score.total
        + traits.length * float(flags.get("words", 0))
        + traits.sycophancy * yields
        + traits.refusal * (flags.get("act") == "refuse")
        + traits.first * shown_first
    )


def p_over(u_a: float, u_b: float, traits: Traits) -> float:
    """Probability that a completion of utility `u_a` is put above one of `u_b`, ties and fatigue aside."""
    s = 1 / (1 + math.exp(-(u_a - u_b) / traits.tau))
    return (1 - traits.epsilon) * s + traits.epsilon * (1 - s)


@dataclass(frozen=True)
class SimulatedLabeler:
    """A labeler that reads `gold` and errs as its `traits` say; a draw depends on (seed, name, task) only."""

    name: str
    traits: Traits
    gold: Gold
    seed: int = 0

    @property
    def identity(self) -> Identity:
        """Its traits and seed are part of who it is."""
        return Identity(self.name, "simulated", asdict(self.traits) | {"seed": self.seed})

    def label(self, comparisons: Sequence[Comparison]) -> list[Vote]:
        """One vote for each comparison, of kind pairwise or ranking."""
        return [self._vote(comparison) for comparison in comparisons]

    def _vote(self, comparison: Comparison) -> Vote:
        """Draw an answer, and log the utilities it was drawn from where no training view looks."""
        rng = random.Random(derive("draw", self.seed, self.name, comparison.task_id))
        utilities = {
            completion.id: utility(
                self.gold(comparison.prompt, completion.text), self.traits, shown_first=position == 0
            )
            for position, completion in enumerate(comparison.completions)
        }
        # When in its day a labeler meets a task is drawn too, so that the order of work changes nothing.
        hour = rng.random()
        epsilon = self.traits.epsilon + self.traits.fatigue * hour
        tiers = _tiers(_draw_order(utilities, self.traits.tau, epsilon, rng), utilities, self.traits.delta)
        client = {"labeler": self.name, "u": utilities, "epsilon": epsilon}
        return Vote(comparison.task_id, _payload(comparison.kind, tiers), client=client)


def _draw_order(utilities: Mapping[str, float], tau: float, epsilon: float, rng: random.Random) -> list[str]:
    """Completion ids, best first; they are walked sorted, so the order shown has no part in the noise."""
    careless = rng.random() < 2 * epsilon
    noisy = {
        key: (0.0 if careless else utilities[key] / tau) - math.log(rng.expovariate(1.0))
        for key in sorted(utilities)
    }
    return sorted(noisy, key=lambda key: -noisy[key])


def _tiers(order: Sequence[str], utilities: Mapping[str, float], delta: float) -> list[list[str]]:
    """Join neighbours whose utilities are less than `delta` apart."""
    tiers = [[order[0]]]
    for key in order[1:]:
        if abs(utilities[key] - utilities[tiers[-1][-1]]) < delta:
            tiers[-1].append(key)
        else:
            tiers.append([key])
    return tiers


def _payload(kind: str, tiers: Sequence[Sequence[str]]) -> Payload:
    if kind == "pairwise":
        return prefer(tiers[0][0]) if len(tiers) == 2 else tie()
    if kind == "ranking":
        return ranking(tiers)
    raise UserError(
        f"a simulated labeler cannot answer a task of kind {kind!r}",
        where="the task",
        expected="pairwise or ranking",
        fix="have people answer it: concordant label",
    )
