"""KL estimators against the exact divergence, and the controllers of its coefficient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from concordant.core.kl import AdaptiveKL, FixedKL, KLController, exact_kl, k1, k2, k3

POLICY = torch.tensor([0.3, -1.2, 2.0, 0.0, 0.7])
REFERENCE = torch.tensor([1.0, -0.5, 0.4, -0.3, 0.9])
LOGPROB = st.floats(-50, 0, width=32)


def gradient(loss_of_logits: object, logits: Tensor = POLICY) -> Tensor:
    given = logits.clone().requires_grad_()
    (result,) = torch.autograd.grad(loss_of_logits(given), given)  # type: ignore[operator]
    return result


@given(st.lists(st.tuples(LOGPROB, LOGPROB), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_k3_is_never_negative_and_finite(pairs: list[tuple[float, float]]) -> None:
    logprobs, ref_logprobs = torch.tensor(pairs).unbind(-1)
    estimate = k3(logprobs, ref_logprobs)
    assert (estimate >= 0).all()
    assert estimate.isfinite().all()


@pytest.mark.parametrize("shift", [0.0, 1e-7, 1e-5, 1e-3])
def test_k3_is_not_negative_near_equality(shift: float) -> None:
    logprobs = -torch.logspace(-6, 1, 1000)
    assert (k3(logprobs, logprobs - shift) >= 0).all()
    assert (k3(logprobs - shift, logprobs) >= 0).all()


def test_estimators_match_the_exact_divergence() -> None:
    """E[k1] = E[k3] = KL, as sums over a whole vocabulary and not by sampling; E[k2] differs.

    kl_estimators_match_exact: https://github.com/THUDM/slime/issues/483
    """
    logprobs, ref_logprobs = POLICY.log_softmax(-1), REFERENCE.log_softmax(-1)
    expected = exact_kl(POLICY, REFERENCE).item()
    assert expected == pytest.approx(
        torch.nn.functional.kl_div(ref_logprobs, logprobs, log_target=True, reduction="sum").item()
    )
    for estimator in (k1, k3):
        mean = (logprobs.exp() * estimator(logprobs, ref_logprobs)).sum().item()
        assert mean == pytest.approx(expected, abs=1e-6)
    biased = (logprobs.exp() * k2(logprobs, ref_logprobs)).sum().item()
    assert abs(biased - expected) > 1e-3


def test_kl_sign_and_values() -> None:
    """Positive where the policy is the surer one; k3 of q = +-1 by hand.

    kl_sign_and_mask: https://github.com/verl-project/verl/issues/179,
    https://github.com/verl-project/verl/issues/2259
    """
    logprobs, ref_logprobs = torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.0])
    assert k1(logprobs, ref_logprobs).tolist() == [1.0, -1.0]
    assert k2(logprobs, ref_logprobs).tolist() == [0.5, 0.5]
    assert k3(logprobs, ref_logprobs).tolist() == pytest.approx([math.exp(-1), math.e - 2])


def test_golden_estimators_from_old_to_new() -> None:
    old = torch.tensor([-1, -2, -0.5, -0.3, -1.5, -0.7, -2.2, -1, -0.4])
    new = torch.tensor([-0.9, -2.3, -0.5, -0.2, -1.5, -0.4, -2.5, -1.1, -0.3])
    means = [estimator(old, new).mean().item() for estimator in (k1, k2, k3)]
    assert means == pytest.approx([0.011111, 0.017222, 0.016872], abs=1e-6)


def test_initial_kl_is_zero() -> None:
    """A policy that is its reference has KL 0 exactly, in every estimator.

    initial_kl_is_zero: https://github.com/CarperAI/trlx/issues/108,
    https://github.com/CarperAI/trlx/issues/509
    """
    logprobs = POLICY.log_softmax(-1)
    for estimator in (k1, k2, k3):
        assert not estimator(logprobs, logprobs.clone()).any()
    assert exact_kl(POLICY, POLICY.clone()).item() == 0.0


def test_gradients_of_the_estimators_used_as_losses() -> None:
    """On-policy, k1 has none, k2 that of KL(policy || reference), k3 of its reverse.

    kl_loss_gradient_is_reverse_kl: https://github.com/OpenRLHF/OpenRLHF/issues/1309,
    https://github.com/NVIDIA-NeMo/RL/issues/2506
    """
    reference = REFERENCE.log_softmax(-1)
    weights = POLICY.softmax(-1)  # probabilities of sampling: constants, as in a batch of samples

    def expected(estimator: object) -> Tensor:
        return gradient(lambda z: (weights * estimator(z.log_softmax(-1), reference)).sum())  # type: ignore[operator]

    torch.testing.assert_close(expected(k1), torch.zeros_like(POLICY), atol=1e-6, rtol=0)
    torch.testing.assert_close(expected(k2), gradient(lambda z: exact_kl(z, REFERENCE)), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(expected(k3), gradient(lambda z: exact_kl(REFERENCE, z)), atol=1e-6, rtol=1e-4)


def test_ratio_times_k3_has_the_gradient_of_the_reverse_divergence_off_policy() -> None:
    """With the importance ratio in front it is right for samples of an older policy as well.

    kl_loss_gradient_is_reverse_kl: https://github.com/OpenRLHF/OpenRLHF/issues/1309,
    https://github.com/NVIDIA-NeMo/RL/issues/2506
    """
    reference = REFERENCE.log_softmax(-1)
    old = torch.tensor([0.1, -1.0, 1.5, 0.4, 0.2]).log_softmax(-1)

    def loss(z: Tensor) -> Tensor:
        logprobs = z.log_softmax(-1)
        return (old.exp() * (logprobs - old).exp() * k3(logprobs, reference)).sum()

    exact = gradient(lambda z: exact_kl(z, REFERENCE))
    torch.testing.assert_close(gradient(loss), exact, atol=1e-6, rtol=1e-4)


def test_exact_kl_allows_impossible_tokens() -> None:
    policy = torch.tensor([0.0, 1.0, -math.inf], requires_grad=True)
    same_support = exact_kl(policy, torch.tensor([0.5, 0.0, -math.inf]))
    assert same_support.item() == pytest.approx(exact_kl(policy[:2], torch.tensor([0.5, 0.0])).item())
    same_support.backward()
    assert policy.grad is not None
    assert policy.grad.isfinite().all()
    assert exact_kl(torch.zeros(2), torch.tensor([0.0, -math.inf])).item() == math.inf


def test_estimators_compute_in_fp32() -> None:
    a, b = torch.tensor([-1.0, -3.0]).bfloat16(), torch.tensor([-1.5, -2.0]).bfloat16()
    for estimator in (k1, k2, k3):
        assert estimator(a, b).dtype == torch.float32
    assert exact_kl(POLICY.bfloat16(), REFERENCE.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(("kl", "expected"), [(9.0, 0.201024), (6.6, 0.200512)])
def test_adaptive_kl_golden_steps(kl: float, expected: float) -> None:
    """The target is one of KL per sequence, not per token.

    adaptive_kl_sequence_level: https://github.com/CarperAI/trlx/issues/441,
    https://github.com/CarperAI/trlx/issues/361
    """
    controller = AdaptiveKL(0.2, target=6.0, horizon=10_000)
    controller.update(kl, n=256)
    assert controller.coef == pytest.approx(expected, abs=1e-9)


def test_adaptive_kl_moves_against_the_error_and_is_bounded() -> None:
    for kl, factor in ((6.0, 1.0), (0.0, 0.98), (-5.0, 0.98), (1e9, 1.02)):
        controller = AdaptiveKL(0.5, target=6.0, horizon=1000)
        controller.update(kl, n=100)
        assert controller.coef == pytest.approx(0.5 * factor)


def test_adaptive_kl_survives_resume() -> None:
    """A controller that loads the state goes on where the other one stood.

    adaptive_kl_survives_resume: https://github.com/verl-project/verl/issues/2653
    """
    whole, first = AdaptiveKL(0.2, 6.0, 1000), AdaptiveKL(0.2, 6.0, 1000)
    for kl in (9.0, 4.0):
        whole.update(kl, 64)
    first.update(9.0, 64)
    second = AdaptiveKL(0.2, 6.0, 1000)
    second.load_state(first.state())
    second.update(4.0, 64)
    assert second == whole


def test_fixed_kl_has_the_same_interface() -> None:
    controller: KLController = FixedKL(0.05)
    controller.update(100.0, n=10_000)
    assert controller.coef == 0.05
    restored = FixedKL(0.1)
    restored.load_state(controller.state())
    assert restored == controller


def test_controllers_refuse_what_would_ruin_the_coefficient() -> None:
    controller = AdaptiveKL(0.2, target=6.0, horizon=100)
    controller.update(0.0, n=499)
    assert controller.coef > 0
    with pytest.raises(ValueError, match="horizon above 100"):
        controller.update(0.0, n=500)
    with pytest.raises(ValueError, match="nan"):
        controller.update(math.nan, n=10)
    for arguments in ((0.0, 6.0, 100), (0.2, 0.0, 100), (0.2, 6.0, 0)):
        with pytest.raises(ValueError, match="above 0"):
            AdaptiveKL(*arguments)
    with pytest.raises(ValueError, match="negative"):
        FixedKL(-0.1)


def test_the_exact_divergence_of_several_positions_and_of_impossible_tokens() -> None:
    p = torch.tensor([[0.0, 0.0, -math.inf], [1.0, 0.0, 0.0]])
    q = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found = exact_kl(p, q)
    assert found.shape == (2,)
    torch.testing.assert_close(found, torch.tensor([math.log(1.5), 0.0]))
    torch.testing.assert_close(exact_kl(p[:1], p[:1]), torch.zeros(1))


def test_coefficients_targets_and_horizons_at_their_edges() -> None:
    assert FixedKL(0.0).coef == 0
    small = AdaptiveKL(0.1, target=0.5, horizon=0.5)
    small.update(0.5, 1)
    assert small.coef == pytest.approx(0.1)


def test_k3_stays_finite_on_both_sides() -> None:
    for gap in (-1e4, 1e4):
        assert math.isfinite(float(k3(torch.tensor(gap), torch.tensor(0.0))))
    assert float(k3(torch.tensor(0.0), torch.tensor(-1e4))) == pytest.approx(19.0, rel=1e-4)
