"""From one score per completion to an advantage per token, or per completion where there is no critic.

Legend: B sequences, T tokens. Sequences with one number in `group_B` answer the same prompt. Nothing here
carries a gradient.
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


@torch.no_grad()
def returns_to_go(rewards_BT: Tensor, loss_mask_BT: Tensor, gamma: float) -> Tensor:
    """Discounted sum of the rewards from each counted token on, 0 outside the mask, (B, T).

    The advantage of REINFORCE++ (Hu 2025, arXiv:2501.03262), before it is whitened over the batch. It is
    `gae` with lam = 1 and a critic that says 0.
    """
    returns_BT, _ = gae(rewards_BT, torch.zeros_like(rewards_BT), loss_mask_BT, gamma, 1.0)
    return returns_BT


@torch.no_grad()
def leave_one_out(reward_B: Tensor, group_B: Tensor, known_B: Tensor | None = None) -> Tensor:
    """RLOO: the reward less the mean of the *other* rewards of its group, (B,).

    A_i = R_i - mean_{j != i} R_j = n / (n - 1) (R_i - mean) (Ahmadian et al. 2024, arXiv:2402.14740). A group of
    one has nothing to compare with: its advantage is 0. Completions that are not `known` (bool) have no
    reward; they are left out of all means and get 0.
    """
    deviation_B, size_B, _, known_B = _by_group(reward_B, group_B, known_B)
    return kept(deviation_B * size_B / (size_B - 1).clamp(min=1), known_B)


@torch.no_grad()
def group_centred(reward_B: Tensor, group_B: Tensor, known_B: Tensor | None = None) -> Tensor:
    """Dr. GRPO: the reward less the mean of its group, R - mean, (B,) (Liu et al. 2025, arXiv:2503.20783).

    `known_B` as in `leave_one_out`.
    """
    deviation_B, _, _, known_B = _by_group(reward_B, group_B, known_B)
    return kept(deviation_B, known_B)


@torch.no_grad()
def group_normalised(
    reward_B: Tensor, group_B: Tensor, known_B: Tensor | None = None, *, eps: float = 1e-4
) -> Tensor:
    """GRPO: (R - mean) / (std + eps) within each group, std with n - 1, (B,) (Shao et al. 2024, arXiv:2402.03300).

    A group without variance, or of one, gets 0. `known_B` as in `leave_one_out`.
    """
    deviation_B, _, std_B, known_B = _by_group(reward_B, group_B, known_B)
    return kept(deviation_B / (std_B + eps), known_B)


@torch.no_grad()
def overlong_penalty(length_B: Tensor, limit: int, buffer: int) -> Tensor:
    """DAPO's soft punishment of length, (B,): 0 up to limit - buffer, falling to -1 at the limit.

    (limit - buffer - length) / buffer in between (Yu et al. 2025, arXiv:2503.14476, eq. 13).
    """
    if not 0 < buffer <= limit:
        raise ValueError(f"the buffer is at least 1 and at most the limit of {limit}, not {buffer}")
    return ((limit - buffer - length_B.float()) / buffer).clamp(-1.0, 0.0)


def _by_group(
    reward_B: Tensor, group_B: Tensor, known_B: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Deviation from the group's mean, known members and standard deviation of the group, and who is known."""
    require_same_shape(reward_B=reward_B, group_B=group_B, known_B=known_B)
    if known_B is None:
        known_B = torch.ones_like(group_B, dtype=torch.bool)
    _, group_B = torch.unique(group_B, return_inverse=True)
    groups = int(group_B.max()) + 1

    def total(x_B: Tensor) -> Tensor:
        """Sum over the known members of a group, for each member."""
        return x_B.new_zeros(groups).index_add_(0, group_B, kept(x_B, known_B))[group_B]

    reward_B = kept(reward_B, known_B)
    size_B = total(torch.ones_like(reward_B))
    deviation_B = kept(reward_B - total(reward_B) / size_B.clamp(min=1), known_B)
    std_B = (total(deviation_B.square()) / (size_B - 1).clamp(min=1)).sqrt()
    return deviation_B, size_B, std_B, known_B
