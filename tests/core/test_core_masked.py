"""Masked sums, means, variances and whitening."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.core.masked import kept, masked_mean, masked_sum, masked_var, require_same_shape, whiten

NAN = math.nan
X = torch.tensor([[1.0, 2.0, NAN], [4.0, NAN, 9.0]])
MASK = torch.tensor([[True, True, False], [True, False, True]])


def test_masked_tokens_are_not_in_sum_mean_or_variance() -> None:
    """What stands outside the mask, NaN too, is neither added nor counted.

    nan_outside_mask_does_not_leak: https://github.com/verl-project/verl/issues/2377,
    https://github.com/NovaSky-AI/SkyRL/issues/1635
    masked_tokens_not_in_mean: https://github.com/NovaSky-AI/SkyRL/issues/462,
    https://github.com/THUDM/slime/issues/365
    """
    counted = torch.tensor([1.0, 2.0, 4.0, 9.0])
    assert masked_sum(X, MASK).item() == 16.0
    assert masked_sum(X, MASK, dim=1).tolist() == [3.0, 13.0]
    assert masked_mean(X, MASK).item() == 4.0
    assert masked_mean(X, MASK, 8).item() == 2.0
    assert masked_var(X, MASK).item() == pytest.approx(counted.var().item())


def test_nothing_counted_is_zero_not_nan() -> None:
    """fully_masked_sequence_is_zero_not_nan: https://github.com/verl-project/verl/issues/782,
    https://github.com/allenai/open-instruct/issues/1685
    """
    none = torch.zeros_like(MASK)
    for result in (masked_sum(X, none), masked_mean(X, none), masked_var(X, none)):
        assert result.item() == 0.0
    assert torch.equal(whiten(X, none), torch.zeros_like(X))


def test_one_counted_element_whitens_to_zero() -> None:
    only = torch.tensor([[False, True, False], [False, False, False]])
    assert masked_var(X, only).item() == 0.0
    assert torch.equal(whiten(X, only), torch.zeros_like(X))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=20), st.integers(0, 6))
def test_whitening_does_not_depend_on_padding(numbers: list[float], padding: int) -> None:
    """Mean 0, Bessel-corrected variance 1, zeros outside, whatever stands in the padding.

    whitening_uses_all_ranks_and_mask: https://github.com/THUDM/slime/issues/2235,
    https://github.com/THUDM/slime/issues/393
    """
    x = torch.tensor([numbers + [1e6] * padding])
    mask = torch.tensor([[True] * len(numbers) + [False] * padding])
    bare = torch.tensor(numbers)
    expected = (bare - bare.mean()) * torch.rsqrt(bare.var() + 1e-8)
    whitened = whiten(x, mask)
    torch.testing.assert_close(whitened[mask], expected, atol=2e-3, rtol=1e-3)
    assert not whitened[~mask].any()


def test_whitening_can_keep_the_mean() -> None:
    assert masked_mean(whiten(X, MASK, shift_mean=False), MASK).item() == pytest.approx(4.0)
    assert masked_var(whiten(X, MASK, shift_mean=False), MASK).item() == pytest.approx(1.0)


def test_kept_gives_no_gradient_outside_the_mask() -> None:
    x = X.clone().requires_grad_()
    kept(x, MASK).square().sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[2.0, 4.0, 0.0], [8.0, 0.0, 18.0]]


def test_half_precision_is_summed_in_fp32() -> None:
    ones = torch.ones(1, 4096, dtype=torch.bfloat16)
    total = masked_sum(ones, torch.ones_like(ones, dtype=torch.bool))
    assert total.dtype == torch.float32
    assert total.item() == 4096.0


def test_shapes_that_would_broadcast_are_refused() -> None:
    require_same_shape(a=torch.zeros(2, 3), b=torch.zeros(2, 3), c=None)
    with pytest.raises(ValueError, match=r"a \(2, 1\), b \(2,\)"):
        require_same_shape(a=torch.zeros(2, 1), b=torch.zeros(2))
