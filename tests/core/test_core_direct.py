"""Losses of direct preference optimisation: golden numbers from TRL 1.16.0's code, and properties."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from concordant.core import direct
from concordant.core.direct import PairLoss, expected, robust, sigmoid_loss, weighted_mean

BETA = 0.1
CHOSEN, REJECTED = torch.tensor([-12.0, -9.0, -15.0]), torch.tensor([-13.0, -8.5, -14.0])
REF_CHOSEN, REF_REJECTED = torch.tensor([-12.5, -9.2, -14.0]), torch.tensor([-12.8, -8.9, -14.5])
LENGTH_CHOSEN, LENGTH_REJECTED = torch.tensor([6.0, 5.0, 8.0]), torch.tensor([7.0, 4.0, 7.0])
C, R = CHOSEN - REF_CHOSEN, REJECTED - REF_REJECTED
MEAN_CHOSEN, MEAN_REJECTED = CHOSEN / LENGTH_CHOSEN, REJECTED / LENGTH_REJECTED

LOSSES: dict[str, tuple[PairLoss, float]] = {
    "sigmoid": (partial(sigmoid_loss, beta=BETA), 0.710971),
    "hinge": (partial(direct.hinge_loss, beta=BETA), 1.033333),
    "ipo": (partial(direct.ipo_loss, beta=BETA), 29.26),
    "exo": (partial(direct.exo_pair_loss, beta=BETA, epsilon=0.1), 0.530245),
    "nca": (partial(direct.nca_pair_loss, beta=BETA), 1.395527),
    "bco": (partial(direct.bco_pair_loss, beta=BETA), 1.403686),
    "sppo": (partial(direct.sppo_hard_loss, beta=BETA), 53.913342),
    "apo_zero": (partial(direct.apo_zero_loss, beta=BETA), 1.008326),
    "apo_down": (partial(direct.apo_down_loss, beta=BETA), 1.005818),
    "discopop": (partial(direct.discopop_loss, beta=BETA), 0.832725),
    "robust": (robust(partial(sigmoid_loss, beta=BETA), 0.1), 0.715138),
}


def near(value: float) -> object:
    return pytest.approx(value, rel=2e-6, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_golden_numbers(name: str) -> None:
    """preference_golden_numbers: https://github.com/hiyouga/LLaMA-Factory/issues/6722"""
    loss, golden = LOSSES[name]
    assert loss(C, R).shape == (3,)
    assert float(loss(C, R).mean()) == near(golden)


def test_golden_numbers_per_token() -> None:
    """preference_golden_numbers: https://github.com/hiyouga/LLaMA-Factory/issues/6722"""
    mean_c, mean_r = C / LENGTH_CHOSEN, R / LENGTH_REJECTED
    assert float(direct.ipo_loss(mean_c, mean_r, beta=BETA).mean()) == near(25.499983)
    assert float(sigmoid_loss(mean_c, mean_r, beta=BETA).mean()) == near(0.695579)
    odds = direct.orpo_odds_loss(MEAN_CHOSEN, MEAN_REJECTED).mean()
    assert float(BETA * odds) == near(0.064157)
    for beta, gamma, golden in ((0.1, 0.5, 0.967760), (2.0, 1.0, 1.183351)):
        loss = direct.simpo_loss(MEAN_CHOSEN, MEAN_REJECTED, beta=beta, gamma=gamma)
        assert float(loss.mean()) == near(golden)


@pytest.mark.parametrize(
    ("replaced", "golden"),
    [
        (direct.forward_kl_ratio, 0.722590),
        (direct.jensen_shannon_ratio, 0.703491),
        (partial(direct.alpha_ratio, alpha=0.5), 0.715585),
    ],
)
def test_golden_numbers_of_other_divergences(replaced: direct.PairLoss, golden: float) -> None:
    assert float(sigmoid_loss(replaced(C), replaced(R), beta=BETA).mean()) == near(golden)  # type: ignore[call-arg]


def test_golden_numbers_of_quantiles() -> None:
    paired = direct.aot_loss(CHOSEN - REJECTED, REF_CHOSEN - REF_REJECTED, beta=BETA)
    assert float(paired.mean()) == near(0.710389)
    assert float(direct.aot_loss(C, R, beta=BETA).mean()) == near(0.710097)


def test_golden_number_of_conservative_dpo() -> None:
    loss = expected(LOSSES["sigmoid"][0], C, R, torch.full((3,), 0.9))
    assert float(loss.mean()) == near(0.707638)


