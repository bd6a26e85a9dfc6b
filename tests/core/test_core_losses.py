"""The losses of PPO: golden numbers, exact first step, clipping, masks, micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from concordant.core.advantages import gae, token_rewards
from concordant.core.kl import exact_kl, k1
from concordant.core.logprobs import cross_entropy, token_logprobs, token_logprobs_and_entropy
from concordant.core.losses import (
    clipped_policy_loss,
    clipped_value_loss,
    entropy_bonus,
    kl_penalty,
    token_weights,
)
from concordant.core.masked import whiten

OLD = torch.tensor([[-1.0, -2, -0.5, -0.3, 0], [-1.5, -0.7, -2.2, -1, -0.4]])
REF = torch.tensor([[-1.2, -1.5, -0.6, -0.9, 0], [-1.4, -1, -2, -1.1, -0.8]])
NEW = torch.tensor([[-0.9, -2.3, -0.5, -0.2, 0], [-1.5, -0.4, -2.5, -1.1, -0.3]])
OLD_VALUES = torch.tensor([[0.5, 0.4, 0.6, 0.8, 0.3], [0.2, 0.1, 0, -0.2, -0.5]])
NEW_VALUES = torch.tensor([[0.9, 0.4, 0.5, 1.2, 0], [0.1, 0.4, -0.1, -0.3, -0.9]])
MASK = torch.tensor([[True, True, True, True, False], [True, True, True, True, True]])


NAN = math.nan


def golden() -> tuple[Tensor, Tensor]:
    """Whitened advantages, and returns."""
    rewards = token_rewards(torch.tensor([2.0, -2.0]), k1(OLD, REF), MASK, 0.1)
    advantages, returns = gae(rewards, OLD_VALUES, MASK, 1.0, 0.95)
    return whiten(advantages, MASK), returns


def test_golden_policy_loss() -> None:
    advantages, _ = golden()
    loss, metrics = clipped_policy_loss(NEW, OLD, advantages, MASK, MASK.sum())
    assert loss.item() == pytest.approx(0.024788, abs=1e-6)
    assert metrics["approx_kl"].item() == pytest.approx(0.016872, abs=1e-6)
    assert metrics["ratio"].item() == pytest.approx((NEW - OLD).exp()[MASK].mean().item())
    # Clipped: ratio e^-.3 with A > 0 is not, e^-.3 with A < 0 is, e^.3 with A < 0 is not.
    assert metrics["clip_fraction"].item() == pytest.approx(1 / 9)


def test_golden_mean_of_sequence_means_is_a_choice_of_denominators() -> None:
    advantages, _ = golden()
    parts = [
        clipped_policy_loss(
            NEW[i, None], OLD[i, None], advantages[i, None], MASK[i, None], 2 * MASK[i].sum()
        )[0]
        for i in range(2)
    ]
    assert sum(parts).item() == pytest.approx(-0.080502, abs=1e-6)


def test_golden_value_loss() -> None:
    _, returns = golden()
    loss, metrics = clipped_value_loss(NEW_VALUES, OLD_VALUES, returns, MASK, MASK.sum(), clip=0.2)
    assert loss.item() == pytest.approx(1.211885, abs=1e-6)
    error = (NEW_VALUES - returns)[MASK].square().mean().item()
    assert metrics["value_error"].item() == pytest.approx(error, abs=1e-6)
    free, _ = clipped_value_loss(NEW_VALUES, OLD_VALUES, returns, MASK, MASK.sum(), clip=None)
    assert free.item() == pytest.approx(0.5 * error, abs=1e-6)


def test_first_step_ratio_is_one_and_the_gradient_is_that_of_reinforce() -> None:
    """Before the first update the loss is the negative mean advantage and nothing is clipped.

    first_step_ratio_is_one: https://github.com/CarperAI/trlx/issues/108,
    https://github.com/CarperAI/trlx/issues/509
    """
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    tokens = torch.randint(7, (2, 5), generator=generator)
    advantages, _ = golden()
    ppo, reinforce = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    logprobs = token_logprobs(ppo, tokens, 0.7)
    loss, metrics = clipped_policy_loss(logprobs, logprobs.detach(), advantages, MASK, 9)
    plain = -(torch.where(MASK, token_logprobs(reinforce, tokens, 0.7) * advantages, 0.0)).sum() / 9
    assert loss.item() == pytest.approx(-advantages[MASK].mean().item(), abs=1e-7)
    assert metrics["ratio"].item() == 1.0
    assert metrics["clip_fraction"].item() == metrics["approx_kl"].item() == 0.0
    gradients = torch.autograd.grad(loss, ppo)[0], torch.autograd.grad(plain, reinforce)[0]
    torch.testing.assert_close(*gradients, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "options", "loss", "slope"),
    [
        (1.5, 2.0, {}, -2.4, 0.0),  # already likelier than 1 + clip: no more push upwards
        (1.5, -2.0, {}, 3.0, 3.0),  # wrong direction: full gradient
        (0.5, 2.0, {}, -1.0, -1.0),
        (0.5, -2.0, {}, 1.6, 0.0),
        (1.25, 2.0, {"clip_high": 0.28}, -2.5, -2.5),
        (1.5, 2.0, {"clip_high": 0.28}, -2.56, 0.0),
        (0.5, -2.0, {"clip_low": 0.4}, 1.2, 0.0),
        (5.0, -2.0, {"dual_clip": 3.0}, 6.0, 0.0),
        (2.0, -2.0, {"dual_clip": 3.0}, 4.0, 4.0),
        (5.0, 2.0, {"dual_clip": 3.0}, -2.4, 0.0),
    ],
)
def test_each_branch_of_the_clip(
    ratio: float, advantage: float, options: dict[str, float], loss: float, slope: float
) -> None:
    logprob = torch.tensor([[math.log(ratio)]], requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.bool)
    actual, _ = clipped_policy_loss(
        logprob, torch.zeros(1, 1), torch.tensor([[advantage]]), one, 1.0, **options
    )
    assert actual.item() == pytest.approx(loss, rel=1e-5)
    assert torch.autograd.grad(actual, logprob)[0].item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "loss", "slope", "clipped"),
    [(1.5, 0.5 * 0.8**2, 0.0, 1.0), (-0.5, 0.5 * 1.5**2, -1.5, 0.0), (0.1, 0.5 * 0.9**2, -0.9, 0.0)],
)
def test_each_branch_of_the_value_clip(value: float, loss: float, slope: float, clipped: float) -> None:
    """Old value 0, return 1, clip 0.2: a value that ran past its bound towards the return is held back."""
    values = torch.tensor([[value]], requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.bool)
    actual, metrics = clipped_value_loss(values, torch.zeros(1, 1), torch.ones(1, 1), one, 1, clip=0.2)
    assert actual.item() == pytest.approx(loss)
    assert torch.autograd.grad(actual, values)[0].item() == pytest.approx(slope)
    assert metrics["value_clip_fraction"].item() == clipped


def test_huge_log_ratios_stay_finite() -> None:
    logprobs = torch.tensor([[-900.0, 0.0]], requires_grad=True)
    both = torch.ones(1, 2, dtype=torch.bool)
    loss, metrics = clipped_policy_loss(logprobs, torch.tensor([[0.0, -900.0]]), -torch.ones(1, 2), both, 2.0)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, logprobs)[0].isfinite().all()
    assert all(metric.isfinite() for metric in metrics.values())


def policy(x: Tensor, y: Tensor, z: Tensor, mask: Tensor, n: float) -> Tensor:
    return clipped_policy_loss(x, y, z, mask, n, dual_clip=3.0)[0]


def value(x: Tensor, y: Tensor, z: Tensor, mask: Tensor, n: float) -> Tensor:
    return clipped_value_loss(x, y, z, mask, n, clip=0.2)[0]


def likelihood(x: Tensor, _y: Tensor, _z: Tensor, mask: Tensor, n: float) -> Tensor:
    return cross_entropy(x, mask, n)


def entropy(x: Tensor, _y: Tensor, _z: Tensor, mask: Tensor, n: float) -> Tensor:
    return entropy_bonus(x, mask, n)


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]
LOSSES: list[Loss] = [policy, value, likelihood, entropy]


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("loss", LOSSES)
def test_nan_outside_the_mask_does_not_leak(loss: Loss) -> None:
    """Neither into the loss nor into the gradient, whichever input it stands in.

    nan_outside_mask_does_not_leak: https://github.com/verl-project/verl/issues/2377,
    https://github.com/NovaSky-AI/SkyRL/issues/1635
    """
    inputs = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    for bad in (math.nan, math.inf, -math.inf):
        clean = [x.clone().requires_grad_() for x in inputs]
        dirty = [torch.where(MASK, x, bad).requires_grad_() for x in inputs]
        losses = loss(*clean, MASK, 9), loss(*dirty, MASK, 9)
        assert losses[0].item() == losses[1].item()
        with torch.autograd.detect_anomaly():  # not even in passing
            gradients = [torch.autograd.grad(x, y[0])[0] for x, y in zip(losses, (clean, dirty), strict=True)]
        assert torch.equal(*gradients)
        assert not gradients[1][~MASK].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_fully_masked_sequence_is_zero_not_nan(loss: Loss) -> None:
    """It adds nothing to the sum; alone in a micro-batch it gives 0 with gradient 0.

    fully_masked_sequence_is_zero_not_nan: https://github.com/verl-project/verl/issues/782,
    https://github.com/allenai/open-instruct/issues/1685
    """
    inputs = [torch.full((1, 4), math.nan, requires_grad=True) for _ in range(3)]
    result = loss(*inputs, torch.zeros(1, 4, dtype=torch.bool), 9)
    assert result.item() == 0.0
    assert not torch.autograd.grad(result, inputs[0])[0].any()


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=15, deadline=None)
@given(cuts=st.sets(st.integers(1, 5)), seed=st.integers(0, 2**16))
def test_loss_invariant_to_microbatching(loss: Loss, cuts: set[int], seed: int) -> None:
    """Losses and gradients of unequal micro-batches add up.

    loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266,
    https://github.com/NVIDIA-NeMo/RL/issues/86
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3, 6, 5, generator=generator)
    mask = torch.rand(6, 5, generator=generator) < 0.6
    n = max(1, int(mask.sum()))
    whole, split = inputs[0].clone().requires_grad_(), inputs[0].clone().requires_grad_()
    total = loss(whole, inputs[1], inputs[2], mask, n)
    total.backward()
    edges = [0, *sorted(cuts), 6]
    parts = 0.0
    for begin, end in pairwise(edges):
        rows = slice(begin, end)
        part = loss(split[rows], inputs[1][rows], inputs[2][rows], mask[rows], n)
        part.backward()
        parts += part.item()
    assert parts == pytest.approx(total.item(), abs=1e-5, rel=1e-5)
    torch.testing.assert_close(split.grad, whole.grad, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_changes_nothing(loss: Loss) -> None:
    inputs = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(3))
    wider = torch.nn.functional.pad(inputs, (2, 4), value=7.0)
    wider_mask = torch.nn.functional.pad(MASK, (2, 4), value=False)
    assert loss(*inputs, MASK, 9).item() == pytest.approx(loss(*wider, wider_mask, 9).item(), rel=1e-6)


