"""Learning from preferences without a reward model: the losses of direct preference optimisation.

Legend: M comparisons. c and r are log-ratios of the chosen and of the rejected completion,
log pi(y|x) - log reference(y|x) summed over the tokens of y, and D = c - r. All losses are per comparison,
of shape (M,), in fp32; `weighted_mean` makes one number of them. Exponents are kept below 20, so that a
completion far from the reference cannot make the step infinite.

A soft label p is the probability that the chosen completion is the better one. The loss of a comparison
then is the expected one, p l(c, r) + (1 - p) l(r, c): with p = 1 - epsilon and the sigmoid this is
conservative DPO, and a tie has p = 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from concordant.core.kl import MAX_LOG_RATIO
from concordant.core.masked import kept, masked_sum, require_same_shape

PairLoss = Callable[[Tensor, Tensor], Tensor]
"""From c and r, both (M,), to the loss of each comparison, (M,)."""


def sigmoid_loss(c: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """DPO, -log sigmoid(beta D) (Rafailov et al. 2023, arXiv:2305.18290, eq. 7)."""
    return -logsigmoid(beta * (c - r))


def hinge_loss(c: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """SLiC, relu(1 - beta D) (Zhao et al. 2023, arXiv:2305.10425)."""
    return relu(1 - beta * (c - r))


def ipo_loss(c: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """IPO, (D - 1 / (2 beta))^2 (Azar et al. 2023, arXiv:2310.12036, eq. 17).

    The paper sums log-ratios over tokens; given means per token it is the form that most people run.
    """
    return (c - r - 1 / (2 * beta)).square()


def robust(loss: PairLoss, epsilon: float) -> PairLoss:
    """A loss whose expectation under labels flipped with probability `epsilon` is that under clean ones.

    [(1 - epsilon) l(c, r) - epsilon l(r, c)] / (1 - 2 epsilon) (Chowdhury et al. 2024, arXiv:2403.00409, eq. 12).
    Raises ValueError unless 0 <= epsilon < 0.5.
    """
    if not 0 <= epsilon < 0.5:
        raise ValueError(f"a share of flipped labels is at least 0 and below 0.5, not {epsilon}")
    return lambda c, r: ((1 - epsilon) * loss(c, r) - epsilon * loss(r, c)) / (1 - 2 * epsilon)


def exo_pair_loss(c: Tensor, r: Tensor, *, beta: float, epsilon: float = 1e-3) -> Tensor:
    """EXO, KL of the policy's preference q = sigmoid(beta D) from 1 - epsilon (Ji et al. 2024, arXiv:2402.00856).

    q (log q - log(1 - epsilon)) + (1 - q) (log(1 - q) - log epsilon).
    """
    win, lose = logsigmoid(beta * (c - r)), logsigmoid(-beta * (c - r))
    return win.exp() * (win - math.log1p(-epsilon)) + lose.exp() * (lose - math.log(epsilon))


def nca_pair_loss(c: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """NCA, which also holds both likelihoods up (Chen et al. 2024, arXiv:2402.05369).

    -log sigmoid(beta c) - [log sigmoid(-beta c) + log sigmoid(-beta r)] / 2.
    """
    return -logsigmoid(beta * c) - 0.5 * (logsigmoid(-beta * c) + logsigmoid(-beta * r))


def bco_pair_loss(c: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """BCO on pairs with its shift at 0, -log sigmoid(beta c) - log sigmoid(-beta r) (Jung 2024, arXiv:2404.04656)."""
    return -logsigmoid(beta * c) - logsigmoid(-beta * r)


def sppo_hard_loss(c: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """SPPO with hard labels, (c - 1 / (2 beta))^2 + (r + 1 / (2 beta))^2 (Wu et al. 2024, arXiv:2405.00675)."""
    return (c - 0.5 / beta).square() + (r + 0.5 / beta).square()


def apo_zero_loss(c: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """APO-zero, chosen up and rejected down: 1 - sigmoid(beta c) + sigmoid(beta r).

    D'Oosterlinck et al. 2024, arXiv:2408.06266.
    """
    return torch.sigmoid(-beta * c) + torch.sigmoid(beta * r)


def apo_down_loss(c: Tensor, r: Tensor, *, beta: float) -> Tensor:
    """APO-down, both down, the rejected more: sigmoid(beta c) + 1 - sigmoid(beta D) (arXiv:2408.06266)."""
    return torch.sigmoid(beta * c) + torch.sigmoid(-beta * (c - r))


def discopop_loss(c: Tensor, r: Tensor, *, beta: float, temperature: float = 0.05) -> Tensor:
    """DiscoPOP, a discovered mixture (Lu et al. 2024, arXiv:2406.08414, eq. 5).

    (1 - m) (-log sigmoid(x)) + m e^-x with x = beta D and m = sigmoid(x / temperature).
    """
    x = beta * (c - r)
    mixed = torch.sigmoid(x / temperature)
    return (1 - mixed) * -logsigmoid(x) + mixed * torch.exp((-x).clamp(max=MAX_LOG_RATIO))


def forward_kl_ratio(ratio: Tensor) -> Tensor:
    """1 - e^-u: takes the place of a log-ratio u where drift costs KL(reference || policy).

    f-DPO, Wang et al. 2023, arXiv:2309.16240, table 1.
    """
    return 1 - torch.exp((-ratio).clamp(max=MAX_LOG_RATIO))


def jensen_shannon_ratio(ratio: Tensor) -> Tensor:
    """log 2 + log sigmoid(u): the same for the Jensen-Shannon divergence (arXiv:2309.16240, table 1)."""
    return math.log(2.0) + logsigmoid(ratio)


def alpha_ratio(ratio: Tensor, *, alpha: float = 0.5) -> Tensor:
    """(e^((alpha - 1) u) - 1) / (alpha - 1): the same for an alpha divergence, 0 < alpha < 1 (arXiv:2309.16240)."""
    return torch.expm1(((alpha - 1) * ratio).clamp(max=MAX_LOG_RATIO)) / (alpha - 1)


def aot_loss(policy_gap: Tensor, reference_gap: Tensor, *, beta: float) -> Tensor:
    """AOT, DPO between quantiles of a batch: -log sigmoid(beta (sorted policy gaps - sorted reference gaps)).

    A gap is log p(chosen) - log p(rejected), (M,) (Melnyk et al. 2024, arXiv:2406.05882). For data without
    pairs give the sorted log-ratios c and r instead. It compares a batch with itself, so here the batch that
    is passed in matters.
    """
    return -logsigmoid(beta * (policy_gap.sort().values - reference_gap.sort().values))


def length_desensitised(
    logprobs_BT: Tensor, loss_mask_BT: Tensor, shared_B: Tensor, *, alpha: float
) -> Tensor:
    """Sum of log-probabilities in which tokens after the first `shared` ones count `alpha`, (B,).

    `shared` is the length of the shorter completion of a pair, so that length alone tells less
    (LD-DPO, Liu et al. 2024, arXiv:2409.06411).
    """
    place_BT = loss_mask_BT.cumsum(1)
    weight_BT = torch.where(place_BT <= shared_B[:, None], 1.0, alpha)
    return masked_sum(logprobs_BT.float() * weight_BT, loss_mask_BT, dim=1)


def kto_loss(ratio: Tensor, desirable: Tensor, z: Tensor, *, beta: float) -> Tensor:
    """KTO for completions judged one by one (Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8), (N,).

    1 - sigmoid(beta (ratio - z)) where `desirable` (bool), 1 - sigmoid(beta (z - ratio)) elsewhere. z >= 0
    estimates the KL of the policy from the reference (`kto_baseline`) and carries no gradient.
    """
    require_same_shape(ratio=ratio, desirable=desirable)
    distance = torch.where(desirable, ratio.float() - z, z - ratio.float())
    return torch.sigmoid(-beta * distance)


def kto_baseline(mismatched: Tensor) -> Tensor:
    """z of `kto_loss`: max(0, mean log-ratio of completions that answer other prompts), a scalar without gradient."""
    return mismatched.detach().float().mean().clamp(min=0)


def orpo_odds_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """The odds-ratio term of ORPO, -log sigmoid(log odds(chosen) - log odds(rejected)).

    Hong et al. 2024, arXiv:2403.07691, eq. 7. Given mean log-probabilities per token, without a reference;
    odds(p) = p / (1 - p).
    """
    odds = chosen - rejected - (log1mexp(chosen) - log1mexp(rejected))
    return -logsigmoid(odds)


def simpo_loss(chosen: Tensor, rejected: Tensor, *, beta: float, gamma: float) -> Tensor:
    """SimPO, -log sigmoid(beta (chosen - rejected) - gamma) (Meng et al. 2024, arXiv:2405.14734, eq. 6).

    Given mean log-probabilities per token, without a reference. gamma is the target margin.
    """
    return -logsigmoid(beta * (chosen - rejected) - gamma)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, exact near 0 and far from it (Mächler 2012); x is kept below -1e-7."""
    x = x.float().clamp(max=-1e-7)
    near = x > -math.log(2.0)
    # Both branches are computed; the one not taken must not turn the gradient into NaN.
    close, far = torch.where(near, x, -1.0), torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(close)), torch.log1p(-torch.exp(far)))


def expected(loss: PairLoss, c: Tensor, r: Tensor, p_chosen: Tensor | None) -> Tensor:
    """The loss of each comparison under its soft label, p l(c, r) + (1 - p) l(r, c), (M,)."""
    require_same_shape(c=c, r=r, p_chosen=p_chosen)
    c, r = c.float(), r.float()
    if p_chosen is None:
        return loss(c, r)
    p = p_chosen.float()
    return p * loss(c, r) + (1 - p) * loss(r, c)


def weighted_mean(loss_M: Tensor, denominator: Tensor | float, weight: Tensor | None = None) -> Tensor:
    """sum w l / denominator; what has weight 0 does not count, whatever it is."""
    require_same_shape(loss_M=loss_M, weight=weight)
    if weight is None:
        return loss_M.sum() / denominator
    return masked_sum(kept(loss_M, weight != 0) * weight, weight != 0) / denominator
