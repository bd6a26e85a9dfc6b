"""How often one model beats another: duels on the same prompts, and what can be said from them.

Who decides a duel may be an exact reward, a reward model, labelers or people. A prompt is one observation, however
often it was decided; what takes no side is one half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from concordant.evaluation.intervals import Array, percentiles95, quantile95, wilson
from concordant.evaluation.sequential import confidence_sequence

Row = Mapping[str, Any]  # of `samples.jsonl`

RESAMPLES = 1_000
FEWEST = 5  # wins, and losses, from which on a bootstrap says how far a rate would vary
POWER = 0.8
_AT_ONCE = 2_000_000  # weights of resampled prompts held at one time
_PENALTY = 0.05  # precision of the normal priors on the coefficients of the length-controlled form
_SETTLED = 1e-9


@dataclass(frozen=True)
class Duels:
    """How model `second` did against `first` on N prompts.

    `values` (N): 1 where the second is better, 0 where the first is, the mean where several decided or nobody was
    better. `longer` (N): by how much the answer of the second is longer. `prompts` tells prompts apart; those of
    one key go together.
    """

    by: str
    first: str
    second: str
    prompts: tuple[Hashable, ...]
    values: Array
    longer: Array

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.values) == len(self.longer):
            raise ValueError("prompts, values and lengths of duels must be as many")
        if not ((self.values >= 0) & (self.values <= 1)).all():
            raise ValueError("the value of a duel lies between 0 and 1")

    def by_prompt(self) -> Duels:
        """The same with one observation a prompt: the mean of what was said of it."""
        places: dict[Hashable, int] = {}
        index = [places.setdefault(prompt, len(places)) for prompt in self.prompts]
        times = np.bincount(index) if index else np.zeros(0)
        values, longer = (
            np.bincount(index, column) / times if index else column for column in (self.values, self.longer)
        )
        return Duels(self.by, self.first, self.second, tuple(places), values, longer)


def duels_of(answers: Mapping[str, Sequence[Row]]) -> dict[str, list[Duels]]:
    """The duels of every two models by "gold" and by "score", as far as these are known of all their answers.

    `answers` has rows of `samples.jsonl` by model, one of each draw. Only draws that all models answered count, and
    one draw is one prompt: of the same prompt drawn twice the answers are independent.
    """
    at = {model: {(row["draw"], row["prompt_id"]): row for row in rows} for model, rows in answers.items()}
    shared = [draw for draw in next(iter(at.values())) if all(draw in rows for rows in at.values())]
    rows = [row for of in at.values() for row in of.values()]
    worths: dict[str, Callable[[Row], float]] = {
        "gold": lambda row: float(row["gold"]["total"]),
        "score": lambda row: float(row["score"]),
    }
    return {
        by: [_duels(by, pair, at, shared, worth) for pair in combinations(at, 2)]
        for by, worth in worths.items()
        if all(row[by] is not None for row in rows)
    }


def _duels(
    by: str,
    pair: tuple[str, str],
    at: Mapping[str, Mapping[Any, Row]],
    draws: Sequence[Hashable],
    worth: Callable[[Row], float],
) -> Duels:
    first, second = ([at[model][draw] for draw in draws] for model in pair)
    ahead = np.array([worth(b) - worth(a) for a, b in zip(first, second, strict=True)])
    longer = np.array([float(b["length"] - a["length"]) for a, b in zip(first, second, strict=True)])
    return Duels(by, *pair, tuple(draws), 0.5 + 0.5 * np.sign(ahead), longer)


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """The win rate had both answers been as long; `slope` is phi, log odds for much longer answers of the second."""

    rate: float
    low: float
    high: float
    slope: float


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often `second` beats `first`, ties one half, with 95 % intervals.

    `low` and `high` hold for the number of prompts there is, `always` for whoever looks in between and stops when
    it pleases. `detectable`: the smallest win rate that as many prompts, with as many ties, would tell from one
    half in 80 of 100 cases.
    """

    by: str
    first: str
    second: str
    rate: float
    low: float
    high: float
    always: tuple[float, float]
    n: int
    wins: int
    losses: int
    ties: int
    length_controlled: LengthControlled | None
    detectable: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        known = {name: getattr(self, name) for name in self.__slots__}
        controlled = self.length_controlled
        return known | {
            "always": list(self.always),
            "length_controlled": controlled
            and {name: getattr(controlled, name) for name in controlled.__slots__},
        }


