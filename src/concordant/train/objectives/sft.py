"""Supervised fine-tuning: imitate the completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from concordant.core.logprobs import cross_entropy, token_logprobs
from concordant.data.batches import Counts, MicroBatch
from concordant.models.forward import completion_logits
from concordant.train.learner import Objective


def sft_objective(model: Any) -> Objective:
    """Cross-entropy of the counted tokens, end-of-sequence included."""

    def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
        logits, _ = completion_logits(model, batch)
        logprobs = token_logprobs(logits, batch.completion_BC)
        return cross_entropy(logprobs, batch.loss_mask_BC, counts.tokens), {}

    return objective