def spread_out(totals: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Equal log-probabilities per token that add up to the totals, and NaN where there is no token."""
    mask = torch.arange(9)[None, :] < lengths[:, None]
    return torch.where(mask, (totals / lengths)[:, None], math.nan), mask


def test_golden_number_of_length_desensitised_dpo() -> None:
    shared = torch.minimum(LENGTH_CHOSEN, LENGTH_REJECTED)

    def total(totals: Tensor, lengths: Tensor, alpha: float = 0.5) -> Tensor:
        return direct.length_desensitised(*spread_out(totals, lengths), shared, alpha=alpha)

    c = total(CHOSEN, LENGTH_CHOSEN) - total(REF_CHOSEN, LENGTH_CHOSEN)
    r = total(REJECTED, LENGTH_REJECTED) - total(REF_REJECTED, LENGTH_REJECTED)
    assert float(sigmoid_loss(c, r, beta=BETA).mean()) == near(0.710420)
    torch.testing.assert_close(total(CHOSEN, LENGTH_CHOSEN, 1.0), CHOSEN)


def test_golden_numbers_of_kto() -> None:
    """preference_golden_numbers: https://github.com/hiyouga/LLaMA-Factory/issues/6722"""
    desirable = torch.tensor([True, False, True])
    ratio = torch.where(desirable, C, R)
    mismatched = torch.tensor([-20.0, -21.0, -19.0]) - torch.tensor([-20.5, -21.2, -19.1])
    z = direct.kto_baseline(mismatched)
    loss = direct.kto_loss(ratio, desirable, z, beta=BETA)
    assert float(loss.mean()) == near(0.509708)
    weight = torch.where(desirable, 1.5, 1.0)
    assert float(weighted_mean(loss, 3, weight)) == near(0.680673)
    assert float(direct.kto_baseline(-mismatched)) == 0
    zero = direct.kto_loss(ratio, desirable, direct.kto_baseline(-mismatched), beta=BETA)
    assert float(zero.mean()) == near(0.507493)


def test_the_kto_baseline_carries_no_gradient() -> None:
    ratio = torch.tensor([0.5, 0.3], requires_grad=True)
    assert not direct.kto_baseline(ratio).requires_grad


@pytest.mark.parametrize("name", ["sigmoid", "robust"])
def test_a_policy_equal_to_its_reference_has_loss_ln_2(name: str) -> None:
    zero = torch.zeros(3)
    torch.testing.assert_close(LOSSES[name][0](zero, zero), torch.full((3,), math.log(2)))


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo", "bco", "apo_zero", "robust"])
def test_the_gradient_raises_the_chosen_and_lowers_the_rejected(name: str) -> None:
    c, r = C.clone().requires_grad_(), R.clone().requires_grad_()
    LOSSES[name][0](c, r).sum().backward()  # type: ignore[no-untyped-call]
    assert c.grad is not None
    assert r.grad is not None
    assert (c.grad < 0).all()
    assert (r.grad > 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_soft_label_is_an_expectation(name: str) -> None:
    loss = LOSSES[name][0]
    torch.testing.assert_close(expected(loss, C, R, torch.ones(3)), loss(C, R))
    torch.testing.assert_close(expected(loss, C, R, torch.zeros(3)), loss(R, C))
    torch.testing.assert_close(
        expected(loss, C, R, torch.full((3,), 0.5)), expected(loss, R, C, torch.full((3,), 0.5))
    )


def test_robust_loss_is_unbiased_under_flips() -> None:
    """Its mean over labels flipped with probability epsilon is the loss of clean labels (arXiv:2403.00409)."""
    plain, epsilon = LOSSES["sigmoid"][0], 0.2
    mended = robust(plain, epsilon)
    seen = (1 - epsilon) * mended(C, R) + epsilon * mended(R, C)
    torch.testing.assert_close(seen, plain(C, R))
    with pytest.raises(ValueError, match=r"below 0\.5"):
        robust(plain, 0.5)


def test_losses_stay_finite_at_large_gaps() -> None:
    """pairwise_loss_stable_at_large_gaps: https://github.com/thinking-machines-lab/tinker-cookbook/issues/188"""
    for gap in (-1e4, 1e4):
        c = torch.tensor([gap], requires_grad=True)
        loss = sigmoid_loss(c, torch.zeros(1), beta=1.0)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(loss).all()
        assert c.grad is not None
        assert torch.isfinite(c.grad).all()


@given(st.floats(-50, -1e-6))
def test_log1mexp_against_double_precision(x: float) -> None:
    wanted = math.log(-math.expm1(x)) if x > -math.log(2) else math.log1p(-math.exp(x))
    assert float(direct.log1mexp(torch.tensor(x))) == pytest.approx(wanted, rel=1e-5, abs=1e-30)


def test_log1mexp_has_a_finite_gradient_on_both_sides() -> None:
    x = torch.tensor([-1e-9, -1e-3, -0.6931, -0.6932, -5.0, -200.0], requires_grad=True)
    direct.log1mexp(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_parts_of_a_batch_add_up_and_weight_zero_does_not_count() -> None:
    loss = torch.tensor([1.0, 2.0, math.nan])
    weight = torch.tensor([1.0, 0.5, 0.0])
    whole = weighted_mean(loss, 1.5, weight)
    assert float(whole) == pytest.approx(2 / 1.5)
    parts = [weighted_mean(loss[i : i + 1], 1.5, weight[i : i + 1]) for i in range(3)]
    assert float(sum(parts)) == pytest.approx(float(whole))
    with pytest.raises(ValueError, match="same shape"):
        weighted_mean(loss, 1.0, torch.ones(2))


def test_without_a_soft_label_the_first_is_the_better_one() -> None:
    loss = LOSSES["sigmoid"][0]
    torch.testing.assert_close(expected(loss, C, R, None), loss(C, R))
    assert not torch.allclose(expected(loss, C, R, None), loss(R, C))


def test_a_plain_mean_is_divided_by_its_denominator() -> None:
    assert float(weighted_mean(torch.tensor([1.0, 3.0]), 4.0)) == 1.0


@pytest.mark.parametrize(
    "replaced", [direct.forward_kl_ratio, direct.jensen_shannon_ratio, direct.alpha_ratio]
)
def test_divergences_agree_where_there_is_no_drift(replaced: direct.PairLoss) -> None:
    """At a ratio of 0 each is 0 with slope 1, like the log-ratio whose place it takes."""
    ratio = torch.zeros(1, requires_grad=True)
    value = replaced(ratio)  # type: ignore[call-arg]
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == pytest.approx(0, abs=1e-7)
    assert ratio.grad is not None
    wanted = 0.5 if replaced is direct.jensen_shannon_ratio else 1.0
    assert float(ratio.grad) == pytest.approx(wanted)


def test_defaults_of_the_papers() -> None:
    torch.testing.assert_close(
        direct.exo_pair_loss(C, R, beta=BETA), direct.exo_pair_loss(C, R, beta=BETA, epsilon=1e-3)
    )
    torch.testing.assert_close(direct.alpha_ratio(C), direct.alpha_ratio(C, alpha=0.5))
    torch.testing.assert_close(
        direct.discopop_loss(C, R, beta=BETA), direct.discopop_loss(C, R, beta=BETA, temperature=0.05)
    )


def test_no_flips_need_no_correction() -> None:
    plain = LOSSES["sigmoid"][0]
    torch.testing.assert_close(robust(plain, 0.0)(C, R), plain(C, R))


def test_log1mexp_of_nothing_less_than_certainty() -> None:
    """Log-probabilities of 0, as of a token that was certain, are kept below 0: no infinity comes out."""
    x = torch.tensor([0.0, 1e-3], requires_grad=True)
    value = direct.log1mexp(x)
    assert torch.isfinite(value).all()
    assert float(value[0].detach()) == pytest.approx(math.log(1e-7), rel=1e-2)


@pytest.mark.parametrize(
    "replaced", [direct.forward_kl_ratio, direct.jensen_shannon_ratio, direct.alpha_ratio]
)
@pytest.mark.parametrize("gap", [-500.0, 500.0])
def test_far_from_the_reference_losses_and_gradients_stay_finite(
    replaced: direct.PairLoss, gap: float
) -> None:
    for loss in (partial(sigmoid_loss, beta=BETA), partial(direct.discopop_loss, beta=1.0)):
        sides = [torch.tensor([value], requires_grad=True) for value in (gap, -gap)]
        c, r = (replaced(side) for side in sides)  # type: ignore[call-arg]
        for p in (None, torch.ones(1), torch.tensor([0.5])):
            value = expected(loss, c, r, p).sum()
            found = torch.autograd.grad(value, sides, retain_graph=True)
            assert torch.isfinite(value)
            assert all(torch.isfinite(gradient).all() for gradient in found)
