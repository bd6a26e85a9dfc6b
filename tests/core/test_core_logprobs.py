"""Log-probabilities, entropies and the completion-only likelihood."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from concordant.core import logprobs as module
from concordant.core.logprobs import (
    cross_entropy,
    sequence_logprob,
    token_entropy,
    token_logprobs,
    token_logprobs_and_entropy,
)

B, T, V = 3, 7, 11


def example(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(B, T, V, generator=generator)
    return logits, torch.randint(V, (B, T), generator=generator)


def plain(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The definition, through autograd, with the whole vocabulary in memory."""
    logprobs = torch.log_softmax(logits.float() / temperature, -1)
    return logprobs.gather(-1, tokens[..., None]).squeeze(-1), -(logprobs.exp() * logprobs).sum(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("chunk", [1, 5, 8, 10_000, None])
def test_values_and_gradients_match_the_definition(temperature: float, chunk: int | None) -> None:
    logits, tokens = example()
    upstream_logprobs, upstream_entropy = torch.randn(2, B, T)
    gradients = []
    for function in (plain, lambda *a: token_logprobs_and_entropy(*a, chunk=chunk)):
        given = logits.clone().requires_grad_()
        logprobs, entropy = function(given, tokens, temperature)
        gradients.append(
            torch.autograd.grad((upstream_logprobs * logprobs + upstream_entropy * entropy).sum(), given)
        )
    expected = plain(logits, tokens, temperature)
    actual = token_logprobs_and_entropy(logits, tokens, temperature, chunk=chunk)
    torch.testing.assert_close(actual, expected, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], atol=5e-6, rtol=1e-5)


def test_each_output_alone_has_the_right_gradient() -> None:
    logits, tokens = example(1)
    for ours, index in (
        (lambda z: token_logprobs(z, tokens, 0.7), 0),
        (lambda z: token_logprobs_and_entropy(z, tokens, 0.7)[0], 0),
        (lambda z: token_logprobs_and_entropy(z, tokens, 0.7)[1], 1),
        (lambda z: token_entropy(z, 0.7), 1),
    ):
        given, same = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ours(given).square().sum(), given)
        (expected,) = torch.autograd.grad(plain(same, tokens, 0.7)[index].square().sum(), same)
        torch.testing.assert_close(gradient, expected, atol=2e-5, rtol=1e-5)


def test_logprobs_use_the_sampling_temperature() -> None:
    """At temperature 0.5 they are those of log_softmax(z / 0.5).

    logprobs_use_sampling_temperature: https://github.com/NVIDIA-NeMo/RL/issues/316,
    https://github.com/NVIDIA-NeMo/RL/issues/714
    """
    logits, tokens = example(2)
    expected = torch.log_softmax(logits / 0.5, -1).gather(-1, tokens[..., None]).squeeze(-1)
    torch.testing.assert_close(token_logprobs(logits, tokens, 0.5), expected)
    assert (token_logprobs(logits, tokens) - expected).abs().max() > 0.1


def test_entropy_is_that_of_the_policy_sampled_from() -> None:
    """Log-probabilities and entropy are of one distribution: E[-logprob] = H.

    entropy_same_logits_as_policy: https://github.com/THUDM/slime/issues/1846,
    https://github.com/NovaSky-AI/SkyRL/issues/490
    """
    logits, _ = example(3)
    probabilities = torch.softmax(logits / 0.6, -1)
    everything = torch.arange(V).expand(B, T, V)
    surprise = torch.stack([-token_logprobs(logits, everything[..., v], 0.6) for v in range(V)], -1)
    torch.testing.assert_close((probabilities * surprise).sum(-1), token_entropy(logits, 0.6))


def test_entropy_at_its_bounds() -> None:
    assert token_entropy(torch.zeros(1, 1, V)).item() == pytest.approx(math.log(V), abs=1e-6)
    certain = torch.full((1, 1, V), -1e5)
    certain[..., 4] = 0.0
    assert token_entropy(certain).item() == 0.0


def test_low_precision_logits_give_fp32_results() -> None:
    """Computed in fp32 from the rounded logits, not rounded themselves.

    logprob_of_sampled_token_fp32: https://github.com/NVIDIA-NeMo/RL/issues/3297,
    https://github.com/THUDM/slime/issues/245
    """
    logits, tokens = example(4)
    rounded = logits.bfloat16()
    logprobs, entropy = token_logprobs_and_entropy(rounded, tokens, 0.9)
    assert logprobs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close((logprobs, entropy), plain(rounded.float(), tokens, 0.9), atol=2e-6, rtol=1e-6)
    given = rounded.clone().requires_grad_()
    token_logprobs(given, tokens).sum().backward()
    assert given.grad is not None
    assert given.grad.dtype == torch.bfloat16


def test_forbidden_tokens_and_large_logits_stay_finite() -> None:
    logits, tokens = example(5)
    logits[..., V - 1] = -math.inf
    logits = (logits + 1e4).requires_grad_()
    tokens = tokens.clamp(max=V - 2)
    logprobs, entropy = token_logprobs_and_entropy(logits, tokens)
    (gradient,) = torch.autograd.grad((logprobs + entropy).sum(), logits)
    for result in (logprobs, entropy, gradient):
        assert result.isfinite().all()
    assert not gradient[..., V - 1].any()


