"""Preference losses: golden numbers, symmetry, stability, soft labels, ties, rankings."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from concordant.core.preferences import (
    bradley_terry_loss,
    davidson_loss,
    davidson_probabilities,
    plackett_luce_loss,
)

CHOSEN = torch.tensor([1.2, -0.3, 0.5])
REJECTED = torch.tensor([0.4, 0.1, 0.5])
SCORE = st.floats(-20, 20, width=32)


def test_golden_bradley_terry() -> None:
    """preference_golden_numbers: https://github.com/hiyouga/LLaMA-Factory/issues/6722"""
    soft, margin = torch.tensor([0.9, 0.5, 0.7]), torch.tensor([0.5, 0.0, 1.0])
    plain = bradley_terry_loss(CHOSEN, REJECTED, 3)
    assert plain.item() == pytest.approx(0.659088, abs=1e-6)
    assert bradley_terry_loss(CHOSEN, REJECTED, 3, margin=margin).item() == pytest.approx(0.926877, abs=1e-6)
    assert bradley_terry_loss(CHOSEN, REJECTED, 3, p_chosen=soft).item() == pytest.approx(0.619088, abs=1e-6)
    centred = bradley_terry_loss(CHOSEN, REJECTED, 3, centering=0.01)
    assert (centred - plain).item() == pytest.approx(0.012, abs=1e-6)


def test_golden_davidson() -> None:
    win, tie, loss = davidson_probabilities(CHOSEN - REJECTED, 0.5)
    assert win.tolist() == pytest.approx([0.560385, 0.322318, 0.4], abs=1e-6)
    assert tie.tolist() == pytest.approx([0.187818, 0.196840, 0.2], abs=1e-6)
    torch.testing.assert_close(win + tie + loss, torch.ones(3))


def test_golden_plackett_luce() -> None:
    scores = torch.tensor([[2, 1, 0.5, -1]])
    loss = plackett_luce_loss(scores, torch.ones(1, 4, dtype=torch.bool), 1)
    assert loss.item() == pytest.approx(1.251552, abs=1e-6)


def test_equal_scores_are_at_chance_level() -> None:
    zeros = torch.zeros(4)
    assert bradley_terry_loss(zeros, zeros, 4).item() == pytest.approx(math.log(2))
    ranking = plackett_luce_loss(torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool), 1)
    assert ranking.item() == pytest.approx(math.log(24))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=5), st.floats(-50, 50, width=32))
def test_shift_of_all_scores_changes_nothing(pairs: list[tuple[float, float]], shift: float) -> None:
    chosen, rejected = torch.tensor(pairs).unbind(-1)
    mask = torch.ones(len(pairs), 2, dtype=torch.bool)
    for plain, shifted in (
        (bradley_terry_loss(chosen, rejected, 1), bradley_terry_loss(chosen + shift, rejected + shift, 1)),
        (
            plackett_luce_loss(torch.tensor(pairs), mask, 1),
            plackett_luce_loss(torch.tensor(pairs) + shift, mask, 1),
        ),
    ):
        assert shifted.item() == pytest.approx(plain.item(), abs=1e-4, rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=5))
