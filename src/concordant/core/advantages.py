"""From one score per completion to an advantage per token.

Legend: B sequences, T tokens. Nothing here carries a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from concordant.core.masked import kept, require_same_shape


@torch.no_grad()
def token_rewards(score_B: Tensor, kl_BT: Tensor, loss_mask_BT: Tensor, kl_coef: float) -> Tensor:
    """Rewards r_t = -kl_coef * kl_t, plus the score on the last counted token, 0 outside the mask, (B, T).

    The last counted token is the end-of-sequence token where the completion has one, not the padding
    after it. A sequence without a counted token gets no score.
    """
    require_same_shape(kl_BT=kl_BT, loss_mask_BT=loss_mask_BT)
    require_same_shape(score_B=score_B, sequences_of_kl_BT=kl_BT[:, 0])
    still_to_come_BT = loss_mask_BT.flip(1).cumsum(1).flip(1)
    last_BT = loss_mask_BT & (still_to_come_BT == 1)
    return kept(-kl_coef * kl_BT.float(), loss_mask_BT) + kept(score_B[:, None], last_BT)


@torch.no_grad()
def gae(
    rewards_BT: Tensor, values_BT: Tensor, loss_mask_BT: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation: advantages and returns, both (B, T), 0 outside the mask.

    delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lam A_{t+1},  return_t = A_t + V_t
    (Schulman et al. 2015, arXiv:1506.02438, eq. 16), with V = 0 after the last counted token.
    t+1 is the next *counted* token: tokens the policy did not choose, such as the output of a tool,
    are stepped over, neither discounted nor taken for a state of value zero.
    """
    require_same_shape(rewards_BT=rewards_BT, values_BT=values_BT, loss_mask_BT=loss_mask_BT)
    rewards_BT, values_BT = kept(rewards_BT, loss_mask_BT), kept(values_BT, loss_mask_BT)
    advantages_BT = torch.zeros_like(rewards_BT)
    next_value_B = next_advantage_B = rewards_BT.new_zeros(len(rewards_BT))
    for t in reversed(range(rewards_BT.shape[1])):
        counts_B, value_B = loss_mask_BT[:, t], values_BT[:, t]
        delta_B = rewards_BT[:, t] + gamma * next_value_B - value_B
        advantages_BT[:, t] = delta_B + gamma * lam * next_advantage_B
        next_value_B = torch.where(counts_B, value_B, next_value_B)
        next_advantage_B = torch.where(counts_B, advantages_BT[:, t], next_advantage_B)
    advantages_BT = kept(advantages_BT, loss_mask_BT)
    return advantages_BT, advantages_BT + values_BT
