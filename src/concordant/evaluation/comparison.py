"""Several ways of doing the same thing, each over several seeds: one row per way."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.evaluation.figures import PARTS

Results = Mapping[str, Any]  # a run's `results.json`

# 97.5 % quantiles of Student's t by degrees of freedom; with three seeds the interval of a mean is wide.
T95 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """A figure over seeds: its mean, half the 95 % interval of the mean (nan for one seed), and the figures."""

    mean: float
    half: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> OverSeeds:
        """From one figure per seed; the interval is Student's, over seeds."""
        n = len(values)
        half = math.nan
        if n > 1:
            half = T95[min(n - 1, len(T95)) - 1] * statistics.stdev(values) / math.sqrt(n)
        return cls(statistics.fmean(values), half, tuple(values))

    def __str__(self) -> str:
        return f"{self.mean:z.2f}" + ("" if math.isnan(self.half) else f" ± {self.half:.2f}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no nan."""
        half = None if math.isnan(self.half) else self.half
        return {"mean": self.mean, "half": half, "values": list(self.values)}


@dataclass(frozen=True)
class Way:
    """One way over all seeds. Figures that nobody knows are absent."""

    name: str
    figures: Mapping[str, OverSeeds]
    least_gain: float | None  # gain in gold over the fine-tuned model, in standard errors, of the worst seed

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "least_gain": self.least_gain,
            **{name: figure.as_dict() for name, figure in self.figures.items()},
        }


def compare(runs: Mapping[str, Sequence[Results]]) -> list[Way]:
    """The rows of the comparison, best gold (or score) first, and what they started from at the end."""
    ways = [Way(name, figures_of(results, "policy"), _least_gain(results)) for name, results in runs.items()]
    order = "gold" if all("gold" in way.figures for way in ways) else "score"
    if all(order in way.figures for way in ways):
        ways.sort(key=lambda way: -way.figures[order].mean)
    first = next(iter(runs.values()))
    return [*ways, Way("sft", figures_of(first, "sft"), None)]


def figures_of(results: Sequence[Results], model: str) -> dict[str, OverSeeds]:
    """What is known of a model in all runs."""
    models = [one["models"].get(model) or one["models"]["base"] for one in results]
    columns: dict[str, list[float | None]] = {
        "gold": [_mean(m.get("gold")) for m in models],
        **{part: [_mean(m.get("gold_parts", {}).get(part)) for m in models] for part in PARTS},
        "score": [_mean(m.get("score")) for m in models],
        "kl": [_mean(m["kl"]) for m in models],
        "length": [_mean(m["length"]) for m in models],
        "unique_of_16": [m["distinct"].get("unique_of_16") for m in models],
    }
    if model == "policy":
        columns["seconds"] = [one["seconds"]["stages"].get("policy") for one in results]
        columns["peak_mb"] = [
            (one.get("device_memory_mb") or one["memory_mb"]).get("policy") for one in results
        ]
    known = {name: [v for v in values if v is not None] for name, values in columns.items()}
    return {name: OverSeeds.of(values) for name, values in known.items() if len(values) == len(results)}


def _least_gain(results: Sequence[Results]) -> float | None:
    gains = [one["gaps"].get("policy_minus_sft") or one["gaps"].get("policy_minus_base") for one in results]
    if not gains or not all(gain and gain["se"] for gain in gains):
        return None
    return min(float(gain["mean"] / gain["se"]) for gain in gains)


def _mean(figure: Mapping[str, Any] | None) -> float | None:
    return None if figure is None else figure["mean"]