def test_a_slice_of_a_larger_tensor_needs_no_copy_and_gets_its_gradient() -> None:
    logits, tokens = example(6)
    given = torch.cat([logits, logits[:, :1]], 1).requires_grad_()
    token_logprobs(given[:, :-1], tokens).sum().backward()
    assert given.grad is not None
    assert not given.grad[:, -1].any()
    expected = torch.nn.functional.one_hot(tokens, V) - torch.softmax(logits, -1)
    torch.testing.assert_close(given.grad[:, :-1], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("with_entropy", [False, True])
def test_nan_logits_outside_the_mask_do_not_leak(with_entropy: bool) -> None:
    """nan_outside_mask_does_not_leak: https://github.com/verl-project/verl/issues/2377,
    https://github.com/NovaSky-AI/SkyRL/issues/1635
    """
    logits, tokens = example(7)
    mask = torch.ones(B, T, dtype=torch.bool)
    mask[0, 3:], mask[2] = False, False
    clean, dirty = (
        logits.clone().requires_grad_(),
        torch.where(mask[..., None], logits, math.nan).requires_grad_(),
    )
    gradients = []
    for given in (clean, dirty):
        if with_entropy:
            logprobs, entropy = token_logprobs_and_entropy(given, tokens)
            loss = cross_entropy(logprobs, mask, 9) + cross_entropy(entropy, mask, 9)
        else:
            loss = cross_entropy(token_logprobs(given, tokens), mask, 9)
        gradients.append(torch.autograd.grad(loss, given)[0])
    assert torch.equal(gradients[0], gradients[1])


def test_the_softmax_is_not_kept_for_the_backward_pass() -> None:
    """Only the logits themselves, which the model holds anyway, are saved at the size of the vocabulary."""
    logits, tokens = example(8)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        token_logprobs_and_entropy(logits.requires_grad_(), tokens, 0.5)
    large = [tensor for tensor in saved if tensor.numel() >= logits.numel()]
    assert [tensor.data_ptr() for tensor in large] == [logits.data_ptr()]


def test_a_second_derivative_is_an_error_and_not_wrong() -> None:
    logits, tokens = example(8)
    given = logits.requires_grad_()
    (gradient,) = torch.autograd.grad(token_logprobs(given, tokens).square().sum(), given, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_default_chunk_bounds_the_working_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, tokens = example(9)
    sizes: list[int] = []
    original = module._log_softmax

    def spy(part: Tensor, temperature: float) -> Tensor:
        sizes.append(part.numel())
        return original(part, temperature)

    monkeypatch.setattr(module, "_log_softmax", spy)
    monkeypatch.setattr(module, "CHUNK_LOGITS", 2 * B * V)
    token_logprobs(logits, tokens)
    assert sum(sizes) == logits.numel()
    assert max(sizes) <= 2 * B * V


def test_cross_entropy_matches_torch_on_counted_tokens() -> None:
    logits, tokens = example(10)
    mask = torch.rand(B, T, generator=torch.Generator().manual_seed(1)) < 0.6
    labels = tokens.masked_fill(~mask, -100)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert cross_entropy(token_logprobs(logits, tokens), mask, mask.sum()).item() == pytest.approx(
        expected.item()
    )


def test_sequence_logprob_sums_counted_tokens() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, math.nan], [math.nan, math.nan, math.nan]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert sequence_logprob(logprobs, mask).tolist() == [-3.0, 0.0]


def test_bad_arguments_are_refused() -> None:
    logits, tokens = example()
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(logits, tokens, 0.0)
    with pytest.raises(ValueError, match="do not match"):
        token_logprobs(logits, tokens[:, 1:])
    with pytest.raises(ValueError, match="same shape"):
        cross_entropy(torch.zeros(2, 3), torch.ones(2, 1, dtype=torch.bool), 1)


def test_a_token_without_weight_gets_no_gradient_at_all() -> None:
    """Exactly 0 on its whole row of logits, with and without entropy, also beside a NaN."""
    for with_entropy in (False, True):
        logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
        logits[1, 2] = math.nan
        logits.requires_grad_()
        tokens = torch.tensor([[0, 1, 2], [3, 4, 0]])
        weight = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
        logprobs, entropy = token_logprobs_and_entropy(logits, tokens)
        loss = torch.where(weight != 0, logprobs * weight, 0.0).sum()
        if with_entropy:
            loss = loss + torch.where(weight != 0, entropy, 0.0).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        assert not logits.grad[weight == 0].any()
        assert logits.grad[weight != 0].any(-1).all()


def test_temperature_is_one_unless_said() -> None:
    logits = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[1, 3]])
    torch.testing.assert_close(token_entropy(logits), token_entropy(logits, 1.0))
    for found, plain in zip(
        token_logprobs_and_entropy(logits, tokens),
        token_logprobs_and_entropy(logits, tokens, 1.0),
        strict=True,
    ):
        torch.testing.assert_close(found, plain)
    assert not torch.allclose(token_entropy(logits), token_entropy(logits, 2.0))
