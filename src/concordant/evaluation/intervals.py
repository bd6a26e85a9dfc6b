"""Means, shares and differences, each with its n and its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm as normal
from scipy.stats import t as student

from concordant.feedback.reading.agreement import wilson_interval

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution: two-sided 95 %

Array = npt.NDArray[np.float64]
Sized = tuple[Sequence[float], Sequence[float]]  # values and sizes, as `ratio_of` takes them


ALIKE = 30  # prompts that all change by the same from which on that counts as known


@cache
def quantile95(count: int) -> float:
    """How many standard errors of `count` values are half a 95 % interval: Student's t; normal where it is unknown."""
    return float(student.ppf(0.975, count - 1)) if count > 1 else Z95


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean, its standard error and the number of values; `se` is nan where there is one cluster only.

    `clusters`: of values that go together, where there are fewer than `n`; the error is known only as well as their
    number allows, and the interval is Student's.
    """

    mean: float
    se: float
    n: int
    clusters: int | None = None

    @property
    def half(self) -> float:
        """Half the width of the 95 % interval."""
        return quantile95(self._known) * self.se

    @property
    def _known(self) -> int:
        """How many values there are that know nothing of each other."""
        return self.n if self.clusters is None else self.clusters

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    @property
    def sign(self) -> int:
        """+1 or -1 where the 95 % interval lies on one side of zero, else 0 (also where it is unknown)."""
        return int(self.low > 0) - int(self.high < 0)

    def minus(self, other: Mean) -> Mean:
        """Difference of two independent means (too wide, never too narrow, where they share prompts)."""
        n, known = min(self.n, other.n), min(self._known, other._known)
        return Mean(self.mean - other.mean, math.hypot(self.se, other.se), n, known if known < n else None)

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON, which has no nan."""
        row = {"mean": self.mean, "se": self.se if math.isfinite(self.se) else None, "n": self.n}
        return row if self.clusters is None else row | {"clusters": self.clusters}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Mean:
        """The inverse of `as_dict`."""
        se = row.get("se")
        error = math.nan if se is None else float(se)
        return cls(float(row["mean"]), error, int(row.get("n") or 0), row.get("clusters"))


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % Wilson interval."""

    rate: float
    low: float
    high: float
    n: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no nan."""
        rate = self.rate if math.isfinite(self.rate) else None
        return {"rate": rate, "low": self.low, "high": self.high, "n": self.n}


def _by_cluster(values: Array, clusters: Sequence[Hashable]) -> dict[Hashable, float]:
    """Per cluster, the sum of (value - mean) / N: what the cluster adds to the error of the mean."""
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster labels")
    pulls: dict[Hashable, float] = {}
    for pull, cluster in zip((values - values.mean()) / len(values), clusters, strict=True):
        pulls[cluster] = pulls.get(cluster, 0.0) + float(pull)
    return pulls


def _se(pulls: Sequence[float]) -> float:
    """Standard error from cluster sums, with the small-sample factor G / (G - 1)."""
    count = len(pulls)
    return math.sqrt(count / (count - 1) * sum(p * p for p in pulls)) if count > 1 else math.nan


def _as_values(values: Sequence[float] | Array) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError("a mean needs a flat, non-empty list of values")
    return array


def mean_of(values: Sequence[float] | Array, clusters: Sequence[Hashable] | None = None) -> Mean:
    """Mean with a standard error clustered by prompt.

    `clusters` has one label per value (usually the prompt id): samples of one prompt are not independent.
    Without it every value is its own cluster and the error is the textbook sd / sqrt(n).
    """
    array = _as_values(values)
    labels = range(len(array)) if clusters is None else clusters
    pulls = list(_by_cluster(array, labels).values())
    return Mean(float(array.mean()), _se(pulls), len(array), len(pulls) if len(pulls) < len(array) else None)


def ratio_of(
    values: Sequence[float] | Array,
    sizes: Sequence[float] | Array,
    clusters: Sequence[Hashable] | None = None,
) -> Mean:
    """Sum of `values` over sum of `sizes`, such as nats per token, with a standard error clustered as in `mean_of`.

    The error is that of the linearised ratio (Cochran, Sampling Techniques, 1977, chapter 6); `n` counts the values.
    """
    ratio, pulls = _ratio(values, sizes)
    labels = range(len(pulls)) if clusters is None else clusters
    by_cluster = list(_by_cluster(pulls * len(pulls), labels).values())
    n, known = len(pulls), len(by_cluster)
    return Mean(ratio, _se(by_cluster), n, known if known < n else None)


def _ratio(values: Sequence[float] | Array, sizes: Sequence[float] | Array) -> tuple[float, Array]:
    """A ratio of sums, and what each value adds to its error."""
    above, below = _as_values(values), _as_values(sizes)
    ratio = float(above.sum() / below.sum())
    return ratio, (above - ratio * below) / below.sum()


def gap(
    a: Sequence[float] | Array,
    b: Sequence[float] | Array,
    a_prompts: Sequence[Hashable] | None = None,
    b_prompts: Sequence[Hashable] | None = None,
) -> Mean:
    """Mean of `a` minus mean of `b`, paired by prompt as far as the prompts are shared.

    Each prompt contributes its pull on both means, so the same prompts on both sides give the paired error
    exactly, and prompts on one side only still count. Without shared prompts the two means are independent.
    `n` is the number of different prompts.
    """
    left, right = _as_values(a), _as_values(b)
    shared = set(a_prompts or ()) & set(b_prompts or ())
    if a_prompts is None or b_prompts is None or not shared:
        return mean_of(a, a_prompts).minus(mean_of(b, b_prompts))
    pulls = _by_cluster(left, a_prompts)
    for prompt, pull in _by_cluster(right, b_prompts).items():
        pulls[prompt] = pulls.get(prompt, 0.0) - pull
    return Mean(float(left.mean() - right.mean()), _se(list(pulls.values())), len(pulls))


