"""How probable a model finds text that it did not write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from concordant.core.logprobs import token_logprobs
from concordant.data.batches import Example, MicroBatch, Row
from concordant.models.forward import completion_logits
from concordant.models.hardware import Machine
from concordant.models.memory import Budget
from concordant.train.passes import in_passes


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Of the counted tokens of a completion behind its prompt."""

    logprob: float  # their sum, in nats
    greedy: bool  # each of them is the most probable one


@torch.inference_mode()
def likelihoods(
    model: Any,
    rows: Sequence[Row],
    *,
    tokens: Budget,
    pad_id: int,
    machine: Machine,
    check: Callable[[], None] | None = None,
) -> list[Likelihood]:
    """The likelihood of each row's completion, at temperature 1, in the order of the rows.

    `check` is called between two passes and may raise.
    """
    sums = torch.zeros(len(rows))
    greedy = torch.zeros(len(rows), dtype=torch.bool)

    def read(batch: MicroBatch) -> None:
        logits, _ = completion_logits(model, batch)
        counted = batch.loss_mask_BC
        logprobs = token_logprobs(logits, batch.completion_BC).masked_fill(~counted, 0.0)
        first = logits.argmax(-1) == batch.completion_BC
        places = batch.index_B.cpu()
        sums[places] = logprobs.sum(1).cpu()
        greedy[places] = (first | ~counted).all(1).cpu()
        if check is not None:
            check()

    in_passes([Example((row,)) for row in rows], read, tokens=tokens, pad_id=pad_id, machine=machine)
    return [Likelihood(*found) for found in zip(sums.tolist(), greedy.tolist(), strict=True)]


def windows(ids: Sequence[int], prefix: int, limit: int) -> Iterator[Row]:
    """Rows of at most `limit` tokens that predict each token of a text once; `prefix` stands before the first.

    A window goes on where the one before ended, with one token of context at least; the last one has as much as there
    is room for. So does lm-evaluation-harness.
    """
    if limit < 2:
        raise ValueError("a window needs room for a token and one before it")
    whole, step, done = (prefix, *ids), limit - 1, 0
    while done < len(ids):
        end = min(done + step, len(ids))
        begin = max(0, end - step)
        yield Row(whole[begin : done + 1], whole[done + 1 : end + 1])
        done = end
