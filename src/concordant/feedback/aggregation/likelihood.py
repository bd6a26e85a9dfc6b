"""The penalised likelihood of votes on pairs, with its gradient: one equation for items, labelers and style.

Item i is shown first, j second, by labeler w; x is what differs in form. With d = s_i - s_j + gamma . x
    L = softmax(d/2, -d/2, log nu)                 the vote of one who looks: first, second, tie
    C = softmax(q_w x_0/2, -q_w x_0/2, tau)        the habit of one who does not; x_0 = 1 where the order is known
    P = rho_w L_y + (1 - rho_w) C_y,   rho_w = sigmoid(g_w)
    minimise - sum_v weight_v log P_v
             + 1/2 [ .5 |s|^2 + .5 sum (g_w - 2)^2 + .5 |q|^2 + .5 |gamma|^2 + .05 (log^2 nu + tau^2) ].
L is Davidson's model of ties (JASA 65, 1970: nu here is his, so that a tie of equals has nu / (2 + nu)). The
mixture with a habit has the form of a lapse rate in psychophysics, of labelers who "spam" in crowdsourcing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit

from concordant.feedback.aggregation.contests import COVARIATES, TIE, Contests

Floats = npt.NDArray[np.float64]

TRUST = 2.0  # g before any vote: rho = sigmoid(2) = 0.88
STRONG, WEAK = 0.5, 0.05  # precisions of the normal priors


@dataclass(frozen=True)
class Parameters:
    """What is estimated. s (I): scores; g, q (W): log odds of looking, and of taking the first by habit."""

    s: Floats
    g: Floats
    q: Floats
    gamma: Floats  # (3), log odds for one unit of each of COVARIATES
    log_nu: float
    tau: float

    def flat(self) -> Floats:
        """All of them in one vector: s, g, q, gamma, log nu, tau."""
        return np.concatenate([self.s, self.g, self.q, self.gamma, [self.log_nu, self.tau]])

    @classmethod
    def from_flat(cls, theta: Floats, items: int, labelers: int) -> Parameters:
        """The inverse of `flat`."""
        cuts = np.cumsum([items, labelers, labelers, len(COVARIATES)])
        s, g, q, gamma, ties = np.split(theta, cuts)
        return cls(s, g, q, gamma, float(ties[0]), float(ties[1]))

    @classmethod
    def start(cls, items: int, labelers: int) -> Parameters:
        """Nothing known: the mode of the priors, but for ties, which begin at nu = tau = 1."""
        zeros = np.zeros(labelers)
        return cls(np.zeros(items), np.full(labelers, TRUST), zeros, np.zeros(len(COVARIATES)), 0.0, 0.0)


def objective(theta: Floats, votes: Contests) -> tuple[float, Floats]:
    """Minus the penalised log-likelihood at `theta` (the vector of `Parameters.flat`), and its gradient.

    In nats, summed over votes. Gradient: with r the share of the vote that was looked at, r = rho L_y / P,
    and A = r (onehot(y) - L), B = (1 - r)(onehot(y) - C), log P changes by (A_1 - A_2)/2 with d, by
    x_0 (B_1 - B_2)/2 with q, by A_3 with log nu, B_3 with tau and r - rho with g.
    """
    now = Parameters.from_flat(theta, len(votes.items), len(votes.labelers))
    penalty, pull = _penalty(now)
    by_vote, who = _slopes(now, votes), votes.labeler
    rise = Parameters(
        _summed(votes.first, by_vote.d, len(now.s)) - _summed(votes.second, by_vote.d, len(now.s)),
        _summed(who, by_vote.g, len(now.g)),
        _summed(who, by_vote.q, len(now.g)),
        votes.x.T @ by_vote.d,
        float(by_vote.log_nu.sum()),
        float(by_vote.tau.sum()),
    )
    return penalty - float(votes.weight @ by_vote.log_p), pull.flat() - rise.flat()


def slope_along(direction: Floats, theta: Floats, votes: Contests) -> Floats:
    """How fast each vote's weighted log P rises at `theta` along `direction`, (N); both are vectors of `flat`."""
    now = Parameters.from_flat(theta, len(votes.items), len(votes.labelers))
    along = Parameters.from_flat(direction, len(votes.items), len(votes.labelers))
    by_vote, who = _slopes(now, votes), votes.labeler
    lead = along.s[votes.first] - along.s[votes.second] + votes.x @ along.gamma
    labelers = along.g[who] * by_vote.g + along.q[who] * by_vote.q
    return by_vote.d * lead + labelers + by_vote.log_nu * along.log_nu + by_vote.tau * along.tau


@dataclass(frozen=True, slots=True)
class _Slopes:
    """Log P of every vote (N), and its weighted slopes in the lead d and in the labeler's and common parameters."""

    log_p: Floats
    d: Floats
    g: Floats
    q: Floats
    log_nu: Floats
    tau: Floats


def _slopes(now: Parameters, votes: Contests) -> _Slopes:
    who, known = votes.labeler, votes.x[:, 0]
    sign, tied = _SIGN[votes.said], votes.said == TIE
    looked = _choice(now.s[votes.first] - now.s[votes.second] + votes.x @ now.gamma, now.log_nu, sign, tied)
    habit = _choice(now.q[who] * known, now.tau, sign, tied)
    log_looked = log_expit(now.g)[who] + looked.log_p
    log_p = np.logaddexp(log_looked, log_expit(-now.g)[who] + habit.log_p)
    share = votes.weight * np.exp(log_looked - log_p)  # r, weighted
    other = votes.weight - share
    return _Slopes(
        log_p,
        share * looked.by_lead,
        share - votes.weight * expit(now.g)[who],
        other * habit.by_lead * known,
        share * looked.by_tie,
        other * habit.by_tie,
    )


_SIGN = np.array([1.0, -1.0, 0.0])  # of FIRST, SECOND and TIE


@dataclass(frozen=True, slots=True)
class _Choice:
    """Log-probability (N) of what was said, and its slopes in the lead and in the logit of a tie."""

    log_p: Floats
    by_lead: Floats
    by_tie: Floats


def _choice(lead: Floats, tie: float, sign: Floats, tied: npt.NDArray[np.bool_]) -> _Choice:
    """softmax(lead/2, -lead/2, tie), of which the larger of the first two is taken out so that nothing overflows."""
    half = np.abs(lead) / 2
    behind, even = np.exp(-2 * half), np.exp(tie - half)
    total = 1 + behind + even
    p_tie = even / total
    said = np.where(tied, tie, sign * lead / 2)
    towards = np.copysign((1 - behind) / total, lead)  # P(first) - P(second)
    return _Choice(said - half - np.log(total), (sign - towards) / 2, tied - p_tie)


def _summed(index: npt.NDArray[np.int64], values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(index, values, size), dtype=np.float64)


def _penalty(now: Parameters) -> tuple[float, Parameters]:
    """The penalty and its gradient."""
    doubt = now.g - TRUST
    squares = sum(float(one @ one) for one in (now.s, doubt, now.q, now.gamma))
    value = 0.5 * (STRONG * squares + WEAK * (now.log_nu**2 + now.tau**2))
    return value, Parameters(
        STRONG * now.s, STRONG * doubt, STRONG * now.q, STRONG * now.gamma, WEAK * now.log_nu, WEAK * now.tau
    )