def wilson(successes: float, n: float) -> Rate:
    """Share of successes with its 95 % Wilson score interval.

    `successes` may be fractional (a tie counts half) and `n` an effective number. With n = 0 nothing is
    known: the rate is nan and the interval [0, 1]. Source: Wilson (1927).
    """
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    low, high = wilson_interval(successes, n, Z95)
    return Rate(successes / n if n else math.nan, low, high, n)


def effective_n(
    values: Sequence[float] | Array,
    clusters: Sequence[Hashable],
    weights: Sequence[float] | Array | None = None,
) -> float:
    """As many independent yes-or-no values (0 or 1) as say what these clustered ones say, for `wilson`.

    At least the number of clusters, which it is where all values are equal and the spread is not known, and at most
    that of the values; unequal weights count as (sum w)^2 / sum w^2. Source: Kish (1965), design effect.
    """
    array = _as_values(values)
    given = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    mean = float(np.average(array, weights=given))
    pulls = _by_cluster((array - mean) * given * len(array) / given.sum(), clusters)
    each, least = float(given.sum() ** 2 / (given**2).sum()), float(len(set(clusters)))
    se, spread = _se(list(pulls.values())), mean * (1 - mean)
    if not spread or math.isnan(se):
        return min(each, least)
    return min(each, max(least, spread / se**2)) if se else each


def clustered_wilson(
    values: Sequence[float] | Array,
    clusters: Sequence[Hashable],
    weights: Sequence[float] | Array | None = None,
) -> Rate:
    """The mean of values from 0 to 1, of which those of one cluster, such as a prompt, go together; `n` counts values.

    Wilson's interval for `effective_n` answers, with the quantile of Student's t where clusters have several values
    (Korn and Graubard, Survey Methodology 24, 1998). Of no values, and of one cluster of several, nothing is known.
    """
    if not len(values):
        return wilson(0, 0)
    share, count = float(np.average(values, weights=weights)), len(set(clusters))
    if count == len(values):
        quantile = Z95
    elif count > 1:
        quantile = quantile95(count)
    else:
        return Rate(share, 0.0, 1.0, len(values))
    n = effective_n(values, clusters, weights)
    low, high = wilson_interval(min(n, share * n), n, quantile)
    return Rate(share, low, high, len(values))


def zero_bound(n: int) -> float:
    """The largest rate at which no success among `n` trials still has a chance of 5 %; 1 for no trials.

    The exact form (Clopper and Pearson 1934) of the rule of three, 3 / n.
    """
    return 1 - 0.05 ** (1 / n) if n else 1.0


def percentiles95(n: int) -> tuple[float, float]:
    """Which percentiles of a bootstrap over `n` clusters are the ends of a 95 % interval.

    A bootstrap is too narrow by sqrt((n - 1) / n), and knows nothing of Student's t: 2.5 and 97.5 % hold the truth too
    seldom where n is small. Source: Hesterberg, What Teachers Should Know About the Bootstrap (The American
    Statistician 69, 2015), the expanded percentile interval.
    """
    tail = float(normal.cdf(-math.sqrt(n / (n - 1)) * quantile95(n))) if n > 1 else 0.0
    return tail, 1 - tail


@dataclass(frozen=True, slots=True)
class Change:
    """By how much a figure of the later model lies above that of the earlier one; `n` prompts, 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def between(cls, after: Sequence[float], before: Sequence[float], draws: Sequence[int]) -> Change:
        """Of values of both models on the same draws, with the quantile of Student's t; of one nothing is known."""
        return cls._about(gap(after, before, draws, draws))

    @classmethod
    def of_ratios(cls, after: Sized, before: Sized) -> Change:
        """Of ratios of sums over the same clusters, one value of each, paired by cluster; see `ratio_of`."""
        later, pulls = _ratio(*after)
        earlier, others = _ratio(*before)
        return cls._about(Mean(later - earlier, _se((pulls - others).tolist()), len(pulls)))

    @classmethod
    def _about(cls, found: Mean) -> Change:
        # Prompts that all change alike, or not at all, do not say how much another one would.
        half = found.half if found.n > 1 and (found.se or found.n >= ALIKE) else math.inf
        return cls(found.mean, found.mean - half, found.mean + half, found.n)

    @classmethod
    def of_shares(cls, after: Sequence[bool], before: Sequence[bool]) -> Change:
        """Of yes and no on the same draws.

        The interval is that of Agresti and Min (Statistics in Medicine 24, 2005), with half an observation added to
        each of the four ways to say yes and no twice: where nothing changed on n draws it is not of width 0.
        """
        gains = [int(a) - int(b) for a, b in zip(after, before, strict=True)]
        n, net, moved = len(gains), sum(gains), sum(map(abs, gains))
        middle = net / (n + 2)
        half = Z95 * math.sqrt((moved + 1) / (n + 2) - middle**2) / math.sqrt(n + 2)
        return cls(net / n, middle - half, middle + half, n)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which knows no infinity."""
        ends = {
            name: end if math.isfinite(end) else None
            for name, end in (("low", self.low), ("high", self.high))
        }
        return asdict(self) | ends

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Change:
        """The inverse of `as_dict`."""
        low = -math.inf if row["low"] is None else float(row["low"])
        high = math.inf if row["high"] is None else float(row["high"])
        return cls(float(row["mean"]), low, high, int(row["n"]))