def test_rankings_of_two_are_bradley_terry(pairs: list[tuple[float, float]]) -> None:
    scores = torch.tensor(pairs)
    ranking = plackett_luce_loss(scores, torch.ones(len(pairs), 2, dtype=torch.bool), len(pairs))
    pairwise = bradley_terry_loss(scores[:, 0], scores[:, 1], len(pairs))
    assert ranking.item() == pytest.approx(pairwise.item(), abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("gap", [1e4, -1e4])
@pytest.mark.parametrize("options", [{}, {"margin": 1.0}, {"p_chosen": 0.7}])
def test_pairwise_loss_is_stable_at_large_gaps(gap: float, options: dict[str, float]) -> None:
    """Log(1 + exp(-d)) would overflow, and a margin or soft label must survive.

    pairwise_loss_stable_at_large_gaps: https://github.com/thinking-machines-lab/tinker-cookbook/issues/188
    """
    tensors = {name: torch.tensor([x]) for name, x in options.items()}
    chosen = torch.tensor([gap], requires_grad=True)
    loss = bradley_terry_loss(chosen, torch.zeros(1), 1, **tensors)
    p, margin = options.get("p_chosen", 1.0), options.get("margin", 0.0)
    expected = (1 - p) * gap if gap > 0 else -p * gap + margin
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    gradient = torch.autograd.grad(loss, chosen)[0].item()
    assert gradient == pytest.approx((1.0 if gap > 0 else 0.0) - p, abs=1e-6)


@pytest.mark.parametrize("gap", [1e4, -1e4])
def test_ties_and_rankings_are_stable_at_large_gaps(gap: float) -> None:
    """pairwise_loss_stable_at_large_gaps: https://github.com/thinking-machines-lab/tinker-cookbook/issues/188"""
    scores = torch.tensor([gap, 0.0], requires_grad=True)
    one = torch.ones(1, dtype=torch.bool)
    for loss in (
        davidson_loss(scores[:1], scores[1:], one, 0.5, 1),
        davidson_loss(scores[:1], scores[1:], ~one, 0.5, 1),
        plackett_luce_loss(scores[None], torch.ones(1, 2, dtype=torch.bool), 1),
    ):
        assert loss.isfinite()
        assert torch.autograd.grad(loss, scores)[0].isfinite().all()


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_soft_label_gradient_is_sigmoid_minus_p(p: float) -> None:
    chosen, rejected = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    loss = bradley_terry_loss(chosen, rejected, 1, p_chosen=torch.full((3,), p))
    upward, downward = torch.autograd.grad(loss, (chosen, rejected))
    torch.testing.assert_close(upward, torch.sigmoid(CHOSEN - REJECTED) - p)
    torch.testing.assert_close(downward, -upward)


def test_certain_soft_labels_are_hard_labels_in_either_direction() -> None:
    ones = torch.ones(3)
    hard = bradley_terry_loss(CHOSEN, REJECTED, 3)
    assert bradley_terry_loss(CHOSEN, REJECTED, 3, p_chosen=ones).item() == pytest.approx(hard.item())
    assert bradley_terry_loss(REJECTED, CHOSEN, 3, p_chosen=0 * ones).item() == pytest.approx(hard.item())


def test_soft_labels_together_with_margins_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        bradley_terry_loss(CHOSEN, REJECTED, 3, p_chosen=torch.ones(3), margin=torch.zeros(3))


def test_a_weight_of_two_is_a_comparison_given_twice() -> None:
    twice = torch.tensor([0, 0, 1, 2])
    weight = torch.tensor([2.0, 1.0, 1.0])
    for loss in (
        lambda c, r, w: bradley_terry_loss(c, r, 4, weight=w, centering=0.1),
        lambda c, r, w: davidson_loss(c, r, c == r, 0.5, 4, weight=w),
    ):
        repeated = loss(CHOSEN[twice], REJECTED[twice], None)
        assert loss(CHOSEN, REJECTED, weight).item() == pytest.approx(repeated.item())


def test_comparisons_of_weight_zero_do_not_leak() -> None:
    weight = torch.tensor([1.0, 0.0, 1.0])
    dirty = torch.where(weight > 0, CHOSEN, math.nan).requires_grad_()
    kept = torch.tensor([0, 2])
    no_tie = torch.zeros(3, dtype=torch.bool)
    for loss, expected in (
        (
            bradley_terry_loss(dirty, REJECTED, 2, weight=weight, centering=0.1),
            bradley_terry_loss(CHOSEN[kept], REJECTED[kept], 2, centering=0.1),
        ),
        (
            davidson_loss(dirty, REJECTED, no_tie, 0.5, 2, weight=weight),
            davidson_loss(CHOSEN[kept], REJECTED[kept], no_tie[kept], 0.5, 2),
        ),
    ):
        assert loss.item() == pytest.approx(expected.item())
        gradient = torch.autograd.grad(loss, dirty)[0]
        assert gradient.isfinite().all()
        assert gradient[1].item() == 0.0


def test_davidson_without_ties_is_bradley_terry_and_is_symmetric() -> None:
    difference = CHOSEN - REJECTED
    win, tie, _ = davidson_probabilities(difference, 0.0)
    torch.testing.assert_close(win, torch.sigmoid(difference))
    assert not tie.any()
    forward, backward = davidson_probabilities(difference, 0.7), davidson_probabilities(-difference, 0.7)
    torch.testing.assert_close(forward, backward[::-1])


def test_davidson_loss_learns_how_common_ties_are() -> None:
    """At the optimum of nu with equal scores P(tie) is the share of ties: 1/4 gives nu = 2/3."""
    eta = torch.zeros((), requires_grad=True)
    zeros = torch.zeros(4)
    tie = torch.tensor([True, False, False, False])
    optimiser = torch.optim.LBFGS([eta], max_iter=20)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = davidson_loss(zeros, zeros, tie, eta.exp(), 4)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert eta.exp().item() == pytest.approx(2 / 3, abs=1e-4)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_short_rankings_ignore_what_fills_them_up() -> None:
    scores = torch.tensor(
        [[2, 1, 0.5, -1], [0.3, -0.2, math.nan, math.nan], [math.nan] * 4], requires_grad=True
    )
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    loss = plackett_luce_loss(scores, mask, 2)
    pair = bradley_terry_loss(torch.tensor([0.3]), torch.tensor([-0.2]), 2)
    assert loss.item() == pytest.approx(1.251552 / 2 + pair.item(), abs=1e-6)
    with torch.autograd.detect_anomaly():  # no NaN, not even in passing
        gradient = torch.autograd.grad(loss, scores)[0]
    assert gradient.isfinite().all()
    assert not gradient[~mask].any()
    torch.testing.assert_close(gradient.sum(1), torch.zeros(3), atol=1e-6, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2**16))
