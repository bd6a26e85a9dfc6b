"""Rewards per token and generalised advantage estimation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from concordant.core.advantages import (
    gae,
    group_centred,
    group_normalised,
    leave_one_out,
    overlong_penalty,
    returns_to_go,
    token_rewards,
)
from concordant.core.kl import k1
from concordant.core.masked import whiten

NAN = math.nan
LOGPROBS = torch.tensor([[-1.0, -2, -0.5, -0.3, NAN], [-1.5, -0.7, -2.2, -1, -0.4]])
REF_LOGPROBS = torch.tensor([[-1.2, -1.5, -0.6, -0.9, NAN], [-1.4, -1, -2, -1.1, -0.8]])
VALUES = torch.tensor([[0.5, 0.4, 0.6, 0.8, 0.3], [0.2, 0.1, 0, -0.2, -0.5]])
SCORES = torch.tensor([2.0, -2.0])
MASK = torch.tensor([[True, True, True, True, False], [True, True, True, True, True]])
TOOL_MASK = torch.tensor([[True, True, True, True, False], [True, True, False, True, True]])


def close(actual: torch.Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=0)


def test_score_lands_on_the_last_completion_token() -> None:
    """On the end-of-sequence token, not on the padding after it; NaN padding does not leak.

    score_on_last_completion_token: https://github.com/huggingface/trl/issues/3750
    """
    rewards = token_rewards(SCORES, k1(LOGPROBS, REF_LOGPROBS), MASK, 0.1)
    close(rewards, [[-0.02, 0.05, -0.01, 1.94, 0], [0.01, -0.03, 0.02, -0.01, -2.04]])


def test_score_is_added_once_where_tool_text_interrupts_or_ends_the_completion() -> None:
    kl = torch.zeros(3, 4)
    mask = torch.tensor([[True, False, True, False], [False] * 4, [False, True, False, False]])
    close(token_rewards(torch.tensor([1.0, NAN, 3.0]), kl, mask, 0.1), [[0, 0, 1, 0], [0] * 4, [0, 3, 0, 0]])


def test_a_score_of_zero_is_not_a_missing_score() -> None:
    """score_zero_is_not_missing: https://github.com/OpenRLHF/OpenRLHF/issues/1219"""
    mask = torch.ones(1, 2, dtype=torch.bool)
    close(token_rewards(torch.tensor([0.0]), torch.tensor([[1.0, 2.0]]), mask, 0.5), [[-0.5, -1.0]])


def test_golden_advantages_and_whitening() -> None:
    rewards = token_rewards(SCORES, k1(LOGPROBS, REF_LOGPROBS), MASK, 0.1)
    advantages, returns = gae(rewards, VALUES, MASK, gamma=1.0, lam=0.95)
    close(
        advantages, [[1.266382, 1.459350, 1.273, 1.14, 0], [-1.896076, -1.901132, -1.864350, -1.773, -1.54]]
    )
    torch.testing.assert_close(returns, torch.where(MASK, advantages + VALUES, 0.0))
    whitened = whiten(advantages, MASK)
    close(whitened[:1], [[1.039280, 1.157766, 1.043343, 0.961679, 0]])


def test_gae_skips_tool_tokens() -> None:
    """The carry form steps over tokens the policy did not choose; zeroing them gives -1.914126 first.

    gae_skips_tool_tokens: https://github.com/verl-project/verl/issues/2337
    """
    rewards = token_rewards(SCORES, k1(LOGPROBS, REF_LOGPROBS), TOOL_MASK, 0.1)
    advantages, returns = gae(rewards, VALUES, TOOL_MASK, gamma=1.0, lam=0.95)
    close(advantages[1:], [[-2.003632, -2.014350, 0, -1.773, -1.54]])
    assert returns[1, 2].item() == 0.0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.floats(0.5, 1.0, width=32),
    st.floats(0.0, 1.0, width=32),
    st.integers(0, 2**16),
)
def test_gaps_change_nothing(counted: list[bool], gamma: float, lam: float, seed: int) -> None:
    """A sequence with gaps has the advantages of the same sequence without them, NaN in the gaps or not.

    gae_skips_tool_tokens: https://github.com/verl-project/verl/issues/2337
    """
    mask = torch.tensor([counted])
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, 1, len(counted), generator=generator)
    holes = [torch.where(mask, x, NAN) for x in (rewards, values)]
    with_gaps = gae(holes[0], holes[1], mask, gamma, lam)
    dense = torch.ones(1, sum(counted), dtype=torch.bool)
    without = gae(rewards[mask][None], values[mask][None], dense, gamma, lam)
    for gapped, plain in zip(with_gaps, without, strict=True):
        torch.testing.assert_close(gapped[mask], plain[0])
        assert not gapped[~mask].any()


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_lam_one_is_discounted_return_minus_value(gamma: float) -> None:
    rewards, values = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    advantages, returns = gae(rewards, values, torch.ones(3, 6, dtype=torch.bool), gamma, 1.0)
    expected = torch.stack([sum(gamma**k * rewards[:, t + k] for k in range(6 - t)) for t in range(6)], 1)
    torch.testing.assert_close(returns, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(advantages, expected - values, atol=1e-6, rtol=1e-5)


def test_lam_zero_is_the_one_step_error() -> None:
    rewards, values = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(1))
    advantages, _ = gae(rewards, values, torch.ones(2, 4, dtype=torch.bool), 0.9, 0.0)
    next_values = torch.cat([values[:, 1:], torch.zeros(2, 1)], 1)
    torch.testing.assert_close(advantages, rewards + 0.9 * next_values - values)


