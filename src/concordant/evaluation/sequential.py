"""An interval for a mean that holds at all times at once: who looks after every vote may stop when it pleases.

For values x_1, x_2, ... in [0, 1] of which each has the mean p given those before it, with s their sum, the mixture

    M_n(p) = B(a + s, a + n - s) / B(a, a) / (p^s (1 - p)^(n - s))

over Beta(a, a) of likelihood ratios of a coin starts at 1 and is a supermartingale for the true p: of values 0 and 1
because each ratio is a martingale, of those between because (q/p)^x ((1-q)/(1-p))^(1-x) is convex in x, so that its
mean is at most that of its chord, which is 1. It reaches 1 / alpha at any time with probability alpha at most (Ville,
1939); the interval has every p for which it is below that now. It always holds the mean so far and does not depend on
the order of the values. Sources: Robbins, Annals of Mathematical Statistics 41, 1970; Howard, Ramdas, McAuliffe and
Sekhon, Annals of Statistics 49, 2021 (the beta-binomial boundary, for sub-Bernoulli values).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import betaln

from concordant.evaluation.intervals import Array

ALPHA = 0.05
PRIOR = 10.0  # a: the interval is tightest for rates near one half
_HALVINGS = 50  # of the stretch in which an end is looked for


def confidence_sequence(values: Sequence[float] | Array, alpha: float = ALPHA) -> tuple[float, float]:
    """Both ends after `values` (N), all in [0, 1]; (0, 1) where there are none.

    The intervals after each of the values hold the mean, all of them together, with probability 1 - `alpha`.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not ((x >= 0) & (x <= 1)).all():
        raise ValueError("a confidence sequence needs a flat list of values between 0 and 1")
    if not len(x):
        return 0.0, 1.0
    won, lost = float(x.sum()), float((1 - x).sum())
    return _lowest(won, lost, alpha), 1 - _lowest(lost, won, alpha)


def _lowest(won: float, lost: float, alpha: float) -> float:
    """The largest p below the mean that is refuted, or 0."""
    if not won:
        return 0.0  # nothing speaks against the lowest rates
    most = float(betaln(PRIOR + won, PRIOR + lost) - betaln(PRIOR, PRIOR)) + math.log(alpha)
    refuted, kept = 0.0, won / (won + lost)
    for _ in range(_HALVINGS):
        p = (refuted + kept) / 2
        likelihood = won * math.log(p) + lost * math.log1p(-p)
        refuted, kept = (p, kept) if most >= likelihood else (refuted, p)
    return refuted
