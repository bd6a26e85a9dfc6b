"""Log-probabilities and entropies of tokens under a model's logits.

Legend: B sequences, T tokens, V vocabulary. `logits_BTV[b, t]` are the logits that predict
`tokens_BT[b, t]`: the shift by one position happens before these functions. Results are fp32
whatever the dtype of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from concordant.core.masked import masked_mean, masked_sum, require_same_shape

CHUNK_LOGITS = 2**21  # logits worked on at a time where the caller names no chunk: 8 MB of fp32
LOWEST_LOGPROB = -200.0  # exp of it is 0 in fp32, so p * log p is 0 and not 0 * -inf


def token_logprobs(logits_BTV: Tensor, tokens_BT: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each token, log_softmax(z / temperature)[token], (B, T).

    Every id must lie in the vocabulary, under the loss mask or not; padding is a token like another here.
    """
    return _statistics(logits_BTV, tokens_BT, temperature, None, False)[0]


def token_logprobs_and_entropy(
    logits_BTV: Tensor, tokens_BT: Tensor, temperature: float = 1.0, *, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each token and entropy of the distribution it was drawn from, both (B, T).

    The entropy H = -sum_v p_v log p_v is in nats, exact over the vocabulary, of the same
    p = softmax(z / temperature) as the log-probabilities. About `chunk` tokens are worked on at a
    time, forward and backward; the result does not depend on it.
    """
    return _statistics(logits_BTV, tokens_BT, temperature, chunk, True)


def token_entropy(logits_BTV: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of softmax(z / temperature) at each position, in nats, (B, T)."""
    any_token_BT = torch.zeros(logits_BTV.shape[:2], dtype=torch.long, device=logits_BTV.device)
    return _statistics(logits_BTV, any_token_BT, temperature, None, True)[1]


def sequence_logprob(logprobs_BT: Tensor, loss_mask_BT: Tensor) -> Tensor:
    """Log-probability of each completion, the sum over its counted tokens, (B,)."""
    require_same_shape(logprobs_BT=logprobs_BT, loss_mask_BT=loss_mask_BT)
    return masked_sum(logprobs_BT, loss_mask_BT, dim=1)


def cross_entropy(logprobs_BT: Tensor, loss_mask_BT: Tensor, denominator: Tensor | float) -> Tensor:
    """Negative log-likelihood of the counted tokens, -sum_t logprob_t / denominator, a scalar.

    With the denominator counted over the whole optimiser batch, loss and gradient of its
    micro-batches add up to those of the batch, however it is split.
    """
    require_same_shape(logprobs_BT=logprobs_BT, loss_mask_BT=loss_mask_BT)
    return -masked_mean(logprobs_BT, loss_mask_BT, denominator)


def _statistics(
    logits_BTV: Tensor, tokens_BT: Tensor, temperature: float, chunk: int | None, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and, where asked for, entropies."""
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if logits_BTV.shape[:-1] != tokens_BT.shape:
        told = f"{tuple(logits_BTV.shape)} and {tuple(tokens_BT.shape)}"
        raise ValueError(f"logits (B, T, V) and tokens (B, T) do not match: {told}")
    tokens_in_chunk = chunk or CHUNK_LOGITS // logits_BTV.shape[2]
    columns = max(1, tokens_in_chunk // max(1, logits_BTV.shape[0]))
    given = (logits_BTV, tokens_BT, temperature, columns, with_entropy)
    both: tuple[Tensor, Tensor] = _TokenStatistics.apply(*given)  # type: ignore[no-untyped-call]
    return both


class _TokenStatistics(torch.autograd.Function):
    """Keeps the logits and nothing else of size V: the softmax is computed again, in chunks, going backward.

    With p = softmax(z / temperature):  d logprob(y) / dz_v = (1[v = y] - p_v) / temperature  and
    dH / dz_v = -p_v (log p_v + H) / temperature.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_BTV: Tensor, tokens_BT: Tensor, temperature: float, columns: int, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        logprobs_BT = torch.empty(tokens_BT.shape, dtype=torch.float32, device=logits_BTV.device)
        entropy_BT = torch.empty_like(logprobs_BT if with_entropy else logprobs_BT[:, :0])
        for part in _parts(tokens_BT.shape[1], columns):
            all_logprobs = _log_softmax(logits_BTV[:, part], temperature)
            logprobs_BT[:, part] = all_logprobs.gather(-1, tokens_BT[:, part, None]).squeeze(-1)
            if with_entropy:
                plogp = all_logprobs.exp().mul_(all_logprobs.clamp_(min=LOWEST_LOGPROB))
                entropy_BT[:, part] = plogp.sum(-1).neg_()
        ctx.save_for_backward(logits_BTV, tokens_BT, entropy_BT)
        ctx.set_materialize_grads(False)
        ctx.temperature, ctx.columns = temperature, columns
        return logprobs_BT, entropy_BT

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_logprobs_BT: Tensor | None, grad_entropy_BT: Tensor | None
    ) -> tuple[Tensor | None, None, None, None, None]:
        logits_BTV, tokens_BT, entropy_BT = ctx.saved_tensors
        if grad_logprobs_BT is None and grad_entropy_BT is None:
            return None, None, None, None, None
        if grad_logprobs_BT is None:
            grad_logprobs_BT = torch.zeros(tokens_BT.shape, device=logits_BTV.device)
        grad_BTV = torch.empty_like(logits_BTV)
        for part in _parts(tokens_BT.shape[1], ctx.columns):
            grad_BTV[:, part] = _gradient(
                _log_softmax(logits_BTV[:, part], ctx.temperature),
                tokens_BT[:, part, None],
                grad_logprobs_BT[:, part, None] / ctx.temperature,
                None if grad_entropy_BT is None else grad_entropy_BT[:, part, None] / ctx.temperature,
                entropy_BT[:, part, None],
            )
        return grad_BTV, None, None, None, None


def _gradient(
    all_logprobs: Tensor, tokens: Tensor, grad_logprobs: Tensor, grad_entropy: Tensor | None, entropy: Tensor
) -> Tensor:
    """Gradient by the scaled logits of a chunk; overwrites `all_logprobs`. The rest end in a 1."""
    unused = grad_logprobs == 0
    probabilities = all_logprobs.exp()
    if grad_entropy is None:
        gradient = probabilities.mul_(-grad_logprobs)
    else:
        unused = unused & (grad_entropy == 0)
        slope = all_logprobs.clamp_(min=LOWEST_LOGPROB).add_(entropy).mul_(grad_entropy).add_(grad_logprobs)
        gradient = probabilities.mul_(slope).neg_()
    gradient.scatter_add_(-1, tokens, grad_logprobs)
    return gradient.masked_fill_(unused, 0.0)  # 0 * NaN is NaN: a token outside the mask must not leak


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """log_softmax(z / temperature) over the last dimension, in fp32; always a new tensor."""
    scaled = logits if temperature == 1.0 else logits.float() / temperature
    return torch.log_softmax(scaled, -1, dtype=torch.float32)


def _parts(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `length`."""
    return (slice(start, start + size) for start in range(0, length, size))