def test_metrics_of_micro_batches_add_up() -> None:
    advantages, returns = golden()
    n = MASK.sum()
    new, new_values = NEW.clone().requires_grad_(), NEW_VALUES.clone().requires_grad_()
    whole = clipped_policy_loss(new, OLD, advantages, MASK, n)[1]
    whole |= clipped_value_loss(new_values, OLD_VALUES, returns, MASK, n, clip=0.2)[1]
    parts = dict.fromkeys(whole, 0.0)
    for i in range(2):
        part = clipped_policy_loss(NEW[i, None], OLD[i, None], advantages[i, None], MASK[i, None], n)[1]
        part |= clipped_value_loss(
            NEW_VALUES[i, None], OLD_VALUES[i, None], returns[i, None], MASK[i, None], n, clip=0.2
        )[1]
        parts = {name: total + part[name].item() for name, total in parts.items()}
    assert parts == pytest.approx({name: metric.item() for name, metric in whole.items()}, abs=1e-6)
    assert not any(metric.requires_grad for metric in whole.values())


def test_entropy_bonus_is_the_mean_over_counted_tokens() -> None:
    logits = torch.zeros(2, 5, 8)
    _, entropy_BT = token_logprobs_and_entropy(logits, torch.zeros(2, 5, dtype=torch.long))
    assert entropy_bonus(entropy_BT, MASK, MASK.sum()).item() == pytest.approx(math.log(8))


