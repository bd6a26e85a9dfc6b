"""Reward modelling: the preferred completion should score higher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from concordant.core.preferences import bradley_terry_loss
from concordant.data.batches import Counts, MicroBatch
from concordant.models.forward import sequence_scores
from concordant.train.learner import Objective


def reward_objective(reward_model: Any, *, centering: float) -> Objective:
    """Bradley–Terry on every comparison of an example, weighted; each row is scored once.

    A ranking of K completions is one example with up to K(K-1)/2 comparisons of weight
    2/(K(K-1)), so that a prompt counts once however many completions it has (Ouyang et al. 2022).
    """

    def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
        scores = sequence_scores(reward_model, batch)
        chosen, rejected = scores[batch.chosen_M], scores[batch.rejected_M]
        given = (chosen, rejected, counts.pairs)
        # Pair by pair: which term a comparison gets must not depend on its neighbours in the micro-batch.
        with_margin = batch.margin_M != 0
        labelled = torch.where(with_margin, 0.0, batch.weight_M)
        apart = torch.where(with_margin, batch.weight_M, 0.0)
        loss = bradley_terry_loss(
            *given, p_chosen=batch.p_chosen_M, weight=labelled, centering=centering
        ) + bradley_terry_loss(*given, margin=batch.margin_M, weight=apart, centering=centering)
        # Ranked as labelled; half for a tie, of the scores or of the labels.
        agreement = torch.sign(chosen - rejected) * torch.sign(batch.p_chosen_M - 0.5)
        won = 0.5 * (1.0 + agreement.detach())
        return loss, {"reward/accuracy": (won * batch.weight_M).sum() / counts.pairs}

    return objective