def win_rate(found: Duels, seed: int = 0) -> WinRate | None:
    """What duels say; None of none. Wins and losses are prompts on which the one or the other is ahead."""
    one = found.by_prompt()
    values, n = one.values, len(one.values)
    if not n:
        return None
    low, high = _interval(values, seed)
    return WinRate(
        one.by,
        one.first,
        one.second,
        float(values.mean()),
        low,
        high,
        confidence_sequence(values),
        n,
        int((values > 0.5).sum()),
        int((values < 0.5).sum()),
        int((values == 0.5).sum()),
        length_controlled(values, one.longer),
        detectable(n, float(((values - 0.5) ** 2).mean())),
    )


def _interval(values: Array, seed: int) -> tuple[float, float]:
    """The bootstrap over prompts, by its percentiles; Wilson's, which is wider, where nearly all of them say the same.

    Sources: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13; Wilson (1927).
    """
    n = len(values)
    if min((values > 0.5).sum(), (values < 0.5).sum()) < FEWEST:
        known = wilson(float(values.sum()), n)
        return known.low, known.high
    means = np.concatenate([weights @ values / n for weights in resampled(n, seed)])
    low, high = np.quantile(means, percentiles95(n))
    return float(low), float(high)


def resampled(n: int, seed: int) -> Iterator[Array]:
    """How often each of `n` clusters is drawn, in RESAMPLES draws of n with replacement: rows of (some, n)."""
    rng = np.random.default_rng(seed)
    some = max(1, min(RESAMPLES, _AT_ONCE // n))
    for begin in range(0, RESAMPLES, some):
        size = min(some, RESAMPLES - begin)
        drawn = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def length_controlled(values: Array, longer: Array) -> LengthControlled | None:
    """The win rate at equal lengths, by logistic regression on the difference in length.

        P(second wins) = sigmoid(theta + phi tanh(longer / sd(longer))),    the rate is sigmoid(theta)

    minimising sum of -v ln P - (1 - v) ln(1 - P), plus .05 / 2 (theta^2 + phi^2) so that a rate of 1 has an end. This
    is the form of AlpacaEval 2 (Dubois, Galambosi, Liang and Hashimoto, "Length-Controlled AlpacaEval", 2024)
    without its term for how hard an instruction is, which is fitted on models that other people's runs lack.
    The 95 % interval is that of the sandwich (White, Econometrica 50, 1982), on the scale of theta. None where
    all differences in length are the same.
    """
    spread = float(longer.std()) if len(longer) else 0.0
    if not spread:
        return None
    x = np.stack([np.ones(len(longer)), np.tanh(longer / spread)], axis=1)
    coefficients = np.zeros(2)
    penalty = _PENALTY * np.eye(2)
    for _ in range(100):
        p = expit(x @ coefficients)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + penalty
        step = np.linalg.solve(curvature, x.T @ (values - p) - penalty @ coefficients)
        coefficients = coefficients + step * min(1.0, 4 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < _SETTLED:
            break
    influence = (x * (values - expit(x @ coefficients))[:, None]) @ np.linalg.inv(curvature)
    half = quantile95(len(x)) * math.sqrt(float((influence[:, 0] ** 2).sum()))
    theta, slope = (float(one) for one in coefficients)
    low, rate, high = (float(one) for one in expit([theta - half, theta, theta + half]))
    return LengthControlled(rate, low, high, slope)


def prompts_needed(win_rate: float, spread: float = 0.25, power: float = POWER) -> float:
    """Prompts that tell a true `win_rate` from one half at 5 %, two-sided, with this power.

        n = (z_.975 sqrt(s) + z_power sqrt(s - (w - 1/2)^2))^2 / (w - 1/2)^2

    `spread` s is the mean of (value - 1/2)^2: 1/4 without ties, less by the share of ties. The usual formula for one
    proportion against one half (Fleiss, Levin and Paik, 2003, Statistical Methods for Rates and Proportions, 2.4).
    """
    away = win_rate - 0.5
    sides = norm.ppf(0.975) * math.sqrt(spread) + norm.ppf(power) * math.sqrt(max(0.0, spread - away**2))
    return math.inf if not away else float(sides**2 / away**2)


def detectable(n: int, spread: float = 0.25, power: float = POWER) -> float | None:
    """The smallest win rate above one half that `n` prompts tell from it; None where no rate could be told.

    The inverse of `prompts_needed`. Where all but a share of the prompts are ties, no rate is far from one half.
    """
    most = min(0.5, math.sqrt(spread))  # with this second moment no rate is farther away
    if not n or not spread or prompts_needed(0.5 + most, spread, power) > n:
        return None
    near, far = 0.0, most
    for _ in range(60):
        middle = (near + far) / 2
        near, far = (middle, far) if prompts_needed(0.5 + middle, spread, power) > n else (near, middle)
    return 0.5 + far
