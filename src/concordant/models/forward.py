"""Forward passes over padded rows, for any model that transformers loads.

Rows stand as `[pad prompt | completion pad]` with all completions starting in column `start`.
Legend: B rows, T columns, C completion columns, V vocabulary, H hidden size.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn


def bare(model: nn.Module) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself. Adapters stay active inside it."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped


def parameters_of(model: nn.Module) -> frozenset[str]:
    """Names of the arguments that the model's forward pass knows."""
    return frozenset(inspect.signature(bare(model).forward).parameters)


def positions(attention_BT: Tensor) -> Tensor:
    """Position of each token in its own row, counted from the first one that is not padding."""
    return (attention_BT.long().cumsum(1) - 1).clamp(min=0)


def inputs(model: nn.Module, ids_BT: Tensor, attention_BT: Tensor) -> dict[str, Any]:
    """Keyword arguments of a forward pass without a cache."""
    known = parameters_of(model)
    given: dict[str, Any] = {"input_ids": ids_BT, "attention_mask": attention_BT.long(), "use_cache": False}
    if "position_ids" in known:
        given["position_ids"] = positions(attention_BT)
    return given


def completion_logits(
    model: nn.Module, ids_BT: Tensor, attention_BT: Tensor, start: int, *, with_hidden: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Logits that predict the completion tokens, (B, C, V), and the hidden states they come from, (B, C, H).

    The vocabulary projection runs on the completion columns only, where the model allows it.
    """
    given = inputs(model, ids_BT, attention_BT)
    width = ids_BT.shape[1] - start
    if "logits_to_keep" in parameters_of(model):
        given["logits_to_keep"] = width + 1
    output = model(**given, output_hidden_states=with_hidden)
    logits = output.logits[:, -(width + 1) : -1]
    hidden = output.hidden_states[-1][:, start - 1 : -1] if with_hidden else None
    return logits, hidden


def hidden_states(model: nn.Module, ids_BT: Tensor, attention_BT: Tensor) -> Tensor:
    """Last hidden states of the trunk, (B, T, H)."""
    trunk = bare(model).base_model
    hidden: Tensor = trunk(**inputs(trunk, ids_BT, attention_BT)).last_hidden_state
    return hidden


def sequence_scores(reward_model: nn.Module, ids_BT: Tensor, attention_BT: Tensor, last_B: Tensor) -> Tensor:
    """One score per row, read at the last completion token, (B,) in fp32.

    The token is found by index, not by comparing ids with the pad token: with pad equal to
    end-of-sequence the two disagree. Where pad is distinct, the model's own forward pass reads the same token.
    """
    hidden = hidden_states(reward_model, ids_BT, attention_BT)
    rows = torch.arange(len(last_B), device=hidden.device)
    return scalar(bare(reward_model).score, hidden[rows, last_B])


def scalar(head: nn.Module, hidden: Tensor) -> Tensor:
    """What a head of one output says of each hidden state, in fp32 also where the trunk runs in bfloat16.

    Three digits would be too few: scores and values are compared with each other.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        out: Tensor = head(hidden.to(next(head.parameters()).dtype))
    return out.squeeze(-1).float()
