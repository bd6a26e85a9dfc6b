"""Forward passes over rows of tokens, for any model that transformers loads.

Rows stand as `[pad prompt | completion pad]` with all completions starting in column `start`. What comes out
stands so as well. A packed batch goes through the model without its padding, all rows in one line; transformers
sees from the positions, which begin anew, where a row ends.

Legend: B rows, T columns, C completion columns, N tokens that are not padding, V vocabulary, H hidden size.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from concordant.errors import UserError


class Batch(Protocol):
    """Rows as a forward pass takes them: `data.batches.Padded` is one."""

    @property
    def ids_BT(self) -> Tensor: ...
    @property
    def attention_BT(self) -> Tensor: ...
    @property
    def start(self) -> int: ...
    @property
    def last_B(self) -> Tensor: ...
    @property
    def packed(self) -> bool: ...


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


def inputs(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """Keyword arguments of a forward pass without a cache, over (B, T) or, packed, over (1, N)."""
    attention_BT = batch.attention_BT
    places = positions(attention_BT)
    if batch.packed:
        if "position_ids" not in parameters_of(model):
            kind = type(bare(model)).__name__
            raise UserError(
                f"rows cannot be packed for a {kind}, which takes no position_ids",
                where="packing",
                expected="a model that can be told where a row begins",
                fix="set packing=false",
            )
        ids, places = batch.ids_BT[attention_BT][None], places[attention_BT][None]
        return {"input_ids": ids, "position_ids": places, "use_cache": False}
    given: dict[str, Any] = {
        "input_ids": batch.ids_BT,
        "attention_mask": attention_BT.long(),
        "use_cache": False,
    }
    if "position_ids" in parameters_of(model):
        given["position_ids"] = places
    return given


def completion_logits(
    model: nn.Module, batch: Batch, *, with_hidden: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Logits that predict the completion tokens, (B, C, V), and the hidden states they come from, (B, C, H).

    The vocabulary projection runs on the completion columns only, where the model allows it. Columns of padding
    hold nothing of meaning.
    """
    given = inputs(model, batch)
    keeps = "logits_to_keep" in parameters_of(model)
    if batch.packed:
        mask_BC = batch.attention_BT[:, batch.start :]
        number_BT = batch.attention_BT.flatten().cumsum(0).view_as(batch.attention_BT) - 1
        before = number_BT[:, batch.start :][mask_BC] - 1  # the token that predicts each one of a completion
        if keeps:
            given["logits_to_keep"] = before
        output = model(**given, output_hidden_states=with_hidden)
        logits = spread(output.logits[0] if keeps else output.logits[0, before], mask_BC)
        return logits, spread(output.hidden_states[-1][0, before], mask_BC) if with_hidden else None
    width = batch.ids_BT.shape[1] - batch.start
    if keeps:
        given["logits_to_keep"] = width + 1
    output = model(**given, output_hidden_states=with_hidden)
    logits = output.logits[:, -(width + 1) : -1]
    return logits, output.hidden_states[-1][:, batch.start - 1 : -1] if with_hidden else None


def hidden_states(model: nn.Module, batch: Batch) -> Tensor:
    """Last hidden states of the trunk, (B, T, H)."""
    trunk = bare(model).base_model
    hidden: Tensor = trunk(**inputs(trunk, batch)).last_hidden_state
    return spread(hidden[0], batch.attention_BT) if batch.packed else hidden


def spread(packed_NX: Tensor, mask: Tensor) -> Tensor:
    """Rows of `packed_NX` at the places where `mask` is True, in order; 0 elsewhere."""
    whole = packed_NX.new_zeros((*mask.shape, packed_NX.shape[-1]))
    whole[mask] = packed_NX
    return whole


def sequence_scores(reward_model: nn.Module, batch: Batch) -> Tensor:
    """One score per row, read at the last completion token, (B,) in fp32.

    The token is found by index, not by comparing ids with the pad token: with pad equal to
    end-of-sequence the two disagree. Where pad is distinct, the model's own forward pass reads the same token.
    """
    hidden = hidden_states(reward_model, batch)
    rows = torch.arange(len(batch.last_B), device=hidden.device)
    return scalar(bare(reward_model).score, hidden[rows, batch.last_B])


def scalar(head: nn.Module, hidden: Tensor) -> Tensor:
    """What a head of one output says of each hidden state, in fp32 also where the trunk runs in bfloat16.

    Three digits would be too few: scores and values are compared with each other.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        out: Tensor = head(hidden.to(next(head.parameters()).dtype))
    return out.squeeze(-1).float()