def test_a_fully_masked_sequence_is_zero_and_leaves_others_alone() -> None:
    """fully_masked_sequence_is_zero_not_nan: https://github.com/verl-project/verl/issues/782,
    https://github.com/allenai/open-instruct/issues/1685
    """
    rewards = torch.tensor([[1.0, 2.0], [NAN, NAN]])
    mask = torch.tensor([[True, True], [False, False]])
    advantages, returns = gae(rewards, torch.zeros(2, 2), mask, 1.0, 1.0)
    close(advantages, [[3, 2], [0, 0]])
    close(returns, [[3, 2], [0, 0]])


def test_no_gradient_and_fp32() -> None:
    values = VALUES.bfloat16().requires_grad_()
    advantages, returns = gae(torch.zeros(2, 5), values, MASK, 1.0, 0.95)
    assert not advantages.requires_grad
    assert not returns.requires_grad
    assert advantages.dtype == returns.dtype == torch.float32


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="same shape"):
        gae(torch.zeros(2, 4), torch.zeros(2, 5), torch.ones(2, 4, dtype=torch.bool), 1.0, 0.95)
    with pytest.raises(ValueError, match="same shape"):
        token_rewards(torch.zeros(2, 1), torch.zeros(2, 4), torch.ones(2, 4, dtype=torch.bool), 0.1)


REWARDS = torch.tensor([1.0, 0.0, 0.0, 0.5])
ONE_GROUP = torch.zeros(4, dtype=torch.long)


def test_group_advantages_golden_numbers() -> None:
    expected = torch.tensor([0.833333, -0.5, -0.5, 0.166667])
    torch.testing.assert_close(leave_one_out(REWARDS, ONE_GROUP), expected, atol=1e-6, rtol=0)
    expected = torch.tensor([1.305310, -0.783186, -0.783186, 0.261062])
    torch.testing.assert_close(group_normalised(REWARDS, ONE_GROUP), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(group_centred(REWARDS, ONE_GROUP), REWARDS - 0.375)


@pytest.mark.parametrize("advantage", [leave_one_out, group_centred, group_normalised])
def test_groups_are_by_number_and_do_not_touch(advantage: Callable[..., Tensor]) -> None:
    """groups_by_id_not_text: https://github.com/NVIDIA-NeMo/RL/issues/2176"""
    rewards = torch.cat([REWARDS, REWARDS * 3 + 7])
    mixed = torch.tensor([0, 5, 1, 4, 2, 7, 6, 3])
    groups = torch.tensor([12] * 4 + [3] * 4)
    whole = advantage(rewards, groups)
    torch.testing.assert_close(whole[:4], advantage(REWARDS, ONE_GROUP))
    torch.testing.assert_close(whole[4:], advantage(REWARDS * 3 + 7, ONE_GROUP))
    torch.testing.assert_close(advantage(rewards[mixed], groups[mixed]), whole[mixed])


@pytest.mark.parametrize("advantage", [leave_one_out, group_centred, group_normalised])
def test_zero_variance_and_single_member_groups(advantage: Callable[..., Tensor]) -> None:
    """zero_variance_and_single_member_groups: https://github.com/NVIDIA-NeMo/RL/issues/1519,
    https://github.com/thinking-machines-lab/tinker-cookbook/issues/507
    """
    same = advantage(torch.full((3,), 0.7), torch.zeros(3, dtype=torch.long))
    assert same.tolist() == [0.0] * 3
    assert advantage(torch.tensor([5.0]), torch.tensor([0])).tolist() == [0.0]


@pytest.mark.parametrize("advantage", [leave_one_out, group_centred, group_normalised])
def test_a_missing_score_is_left_out_of_its_group(advantage: Callable[..., Tensor]) -> None:
    rewards = torch.cat([REWARDS, torch.tensor([math.nan])])
    known = torch.tensor([True] * 4 + [False])
    found = advantage(rewards, torch.zeros(5, dtype=torch.long), known)
    torch.testing.assert_close(found[:4], advantage(REWARDS, ONE_GROUP))
    assert float(found[4]) == 0


def test_returns_to_go_are_gae_without_a_critic() -> None:
    rewards, mask = torch.tensor([[1.0, 2.0, 9.0, 4.0]]), torch.tensor([[True, True, False, True]])
    found = returns_to_go(rewards, mask, 0.5)
    torch.testing.assert_close(found, torch.tensor([[1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 0.0, 4.0]]))


def test_the_overlong_penalty_of_dapo() -> None:
    lengths = torch.tensor([1, 80, 90, 100, 120])
    found = overlong_penalty(lengths, limit=100, buffer=20)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, -0.5, -1.0, -1.0]))
    for buffer in (0, 101):
        with pytest.raises(ValueError, match="buffer"):
            overlong_penalty(lengths, limit=100, buffer=buffer)
