"""The losses of proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

Legend: B sequences, T tokens. Every loss and every metric is a sum over the counted tokens divided by
a `denominator` that the caller counts over the whole optimiser batch, so that those of its
micro-batches add up to those of the batch, however it is split.
"""

from __future__ import annotations

import torch
from torch import Tensor

from concordant.core.kl import MAX_LOG_RATIO, k3
from concordant.core.masked import kept, masked_mean, require_same_shape

Metrics = dict[str, Tensor]


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
) -> tuple[Tensor, Metrics]:
    """Clipped surrogate, sum_t max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)) / denominator.

    rho = exp(logprob - old_logprob), its exponent clamped to +-20 (arXiv:1707.06347, eq. 7).
    `dual_clip` c > 1 bounds the loss of a token with A < 0 by -c A (Ye et al. 2019, arXiv:1912.09729).

    Metrics: `ratio` (1 on the first update), `approx_kl` (k3 from the old policy to the new),
    `clip_fraction` (tokens whose gradient the clip has removed).
    """
    require_same_shape(
        logprobs_BT=logprobs_BT,
        old_logprobs_BT=old_logprobs_BT,
        advantages_BT=advantages_BT,
        loss_mask_BT=loss_mask_BT,
    )
    # Masked before exp as well as after the loss: going backward, 0 times a NaN outside the mask is NaN.
    log_ratio_BT = kept(logprobs_BT.float() - old_logprobs_BT.detach().float(), loss_mask_BT)
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
                k3(-log_ratio_BT, torch.zeros_like(log_ratio_BT)), loss_mask_BT, denominator
            ),
            "clip_fraction": masked_mean(clipped_BT > plain_BT, loss_mask_BT, denominator),
        }
    return masked_mean(loss_BT, loss_mask_BT, denominator), metrics


def clipped_value_loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    loss_mask_BT: Tensor,
    denominator: Tensor | float,
    *,
    clip: float | None,
) -> tuple[Tensor, Metrics]:
    """Clipped squared error, sum_t max((v - R)^2, (clip(v, v_old +- clip) - R)^2) / 2 / denominator.

    `clip=None` leaves v free. It is the value loss of the PPO reference code (arXiv:2005.12729).

    Metrics: `value_error` (squared distance of v from the return, unclipped), `value_clip_fraction`
    (tokens whose gradient the clip has removed).
    """
    require_same_shape(
        values_BT=values_BT, old_values_BT=old_values_BT, returns_BT=returns_BT, loss_mask_BT=loss_mask_BT
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
    return masked_mean(loss_BT, loss_mask_BT, denominator), metrics


def entropy_bonus(entropy_BT: Tensor, loss_mask_BT: Tensor, denominator: Tensor | float) -> Tensor:
    """Mean entropy, sum_t H_t / denominator, in nats; subtract it from the loss, times its coefficient."""
    require_same_shape(entropy_BT=entropy_BT, loss_mask_BT=loss_mask_BT)
    return masked_mean(entropy_BT, loss_mask_BT, denominator)
