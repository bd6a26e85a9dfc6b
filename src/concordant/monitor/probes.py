"""Blind probes: whose answers are preferred, those of the policy or of the model that its training began with.

Nobody but who compares answers can tell learning from gaming a reward. A probe starts small, and grows where its
interval, which holds at all times (`evaluation/sequential.py`), leaves open who is better, or where it would be news.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from concordant.evaluation.sequential import confidence_sequence
from concordant.train.step import Step

FIRST, MOST = 48, 200  # pairs of a probe
NEWS = 0.05  # a fall of the win rate that is worth a word
DEVIATIONS = 4.0  # of the difference to the best probe; not 3, as the best one of many was lucky
FIGURE = "probe/"  # before the names of its figures


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe found: `rate` is the policy's share of `n` comparisons, ties half, and `score` its mean score.

    `below` is how much less that is than the best probe before it found, and `below_se` its standard error.
    """

    step: int
    rate: float
    se: float
    low: float
    high: float
    n: int
    score: float
    below: float
    below_se: float

    @classmethod
    def of_values(
        cls,
        step: int,
        values: Sequence[float],
        score: float,
        best: Probe | None = None,
        best_values: Sequence[float] = (),
    ) -> Probe:
        """From one value a pair, (N,) in [0, 1], 1 where the policy's answer was preferred.

        `best`: the best probe so far, by default the model that training began with, which is half by definition.
        `best_values`: (N,), what that one found of the same pairs, NaN where it did not have them. Prompts and answers
        of the other model are the same each time: where pairs are compared with themselves, how good those were
        drops out. Where the best one had too few of them, the two rates are compared.
        """
        x, best = np.asarray(values, dtype=np.float64), best or START
        low, high = confidence_sequence(x)
        rate, se = float(x.mean()), _error(x - 0.5)
        below, below_se = best.rate - rate, math.hypot(best.se, se)
        if best_values:
            fallen = np.asarray(best_values, dtype=np.float64) - x
            fallen = fallen[~np.isnan(fallen)]
            if _error(fallen) < below_se:
                below, below_se = float(fallen.mean()), _error(fallen)
        return cls(step, rate, se, low, high, len(x), score, below, below_se)

    @classmethod
    def of(cls, step: Step) -> Probe | None:
        """The one among the figures of a step; None where it has none."""
        found = {name: step.metrics.get(f"{FIGURE}{name}") for name in cls.__dataclass_fields__}
        if any(value is None for value in found.values()):
            return None
        known = {name: value for name, value in found.items() if value is not None}
        return cls(**{**known, "step": int(known["step"]), "n": int(known["n"])})  # type: ignore[arg-type]

    def figures(self) -> dict[str, float]:
        """For the metrics of a step."""
        return {f"{FIGURE}{name}": float(value) for name, value in asdict(self).items()}

    @property
    def undecided(self) -> bool:
        """Whether the interval leaves open who is better."""
        return self.low <= 0.5 <= self.high


def _error(values: np.ndarray[Any, Any]) -> float:
    """Standard error of a mean of values around 0; a half is added on each side, so that 48 wins in a row have one."""
    if not len(values):
        return math.inf
    return float(np.std([*values, -0.5, 0.5], ddof=1)) / math.sqrt(len(values))


START = Probe(0, 0.5, 0.0, 0.5, 0.5, 0, math.nan, 0.0, 0.0)  # the model itself: half by definition


@dataclass
class Course:
    """The probes of a stage so far."""

    probes: list[Probe] = field(default_factory=list)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Course:
        """From what `asdict` made of one."""
        return cls([Probe(**one) for one in state["probes"]])

    @property
    def best(self) -> Probe:
        """The one with the highest win rate, the model that training began with among them."""
        return max([START, *self.probes], key=lambda probe: probe.rate)

    def fell(self, probe: Probe) -> bool:
        """Whether a probe lies below the best one by more than chance explains, and by enough to be news."""
        return probe.below > max(NEWS, DEVIATIONS * probe.below_se)

    def turned(self, probe: Probe) -> bool:
        """Whether the score has risen while the win rate fell: over the last three probes, this one included."""
        last = [*self.probes, probe][-3:]
        if len(last) < 2:
            return False
        return last[-1].score > last[0].score and last[-1].rate < last[0].rate

    def grows(self, probe: Probe) -> bool:
        """Whether a first probe is to be made larger."""
        return probe.n < MOST and (probe.undecided or probe.below > NEWS)

    def note(self, probe: Probe) -> None:
        """Keep a probe."""
        self.probes.append(probe)
