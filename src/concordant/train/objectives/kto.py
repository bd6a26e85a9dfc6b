"""KTO: completions judged one by one, each against how far the policy has drifted on average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from concordant.core import direct
from concordant.core.logprobs import sequence_logprob
from concordant.data.batches import Counts, Example, MicroBatch
from concordant.models.hardware import Machine
from concordant.models.load import Reference
from concordant.models.memory import Budget
from concordant.train.config import KTOConfig
from concordant.train.learner import Objective
from concordant.train.objectives.direct import completion_logprobs, reference_logprobs
from concordant.train.passes import in_passes


def kto_objective(
    policy: Any,
    config: KTOConfig,
    *,
    pad_id: int,
    machine: Machine,
    reference: Reference | None = None,
    say: Callable[[str], None] | None = None,
) -> Callable[[Sequence[Example]], Objective]:
    """From the examples of an optimiser step to its objective.

    The baseline z is the mean log-ratio of completions that answer another prompt (`Example.mismatched`), over
    the whole optimiser batch and without gradient, so it is computed before any micro-batch is learnt from.
    `say` hears of it where memory gives out meanwhile.
    """
    budget = Budget(config.tokens, "tokens", say)

    def prepared(examples: Sequence[Example]) -> Objective:
        mismatched = [Example((one.mismatched,)) for one in examples if one.mismatched is not None]
        ratios = torch.zeros(len(mismatched), device=machine.device)

        def read(batch: MicroBatch) -> None:
            ratios[batch.index_B] = log_ratio(policy, batch, reference)

        with torch.no_grad():
            in_passes(mismatched, read, tokens=budget, pad_id=pad_id, machine=machine)
        z = direct.kto_baseline(ratios)

        def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
            ratio = log_ratio(policy, batch, reference)
            good = batch.desirable_B
            loss_B = direct.kto_loss(ratio, good, z, beta=config.beta)
            weight = torch.where(good, config.desirable_weight, config.undesirable_weight)
            loss = direct.weighted_mean(loss_B, counts.row_weight, weight * batch.row_weight_B)
            reward = config.beta * ratio.detach() * batch.row_weight_B
            undesirable = counts.row_weight - counts.desirable
            return loss, {
                "reward/desirable": reward[good].sum() / (counts.desirable or 1.0),
                "reward/undesirable": reward[~good].sum() / (undesirable or 1.0),
                "objective/kl": z * len(batch.ids_BT) / counts.sequences,
            }

        return objective

    return prepared


def log_ratio(policy: Any, batch: MicroBatch, reference: Reference | None) -> Tensor:
    """log pi - log reference of each completion, (B,)."""
    ratios = completion_logprobs(policy, batch) - reference_logprobs(batch, reference)
    return sequence_logprob(ratios, batch.loss_mask_BC)