def test_only_the_trained_quantities_carry_gradient() -> None:
    tensors = [torch.randn(2, 5, requires_grad=True) for _ in range(3)]
    for loss in (policy, value):
        trained, *constants = torch.autograd.grad(loss(*tensors, MASK, 9), tensors, allow_unused=True)
        assert trained is not None
        assert constants == [None, None]


def test_low_precision_inputs_are_computed_in_fp32() -> None:
    inputs = [x.bfloat16() for x in (NEW, OLD, golden()[0])]
    expected = policy(*(x.float() for x in inputs), MASK, 9)
    assert torch.equal(policy(*inputs, MASK, 9), expected)
    assert value(*inputs, MASK, 9).dtype == torch.float32


def test_broadcasting_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"advantages_BT \(2, 1\)"):
        clipped_policy_loss(NEW, OLD, torch.zeros(2, 1), MASK, 9)
    with pytest.raises(ValueError, match=r"returns_BT \(5,\)"):
        clipped_value_loss(NEW_VALUES, OLD_VALUES, torch.zeros(5), MASK, 9, clip=0.2)


def test_a_ratio_of_the_whole_sequence() -> None:
    """sequence_ratio_sum_vs_mean: https://github.com/huggingface/trl/issues/5814"""
    old = torch.tensor([[-1.0, -2.0, NAN], [-1.0, -1.0, -1.0]])
    new = old + torch.tensor([[0.1, 0.05, NAN], [-0.1, 0.0, 0.02]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    advantage = torch.tensor([[2.0], [-1.0]]).expand(2, 3)
    weights = token_weights(mask, 5, 2, "sequence")

    def loss(ratio: str) -> Tensor:
        kind: Any = ratio
        return clipped_policy_loss(new, old, advantage, mask, 5, ratio=kind, weight_BT=weights)[0]

    summed = -2.0 * math.exp(0.15) + 1.0 * math.exp(-0.08)
    assert float(loss("sequence")) == pytest.approx(summed / 2, rel=1e-5)
    averaged = -2.0 * math.exp(0.075) + 1.0 * math.exp(-0.08 / 3)
    assert float(loss("sequence_mean")) == pytest.approx(averaged / 2, rel=1e-5)
    tokens = -2.0 * (math.exp(0.1) + math.exp(0.05)) / 2
    tokens += (math.exp(-0.1) + 1 + math.exp(0.02)) / 3
    assert float(loss("token")) == pytest.approx(tokens / 2, rel=1e-5)


def test_the_clip_bites_on_the_ratio_of_the_sequence() -> None:
    old, mask = torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool)
    new = torch.full((1, 4), 0.1, requires_grad=True)  # each token within 1.2, all of them 1.49
    loss, metrics = clipped_policy_loss(new, old, torch.ones(1, 4), mask, 4, ratio="sequence")
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == pytest.approx(-1.2)
    assert new.grad is not None
    assert not new.grad.any()
    assert float(metrics["clip_fraction"]) == 1
    assert float(metrics["approx_kl"]) == pytest.approx(math.exp(0.1) - 1 - 0.1, rel=1e-4)


def test_weights_of_the_three_means() -> None:
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    x = torch.tensor([[1.0, 2.0, 3.0, NAN], [10.0, NAN, NAN, NAN]])

    def mean(average: str, limit: int = 0) -> float:
        kind: Any = average
        return float(entropy_bonus(x, mask, 4, token_weights(mask, 4, 2, kind, limit)))

    assert mean("token") == pytest.approx(4.0)
    assert mean("sequence") == pytest.approx((2.0 + 10.0) / 2)
    assert mean("limit", 8) == pytest.approx((6.0 + 10.0) / (2 * 8))
    with pytest.raises(ValueError, match="at least 1"):
        mean("limit")


def test_the_gradient_of_the_kl_loss_is_that_of_the_divergence() -> None:
    """kl_loss_gradient_is_reverse_kl: https://github.com/OpenRLHF/OpenRLHF/issues/1309

    Its expectation over the old policy, summed exactly over a small vocabulary, is the gradient of the exact
    KL: for rho k3 wherever the policy is, for k2 where it still is the old one.
    """
    generator = torch.Generator().manual_seed(0)
    now, before, ref = (torch.randn(1, 5, generator=generator, dtype=torch.float64) for _ in range(3))

    def expected_gradient(estimator: str, old: Tensor) -> Tensor:
        logits = now.clone().requires_grad_()
        kind: Any = estimator
        every = logits.log_softmax(-1)
        total = torch.zeros((), dtype=torch.float64)
        for token in range(5):
            lp = [t.log_softmax(-1)[:, token, None].float() for t in (old, ref)]
            mask = torch.ones(1, 1, dtype=torch.bool)
            penalty = kl_penalty(every[:, token, None].float(), *lp, mask, 1, estimator=kind)
            total = total + old.softmax(-1)[0, token] * penalty
        (gradient,) = torch.autograd.grad(total, logits)
        return gradient

    logits = now.clone().requires_grad_()
    (exact,) = torch.autograd.grad(exact_kl(logits, ref).sum(), logits)
    torch.testing.assert_close(
        expected_gradient("k3", before), exact, atol=1e-5, rtol=1e-4, check_dtype=False
    )
    torch.testing.assert_close(expected_gradient("k2", now), exact, atol=1e-5, rtol=1e-4, check_dtype=False)
    assert not torch.allclose(expected_gradient("k2", before).float(), exact.float(), atol=1e-2)


def test_the_kl_loss_is_divided_weighted_and_bounded() -> None:
    new, old, ref = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.0]]), torch.tensor([[-2.0, -2.5]])
    mask = torch.ones(1, 2, dtype=torch.bool)

    def part(lp: float, before: float, reference: float) -> float:
        q = reference - lp
        return math.exp(lp - before) * (math.exp(q) - 1 - q)

    parts = [part(-1.0, -1.5, -2.0), part(-2.0, -2.0, -2.5)]
    assert float(kl_penalty(new, old, ref, mask, 4)) == pytest.approx(sum(parts) / 4, rel=1e-5)
    weight = torch.tensor([[2.0, 0.5]])
    weighted = 2 * parts[0] + 0.5 * parts[1]
    assert float(kl_penalty(new, old, ref, mask, 4, weight_BT=weight)) == pytest.approx(
        weighted / 4, rel=1e-5
    )
    squares = 0.5 * (1.0**2 + 0.5**2)
    assert float(kl_penalty(new, old, ref, mask, 4, estimator="k2")) == pytest.approx(squares / 4, rel=1e-5)
    far = torch.full((1, 1), 500.0)
    one = torch.ones(1, 1, dtype=torch.bool)
    assert math.isfinite(float(kl_penalty(far, torch.zeros(1, 1), far, one, 1)))
    assert math.isfinite(float(kl_penalty(far, torch.zeros(1, 1), far - 1, one, 1)))


