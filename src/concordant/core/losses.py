"""The losses of policy optimisation on own samples, after Schulman et al. 2017 (PPO, arXiv:1707.06347).

Legend: B sequences, T tokens. Every loss and every metric is a sum over the counted tokens divided by
a `denominator` that the caller counts over the whole optimiser batch, so that those of its
micro-batches add up to those of the batch, however it is split.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from concordant.core.kl import MAX_LOG_RATIO, k2, k3
from concordant.core.masked import kept, masked_mean, require_same_shape

Metrics = dict[str, Tensor]
Ratio = Literal["token", "sequence", "sequence_mean"]
Average = Literal["token", "sequence", "limit"]


def clipped_policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    loss_mask_BT: Tensor,
    denominator: Tensor | float,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    ratio: Ratio = "token",
    weight_BT: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """Clipped surrogate, sum_t max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) / denominator.

    rho = exp(logprob - old_logprob), its exponent clamped to +-20 (arXiv:1707.06347, eq. 7), of each `token`, or
    the same for all tokens of a `sequence`: exp of the sum of its log-ratios (RLOO, arXiv:2402.14740), or of
    their mean (`sequence_mean`; GSPO, arXiv:2507.18071).
    `dual_clip` c > 1 bounds the loss of a token with A < 0 by -c A (Ye et al. 2019, arXiv:1912.09729).
    `weight_BT` weighs the tokens; see `token_weights`.

    Metrics: `ratio` (1 on the first update), `approx_kl` (k3 from the old policy to the new),
    `clip_fraction` (tokens whose gradient the clip has removed).
    """
    require_same_shape(
        logprobs_BT=logprobs_BT,
        old_logprobs_BT=old_logprobs_BT,
        advantages_BT=advantages_BT,
        loss_mask_BT=loss_mask_BT,
        weight_BT=weight_BT,
    )
    # Masked before exp as well as after the loss: going backward, 0 times a NaN outside the mask is NaN.
    token_ratio_BT = kept(logprobs_BT.float() - old_logprobs_BT.detach().float(), loss_mask_BT)
    log_ratio_BT = _spread_over_sequence(token_ratio_BT, loss_mask_BT, ratio)
    advantages_BT = kept(advantages_BT.detach(), loss_mask_BT)
    ratio_BT = log_ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    plain_BT = -advantages_BT * ratio_BT
    clipped_BT = -advantages_BT * ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    loss_BT = torch.maximum(plain_BT, clipped_BT)
    if dual_clip is not None:
        bounded_BT = torch.minimum(loss_BT, -dual_clip * advantages_BT)
        loss_BT = torch.where(advantages_BT < 0, bounded_BT, loss_BT)
    with torch.no_grad():
        metrics = {
            "ratio": masked_mean(ratio_BT, loss_mask_BT, denominator),
            "approx_kl": masked_mean(
                k3(-token_ratio_BT, torch.zeros_like(token_ratio_BT)), loss_mask_BT, denominator
            ),
            "clip_fraction": masked_mean(clipped_BT > plain_BT, loss_mask_BT, denominator),
        }
    return masked_mean(_weighted(loss_BT, weight_BT), loss_mask_BT, denominator), metrics


def _spread_over_sequence(log_ratio_BT: Tensor, loss_mask_BT: Tensor, ratio: Ratio) -> Tensor:
    """The log-ratio that each token is weighed with: its own, or one for the whole sequence."""
    if ratio == "token":
        return log_ratio_BT
    total_B1 = log_ratio_BT.sum(1, keepdim=True)
    if ratio == "sequence_mean":
        total_B1 = total_B1 / loss_mask_BT.sum(1, keepdim=True).clamp(min=1)
    return kept(total_B1.expand_as(log_ratio_BT), loss_mask_BT)


def clipped_value_loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    loss_mask_BT: Tensor,
    denominator: Tensor | float,
    *,
    clip: float | None,
    weight_BT: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """Clipped squared error, sum_t max((v - R)^2, (clip(v, v_old +- clip) - R)^2) / 2 / denominator.

    `clip=None` leaves v free; `weight_BT` weighs the tokens (`token_weights`). It is the value loss of the PPO
    reference code (arXiv:2005.12729).

    Metrics: `value_error` (squared distance of v from the return, unclipped), `value_clip_fraction`
    (tokens whose gradient the clip has removed).
    """
    require_same_shape(
        values_BT=values_BT,
        old_values_BT=old_values_BT,
        returns_BT=returns_BT,
        loss_mask_BT=loss_mask_BT,
        weight_BT=weight_BT,
    )
    values_BT = kept(values_BT, loss_mask_BT)
    old_values_BT = kept(old_values_BT.detach(), loss_mask_BT)
    returns_BT = kept(returns_BT.detach(), loss_mask_BT)
    error_BT = (values_BT - returns_BT).square()
    bounded_BT = values_BT
    if clip is not None:
        bounded_BT = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)
    clipped_error_BT = (bounded_BT - returns_BT).square()
    loss_BT = 0.5 * torch.maximum(error_BT, clipped_error_BT)
    with torch.no_grad():
        metrics = {
            "value_error": masked_mean(error_BT, loss_mask_BT, denominator),
            "value_clip_fraction": masked_mean(clipped_error_BT > error_BT, loss_mask_BT, denominator),
        }
    return masked_mean(_weighted(loss_BT, weight_BT), loss_mask_BT, denominator), metrics


def entropy_bonus(
    entropy_BT: Tensor,
    loss_mask_BT: Tensor,
    denominator: Tensor | float,
    weight_BT: Tensor | None = None,
) -> Tensor:
    """Mean entropy, sum_t H_t / denominator, in nats; subtract it from the loss, times its coefficient."""
    require_same_shape(entropy_BT=entropy_BT, loss_mask_BT=loss_mask_BT, weight_BT=weight_BT)
    return masked_mean(_weighted(entropy_BT, weight_BT), loss_mask_BT, denominator)


def kl_penalty(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    ref_logprobs_BT: Tensor,
    loss_mask_BT: Tensor,
    denominator: Tensor | float,
    *,
    estimator: Literal["k2", "k3"] = "k3",
    weight_BT: Tensor | None = None,
) -> Tensor:
    """KL(policy || reference) as a part of the loss, sum_t / denominator.

    `k3` is rho k3 with rho = exp(logprob - old_logprob): its expected gradient on tokens of the old policy is
    that of the divergence. `k2` is the same on tokens of the policy itself only (arXiv:2510.01555).
    """
    require_same_shape(
        logprobs_BT=logprobs_BT,
        old_logprobs_BT=old_logprobs_BT,
        ref_logprobs_BT=ref_logprobs_BT,
        loss_mask_BT=loss_mask_BT,
        weight_BT=weight_BT,
    )
    logprobs_BT = kept(logprobs_BT, loss_mask_BT)
    ref_logprobs_BT = kept(ref_logprobs_BT.detach(), loss_mask_BT)
    if estimator == "k2":
        kl_BT = k2(logprobs_BT, ref_logprobs_BT)
    else:
        log_ratio_BT = logprobs_BT - kept(old_logprobs_BT.detach(), loss_mask_BT)
        ratio_BT = log_ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        kl_BT = ratio_BT * k3(logprobs_BT, ref_logprobs_BT)
    return masked_mean(_weighted(kl_BT, weight_BT), loss_mask_BT, denominator)


def token_weights(
    loss_mask_BT: Tensor,
    tokens: Tensor | float,
    sequences: Tensor | float,
    average: Average,
    limit: int = 0,
) -> Tensor | None:
    """Weights that turn the mean over all tokens of an optimiser batch into another mean, (B, T).

    - `token`: every token counts the same (DAPO, arXiv:2503.14476, eq. 12); no weights;
    - `sequence`: the mean over sequences of their means over tokens (GRPO, arXiv:2402.03300, eq. 3);
    - `limit`: the mean over sequences of their sums, divided by the constant `limit` (Dr. GRPO, arXiv:2503.20783).

    `tokens` and `sequences` are counted over the optimiser batch; losses stay divided by `tokens`.
    """
    if average == "token":
        return None
    if average == "limit":
        if limit < 1:
            raise ValueError(f"the longest completion is at least 1 token, not {limit}")
        length_B1: Tensor | int = limit
    else:
        length_B1 = loss_mask_BT.sum(1, keepdim=True).clamp(min=1)
    return (tokens / (sequences * length_B1)) * torch.ones_like(loss_mask_BT, dtype=torch.float32)


def _weighted(x_BT: Tensor, weight_BT: Tensor | None) -> Tensor:
    return x_BT if weight_BT is None else x_BT * weight_BT
