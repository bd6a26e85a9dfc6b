"""Where more of the proxy stops being more of the truth: the forms of Gao et al., fitted, and where a run stands.

With d the root of the KL to the model that optimisation started from, the gain in truth is

    d (alpha - beta d)       where the best of n by the proxy is taken, with its peak at alpha / 2 beta
    d (alpha - beta ln d)    where a policy is trained on the proxy, with its peak at e^(alpha / beta - 1)

Source: Gao, Schulman and Hilton (2023), Scaling Laws for Reward Model Overoptimization. Both are descriptions of curves
that were seen, not laws: a peak beyond the distances that were measured is an extrapolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from concordant.evaluation.intervals import Array, Mean, percentiles95
from concordant.evaluation.win_rates import RESAMPLES

Stands = Literal["before", "past", "cannot tell"]
FEWEST: Final = 8  # points that a curve of two coefficients is fitted to along a training
BEYOND: Final = 10.0  # times the largest distance measured: a peak farther away than this is none


@dataclass(frozen=True)
class Form:
    """gain = d (alpha - beta bend(d)); `peak` is the d at which it is highest, where beta is above 0."""

    bend: Callable[[Array], Array]
    peak: Callable[[Array, Array], Array]

    def columns(self, d: Array) -> Array:
        """What alpha and beta are multiplied with: (N, 2)."""
        return np.stack([d, -d * self.bend(d)], axis=-1)

    def highest(self, coefficients: Array, farthest: float) -> Array:
        """d of the peak for alpha and beta (..., 2): infinite where the gain never turns in sight of the points."""
        alpha, beta = coefficients[..., 0], coefficients[..., 1]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            at = np.where(beta > 0, self.peak(alpha, beta), math.inf)
        return np.where(at > BEYOND * farthest, math.inf, np.maximum(at, 0.0))


CHOOSING = Form(bend=lambda d: d, peak=lambda alpha, beta: alpha / (2 * beta))
TRAINING = Form(
    bend=lambda d: np.log(np.where(d > 0, d, 1.0)), peak=lambda alpha, beta: np.exp(alpha / beta - 1)
)


@dataclass(frozen=True)
class Fit:
    """A form fitted to points, with 95 % intervals; `d_star` and its upper end are infinite where nothing turns."""

    alpha: float
    alpha_ci: tuple[float, float]
    beta: float
    beta_ci: tuple[float, float]
    d_star: float
    d_star_ci: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which knows no infinity."""
        return {
            "alpha": self.alpha,
            "alpha_ci": list(self.alpha_ci),
            "beta": self.beta,
            "beta_ci": list(self.beta_ci),
            "d_star": _finite(self.d_star),
            "d_star_ci": [_finite(end) for end in self.d_star_ci],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def coefficients(form: Form, d: Array, gain: Array) -> Array:
    """Least squares: alpha and beta (2,) of points (N,)."""
    return np.asarray(np.linalg.lstsq(form.columns(d), gain, rcond=None)[0], dtype=np.float64)


def fitted(form: Form, d: Array, gain: Array, samples: Sequence[tuple[Array, Array]], clusters: int) -> Fit:
    """A form fitted to distances and gains (N,); intervals are percentiles over samples of so many clusters."""
    farthest = float(d.max())
    whole = coefficients(form, d, gain)
    drawn = np.stack([coefficients(form, *sample) for sample in samples])
    peaks = form.highest(drawn, farthest)
    return Fit(
        float(whole[0]),
        _ends(drawn[:, 0], clusters),
        float(whole[1]),
        _ends(drawn[:, 1], clusters),
        float(form.highest(whole, farthest)),
        _ends(peaks, clusters),
    )


def _ends(values: Array, clusters: int) -> tuple[float, float]:
    """The middle 95 %; of values of which some are infinite, values that occur, as nothing lies between them."""
    low, high = np.quantile(values, percentiles95(clusters), method="nearest")
    return float(low), float(high)


def along(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, float | None]]:
    """The path of a training, from the rows of `steps.jsonl`: distance, score and gold of each rollout.

    And on steps with a probe how often the policy was preferred to the model that it started from.
    """
    return [
        {
            "step": row["step"],
            "d": math.sqrt(max(0.0, row["objective/kl"])),
            "score": row.get("objective/score"),
            "gold": row.get("objective/gold"),
            "probe": row.get("probe/rate"),
        }
        for row in steps
        if row.get("objective/kl") is not None
    ]


def fit_path(points: Sequence[Mapping[str, Any]], truth: str, start: Mean, seed: int = 0) -> Fit | None:
    """The form of training, fitted to the `truth` of its points; None where that is not known on enough steps.

    `start` is the mean truth of the model that training started from, which the gain is counted from. Steps are
    resampled in blocks of neighbours, since what a policy is on one step it nearly is on the next, and `start` is drawn
    within its error (Künsch, Annals of Statistics 17, 1989: the moving block bootstrap).
    """
    known = [point for point in points if point[truth] is not None]
    if len(known) < FEWEST:
        return None
    d, true = (np.array([point[name] for point in known], dtype=np.float64) for name in ("d", truth))
    if np.ptp(d) == 0:
        return None
    rng = np.random.default_rng(seed)
    error = start.se if math.isfinite(start.se) else 0.0
    samples = [
        (d[places], true[places] - rng.normal(start.mean, error)) for places in _blocks(len(known), rng)
    ]
    return fitted(TRAINING, d, true - start.mean, samples, math.ceil(len(known) / _block(len(known))))


def _block(n: int) -> int:
    return math.ceil(math.pow(n, 1 / 3))


def _blocks(n: int, rng: np.random.Generator) -> Iterator[Any]:
    """Places of `n` neighbours put together from blocks of about the cube root of n, RESAMPLES times."""
    length = _block(n)
    for _ in range(RESAMPLES):
        begins = rng.integers(0, n - length + 1, math.ceil(n / length))
        yield (begins[:, None] + np.arange(length)).ravel()[:n]


def stands(fit: Fit | None, d: tuple[float, float]) -> Stands:
    """Whether a policy, whose distance lies in the interval `d`, is before or past the peak of the fit.

    It cannot be told where the two intervals overlap, as they do where the peak's is open and begins before.
    """
    if fit is None:
        return "cannot tell"
    low, high = fit.d_star_ci
    return "past" if d[0] > high else "before" if d[1] < low else "cannot tell"
