"""How probable answers are to the model that gave them and to the one that training started from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concordant.core.kl import k3
from concordant.core.logprobs import token_logprobs
from concordant.core.masked import masked_sum
from concordant.data.batches import MicroBatch
from concordant.evaluation.answers import Drift
from concordant.models.forward import completion_logits
from concordant.models.hardware import Machine
from concordant.models.memory import Budget
from concordant.rollout.rollout import Rollout
from concordant.train.passes import in_passes


@torch.inference_mode()
def drifts(reference: Any, rollout: Rollout, *, pad_id: int, tokens: Budget, machine: Machine) -> list[Drift]:
    """What `reference` says of completions that another model sampled, beside what that one said."""
    found: dict[int, Drift] = {}
    examples = [sample.example for sample in rollout.samples]

    def read(batch: MicroBatch) -> None:
        logits, _ = completion_logits(reference, batch)
        ref_logprobs = token_logprobs(logits, batch.completion_BC, rollout.temperature).cpu()
        rows, mask = batch.index_B.tolist(), batch.loss_mask_BC.cpu()
        logprobs = _padded([rollout.samples[i].logprobs for i in rows], ref_logprobs.shape)
        columns = (logprobs, ref_logprobs, k3(logprobs, ref_logprobs))
        sums = torch.stack([masked_sum(column, mask, dim=1) for column in columns], dim=1)
        found.update(zip(rows, (Drift(*row) for row in sums.tolist()), strict=True))

    in_passes(examples, read, tokens=tokens, pad_id=pad_id, machine=machine)
    return [found[number] for number in range(len(examples))]


def _padded(rows: Sequence[Sequence[float]], shape: torch.Size) -> Tensor:
    padded = torch.zeros(shape)
    for b, row in enumerate(rows):
        padded[b, : len(row)] = torch.tensor(row)
    return padded
