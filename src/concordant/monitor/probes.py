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
NEWS = 0.10  # a fall of the win rate that is worth a word
DEVIATIONS = 4.0  # of a difference of two probes; not 3, as the best one of many was lucky
FIGURE = "probe/"  # before the names of its figures


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe found: `rate` is the policy's share of `n` comparisons, ties half, and `score` its mean score."""

    step: int
    rate: float
    se: float
    low: float
    high: float
    n: int
    score: float

    @classmethod
    def of_values(cls, step: int, values: Sequence[float], score: float) -> Probe:
        """From one value a pair, (N,) in [0, 1], 1 where the policy's answer was preferred."""
        x = np.asarray(values, dtype=np.float64)
        low, high = confidence_sequence(x)
        # A pair that decides nothing is added on each side: after 48 wins in a row the deviation is not 0.
        deviation = float(np.std([*x, 0.0, 1.0], ddof=1))
        return cls(step, float(x.mean()), deviation / math.sqrt(len(x)), low, high, len(x), score)

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


START = Probe(0, 0.5, 0.0, 0.5, 0.5, 0, math.nan)  # the model itself: half by definition


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
        best = self.best
        return best.rate - probe.rate > max(NEWS, DEVIATIONS * math.hypot(best.se, probe.se))

    def turned(self, probe: Probe) -> bool:
        """Whether the win rate falls where the score rises: the slope of the last three probes, this one included."""
        last = [*self.probes, probe][-3:]
        if len(last) < 2:
            return False
        scores, rates = np.array([one.score for one in last]), np.array([one.rate for one in last])
        return float(((scores - scores.mean()) * (rates - rates.mean())).sum()) < 0

    def grows(self, probe: Probe) -> bool:
        """Whether a first probe is to be made larger."""
        return probe.n < MOST and (probe.undecided or self.best.rate - probe.rate > NEWS)

    def note(self, probe: Probe) -> None:
        """Keep a probe."""
        self.probes.append(probe)