def test_the_bound_of_the_dual_clip_is_for_negative_advantages_alone() -> None:
    new, mask = torch.full((1, 3), 3.0), torch.ones(1, 3, dtype=torch.bool)  # ratio 20
    advantages = torch.tensor([[0.5, 0.0, -0.5]])
    loss, _ = clipped_policy_loss(new, torch.zeros(1, 3), advantages, mask, 1, dual_clip=3.0)
    assert float(loss) == pytest.approx(-0.5 * 1.2 + 0.0 + 0.5 * 3.0, rel=1e-5)


def test_a_mean_log_ratio_of_a_single_token_is_its_own() -> None:
    new, mask = torch.full((1, 1), 0.1), torch.ones(1, 1, dtype=torch.bool)
    given = (new, torch.zeros(1, 1), torch.ones(1, 1), mask, 1)
    assert float(clipped_policy_loss(*given, ratio="sequence_mean")[0]) == pytest.approx(-math.exp(0.1))


def test_a_limit_of_one_token_is_a_limit() -> None:
    mask = torch.tensor([[True], [True]])
    weights = token_weights(mask, 2, 2, "limit", 1)
    assert weights is not None
    assert weights.dtype == torch.float32
    assert weights.tolist() == [[1.0], [1.0]]


def test_the_value_loss_can_be_another_mean_too() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    values, returns = torch.tensor([[1.0, 3.0], [4.0, NAN]]), torch.zeros(2, 2)
    weights = token_weights(mask, 3, 2, "sequence")
    loss, metrics = clipped_value_loss(values, values, returns, mask, 3, clip=None, weight_BT=weights)
    assert float(loss) == pytest.approx(((0.5 + 4.5) / 2 + 8.0) / 2)
    assert float(metrics["value_error"]) == pytest.approx((1 + 9 + 16) / 3), (
        "what is reported stays per token"
    )
