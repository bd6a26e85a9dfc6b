"""Sums, means and variances over the tokens that count.

Legend: B sequences, T tokens. A mask is True where an element counts. Elements outside it may hold
anything, NaN included: they are replaced before any arithmetic, because NaN * 0 is NaN.
All arithmetic is fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kept(x: Tensor, mask: Tensor) -> Tensor:
    """`x` in fp32 with 0 outside the mask; what stands outside it gets gradient 0."""
    return torch.where(mask, x.float(), 0.0)


def masked_sum(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Sum of the counted elements, over one dimension or all of them; 0 where none counts."""
    return kept(x, mask).sum() if dim is None else kept(x, mask).sum(dim)


def masked_mean(x: Tensor, mask: Tensor, denominator: Tensor | float | None = None) -> Tensor:
    """Sum of the counted elements divided by `denominator`, by default their number; 0 where none counts.

    Parts of a batch add up to its mean when each is given the denominator of the whole batch.
    """
    return masked_sum(x, mask) / (mask.sum().clamp(min=1) if denominator is None else denominator)


def masked_var(x: Tensor, mask: Tensor) -> Tensor:
    """Variance of the counted elements, sum (x - mean)^2 / (n - 1); 0 where fewer than two count."""
    deviation = kept(x, mask) - masked_mean(x, mask)
    return masked_sum(deviation.square(), mask) / (mask.sum() - 1).clamp(min=1)


def whiten(x_BT: Tensor, mask_BT: Tensor, shift_mean: bool = True) -> Tensor:
    """(x - mean) / sqrt(var + 1e-8) over all counted elements, 0 elsewhere, (B, T).

    `shift_mean=False` changes the scale only and gives the mean back. Call it on a whole rollout,
    never on a micro-batch: the statistics are those of what is passed in.
    """
    mean = masked_mean(x_BT, mask_BT)
    whitened = (kept(x_BT, mask_BT) - mean) * torch.rsqrt(masked_var(x_BT, mask_BT) + 1e-8)
    return kept(whitened if shift_mean else whitened + mean, mask_BT)


def require_same_shape(**tensors: Tensor | None) -> None:
    """Raise ValueError unless all shapes agree: broadcasting would turn the mistake into a plausible loss."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if tensor is not None}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"these must have the same shape: {told}")