def test_loss_invariant_to_microbatching(cut: int, seed: int) -> None:
    """loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266,
    https://github.com/NVIDIA-NeMo/RL/issues/86
    """
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(6, 3, generator=generator)
    weight = torch.rand(6, generator=generator)
    mask = torch.tensor([True, True, False]) | (torch.rand(6, 3, generator=generator) < 0.5)

    def losses(z: Tensor, rows: slice) -> Tensor:
        w, m, z = weight[rows], mask[rows], z[rows]
        pairs = bradley_terry_loss(z[:, 0], z[:, 1], weight.sum(), weight=w, centering=0.1)
        ties = davidson_loss(z[:, 0], z[:, 1], m[:, 2], 0.5, weight.sum(), weight=w)
        return pairs + ties + plackett_luce_loss(z, m, 6)

    whole, split = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    total, parts = losses(whole, slice(None)), losses(split, slice(cut)) + losses(split, slice(cut, None))
    assert parts.item() == pytest.approx(total.item(), rel=1e-5)
    gradients = torch.autograd.grad(parts, split)[0], torch.autograd.grad(total, whole)[0]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_low_precision_scores_are_computed_in_fp32_and_shapes_are_checked() -> None:
    chosen, rejected = CHOSEN.bfloat16(), REJECTED.bfloat16()
    assert bradley_terry_loss(chosen, rejected, 3).dtype == torch.float32
    assert torch.equal(
        bradley_terry_loss(chosen, rejected, 3), bradley_terry_loss(chosen.float(), rejected.float(), 3)
    )
    with pytest.raises(ValueError, match=r"chosen_M \(3, 1\)"):
        bradley_terry_loss(CHOSEN[:, None], REJECTED, 3)


def test_davidson_counts_differences_on_the_last_dimension_and_divides() -> None:
    chosen, rejected = torch.tensor([2.0, 0.5]), torch.tensor([0.5, 1.0])
    tie = torch.tensor([False, True])
    win, same, lose = davidson_probabilities(chosen - rejected, 0.5)
    assert win.shape == (2,)
    torch.testing.assert_close(win + same + lose, torch.ones(2))
    wanted = -(float(win[0].log()) + float(same[1].log()))
    loss = davidson_loss(chosen, rejected, tie, 0.5, 4.0)
    assert float(loss) == pytest.approx(wanted / 4, rel=1e-5)
    shifted = davidson_loss(chosen + 3, rejected + 3, tie, 0.5, 4.0)
    assert float(shifted) == pytest.approx(float(loss), rel=1e-5)


def test_nothing_leaks_from_either_side_of_a_pair_that_does_not_count() -> None:
    weight = torch.tensor([1.0, 0.0])
    fine, broken = torch.tensor([1.0, 0.0]), torch.tensor([0.0, math.nan])
    for chosen, rejected in ((fine, broken), (broken, fine)):
        sides = [side.clone().requires_grad_() for side in (chosen, rejected)]
        losses = (
            bradley_terry_loss(*sides, 1.0, weight=weight),
            davidson_loss(*sides, torch.tensor([False, True]), 0.5, 1.0, weight=weight),
        )
        for loss in losses:
            gradients = torch.autograd.grad(loss, sides, retain_graph=True)
            assert torch.isfinite(loss)
            assert all(torch.isfinite(gradient).all() for gradient in gradients)
