"""Critics: a value for every completion token, predicted from what stands before it.

Legend: B rows, T columns, C completion columns, H hidden size.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from concordant.models.forward import Batch, bare, hidden_states, scalar


class TrunkCritic(nn.Module):
    """A critic with a trunk of its own, started from the reward model.

    Its head starts as the reward model's head composed with the score normalisation, so that at
    the first update V is the normalised score of the text so far (Stiennon et al. 2020, arXiv:2009.01325).
    """

    needs_policy_hidden = False

    def __init__(self, reward_model: nn.Module, *, score_mean: float = 0.0, score_std: float = 1.0) -> None:
        super().__init__()
        self.trunk: Any = copy.deepcopy(bare(reward_model).base_model).float()
        weight = bare(reward_model).score.weight.detach().float()
        self.head = nn.Linear(weight.shape[1], 1)
        with torch.no_grad():
            self.head.weight.copy_(weight / score_std)
            self.head.bias.fill_(-score_mean / score_std)
        self.requires_grad_(True)

    def forward(self, batch: Batch, policy_hidden_BCH: Tensor | None) -> Tensor:
        """Values of the completion tokens, (B, C) in fp32."""
        return scalar(self.head, hidden_states(self.trunk, batch)[:, batch.start - 1 : -1])


class SharedCritic(nn.Module):
    """A value head on the policy's trunk: no second model in memory, and V = 0 at the start."""

    needs_policy_hidden = True

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch, policy_hidden_BCH: Tensor | None) -> Tensor:
        """Values of the completion tokens, (B, C) in fp32."""
        assert policy_hidden_BCH is not None, "a shared critic reads the policy's hidden states"
        return scalar(self.head, policy_hidden_BCH)


Critic = TrunkCritic | SharedCritic
