"""Distance of the policy from its reference: estimators per token, and what the distance costs.

Legend: B sequences, T tokens, V vocabulary. The estimators work elementwise on any shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0  # e^20 is 5e8: far beyond any use, and far from fp32 overflow


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Unbiased estimator of KL(policy || reference) from sampled tokens: k1 = logprob - ref_logprob.

    It may be negative for a token. For the reward of PPO; its expected gradient as a loss is zero
    (Tang & Munos 2025, arXiv:2506.09477).
    """
    return logprobs.float() - ref_logprobs.float()


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Biased estimator of low variance: k2 = (ref_logprob - logprob)^2 / 2.

    As a loss on tokens drawn from the policy itself, its expected gradient is that of
    KL(policy || reference) (arXiv:2510.01555).
    """
    return 0.5 * k1(logprobs, ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Unbiased and never negative: k3 = e^q - 1 - q with q = ref_logprob - logprob clamped to +-20.

    As a loss it needs the importance ratio in front: ratio * k3 has the expected gradient of
    KL(policy || reference), k3 alone that of the reversed divergence (arXiv:2506.09477, arXiv:2510.01555).
    """
    q = (-k1(logprobs, ref_logprobs)).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.expm1(q) - q


def exact_kl(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """KL(p || q) = sum_v p_v (log p_v - log q_v) over the last dimension of two tensors of logits, in nats.

    A token impossible under p costs nothing, also where it is impossible under q.
    """
    logprobs_p = torch.log_softmax(logits_p.float(), -1)
    logprobs_q = torch.log_softmax(logits_q.float(), -1)
    possible = logprobs_p > -math.inf
    difference = torch.where(possible, logprobs_p, 0.0) - torch.where(possible, logprobs_q, 0.0)
    return (logprobs_p.exp() * difference).sum(-1)


@dataclass(slots=True)
class FixedKL:
    """A KL coefficient that stays as it is."""

    coef: float

    def __post_init__(self) -> None:
        _require(self.coef >= 0, f"the KL coefficient must not be negative, but is {self.coef}")

    def update(self, kl_per_sequence: float, n: int) -> None:
        """Take note of nothing: the coefficient does not follow the measured KL."""

    def state(self) -> dict[str, float]:
        """What a checkpoint holds."""
        return {"coef": self.coef}

    def load_state(self, state: dict[str, float]) -> None:
        """Go on from what `state()` gave."""
        self.coef = float(state["coef"])


@dataclass(slots=True)
class AdaptiveKL:
    """A KL coefficient that steers the KL per sequence towards a target.

    After each rollout of n completions: coef *= 1 + clip(KL / target - 1, -0.2, 0.2) * n / horizon
    (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).
    """

    coef: float
    target: float  # nats per sequence
    horizon: float  # completions

    def __post_init__(self) -> None:
        _require(self.coef > 0, f"an adaptive KL coefficient must start above 0, but is {self.coef}")
        _require(self.target > 0, f"the KL target must be above 0, but is {self.target}")
        _require(self.horizon > 0, f"the KL horizon must be above 0, but is {self.horizon}")

    def update(self, kl_per_sequence: float, n: int) -> None:
        """Adapt to one rollout: the mean over its `n` completions of sum_t k1, in nats.

        Raises ValueError where n >= 5 * horizon, as one step could take the coefficient to 0 for
        ever, and where the KL is not finite.
        """
        _require(n < 5 * self.horizon, f"{n} completions a rollout need a KL horizon above {n / 5:g}")
        _require(math.isfinite(kl_per_sequence), f"the measured KL is {kl_per_sequence}")
        error = min(max(kl_per_sequence / self.target - 1.0, -0.2), 0.2)
        self.coef *= 1.0 + error * n / self.horizon

    def state(self) -> dict[str, float]:
        """What a checkpoint holds."""
        return {"coef": self.coef}

    def load_state(self, state: dict[str, float]) -> None:
        """Go on from what `state()` gave."""
        self.coef = float(state["coef"])


KLController = FixedKL | AdaptiveKL


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
