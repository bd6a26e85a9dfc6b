"""A tensor of another shape is refused, whichever it is: broadcasting would make a plausible loss of the mistake."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from concordant.core import advantages, direct, logprobs, losses, preferences

B, T = 3, 4
X_BT, MASK_BT = torch.zeros(B, T), torch.ones(B, T, dtype=torch.bool)
X_B, BOOL_B = torch.zeros(B), torch.tensor([True, False, True])
GROUP_B = torch.zeros(B, dtype=torch.long)
REFUSES: dict[str, tuple[Callable[..., Any], dict[str, torch.Tensor]]] = {
    "clipped_policy_loss": (
        partial(losses.clipped_policy_loss, denominator=1),
        {
            "logprobs_BT": X_BT,
            "old_logprobs_BT": X_BT,
            "advantages_BT": X_BT,
            "loss_mask_BT": MASK_BT,
            "weight_BT": X_BT,
        },
    ),
    "clipped_value_loss": (
        partial(losses.clipped_value_loss, denominator=1, clip=0.2),
        {
            "values_BT": X_BT,
            "old_values_BT": X_BT,
            "returns_BT": X_BT,
            "loss_mask_BT": MASK_BT,
            "weight_BT": X_BT,
        },
    ),
    "entropy_bonus": (
        partial(losses.entropy_bonus, denominator=1),
        {"entropy_BT": X_BT, "loss_mask_BT": MASK_BT, "weight_BT": X_BT},
    ),
    "kl_penalty": (
        partial(losses.kl_penalty, denominator=1),
        {
            "logprobs_BT": X_BT,
            "old_logprobs_BT": X_BT,
            "ref_logprobs_BT": X_BT,
            "loss_mask_BT": MASK_BT,
            "weight_BT": X_BT,
        },
    ),
    "sequence_logprob": (logprobs.sequence_logprob, {"logprobs_BT": X_BT, "loss_mask_BT": MASK_BT}),
    "cross_entropy": (
        partial(logprobs.cross_entropy, denominator=1),
        {"logprobs_BT": X_BT, "loss_mask_BT": MASK_BT},
    ),
    "gae": (
        partial(advantages.gae, gamma=1.0, lam=0.95),
        {"rewards_BT": X_BT, "values_BT": X_BT, "loss_mask_BT": MASK_BT},
    ),
    "token_rewards": (
        partial(advantages.token_rewards, kl_coef=0.1),
        {"score_B": X_B, "kl_BT": X_BT, "loss_mask_BT": MASK_BT},
    ),
    "leave_one_out": (
        advantages.leave_one_out,
        {"reward_B": X_B, "group_B": GROUP_B, "known_B": BOOL_B},
    ),
    "bradley_terry_loss, soft labels": (
        partial(preferences.bradley_terry_loss, denominator=1),
        {"chosen_M": X_B, "rejected_M": X_B, "p_chosen": X_B, "weight": X_B},
    ),
    "bradley_terry_loss, margins": (
        partial(preferences.bradley_terry_loss, denominator=1),
        {"chosen_M": X_B, "rejected_M": X_B, "margin": X_B, "weight": X_B},
    ),
    "davidson_loss": (
        partial(preferences.davidson_loss, nu=0.5, denominator=1),
        {"chosen_M": X_B, "rejected_M": X_B, "tie_M": BOOL_B, "weight": X_B},
    ),
    "plackett_luce_loss": (
        partial(preferences.plackett_luce_loss, denominator=1),
        {"scores_BK": X_BT, "mask_BK": MASK_BT},
    ),
    "kto_loss": (
        partial(direct.kto_loss, z=torch.zeros(()), beta=0.1),
        {"ratio": X_B, "desirable": BOOL_B},
    ),
    "expected": (
        partial(direct.expected, partial(direct.sigmoid_loss, beta=0.1)),
        {"c": X_B, "r": X_B, "p_chosen": X_B},
    ),
    "weighted_mean": (partial(direct.weighted_mean, denominator=1), {"loss_M": X_B, "weight": X_B}),
}
CASES = [(name, argument) for name, (_, tensors) in REFUSES.items() for argument in tensors]


@pytest.mark.parametrize("name", REFUSES)
def test_tensors_of_one_shape_are_taken(name: str) -> None:
    function, tensors = REFUSES[name]
    function(**tensors)


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_a_tensor_of_another_shape_is_refused(name: str, argument: str) -> None:
    function, tensors = REFUSES[name]
    with pytest.raises(ValueError, match="same shape"):
        function(**(tensors | {argument: tensors[argument][:1]}))  # one row, which would be broadcast
