"""Direct preference optimisation: the policy learns from pairs, without a reward model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from concordant.core import direct
from concordant.core.logprobs import sequence_logprob, token_logprobs
from concordant.data.batches import Counts, MicroBatch
from concordant.models.forward import completion_logits
from concordant.models.load import Reference
from concordant.train.config import DPOConfig, IPOConfig, ORPOConfig, PairConfig, SimPOConfig
from concordant.train.learner import Objective

DPO_LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "sigmoid": direct.sigmoid_loss,
    "hinge": direct.hinge_loss,
    "exo_pair": direct.exo_pair_loss,
    "nca_pair": direct.nca_pair_loss,
    "bco_pair": direct.bco_pair_loss,
    "sppo_hard": direct.sppo_hard_loss,
    "apo_zero": direct.apo_zero_loss,
    "apo_down": direct.apo_down_loss,
    "discopop": direct.discopop_loss,
}
DIVERGENCES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "reverse_kl": lambda ratio: ratio,
    "forward_kl": direct.forward_kl_ratio,
    "jensen_shannon": direct.jensen_shannon_ratio,
    "alpha": direct.alpha_ratio,
}


def pair_objective(policy: Any, config: PairConfig, reference: Reference | None = None) -> Objective:
    """The loss of `config.algorithm` on every pair of an example, weighted; each row is read once.

    DPO and IPO compare with a reference: with the log-probabilities that came with the rows, or with those of
    `reference`, computed on the spot. ORPO and SimPO have none. `policy/chosen_change` is by how many nats a token the
    chosen answers of the batch are more probable than to the reference: where it falls with `policy/rejected_change`,
    probability goes to answers that nobody compared (likelihood displacement, Razin et al. 2024).
    """
    loss_of = pair_loss(config)

    def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
        logprobs = completion_logprobs(policy, batch)
        compared = isinstance(config, DPOConfig | IPOConfig)
        ratios = logprobs - reference_logprobs(batch, reference) if compared else None
        c, r = worths(logprobs, ratios, batch, config)
        p = smoothed(batch.p_chosen_M, config)
        loss = direct.weighted_mean(direct.expected(loss_of, c, r, p), counts.pairs, batch.weight_M)
        metrics = {"reward/accuracy": _mean(_won(c, r, batch.p_chosen_M), batch, counts)}
        if config.nll_coef:
            totals = -sequence_logprob(logprobs, batch.loss_mask_BC)
            wanted = (
                batch.p_chosen_M * totals[batch.chosen_M] + (1 - batch.p_chosen_M) * totals[batch.rejected_M]
            )
            nll = direct.weighted_mean(wanted, counts.wanted_tokens, batch.weight_M)
            loss = loss + config.nll_coef * nll
            metrics["policy/nll"] = nll
        totals_B = sequence_logprob(logprobs, batch.loss_mask_BC).detach()
        metrics |= {
            "reward/margin": _mean(config.beta * (c - r), batch, counts),
            "reward/chosen": _mean(config.beta * c, batch, counts),
            "reward/rejected": _mean(config.beta * r, batch, counts),
            "policy/logprob_chosen": _mean(totals_B[batch.chosen_M], batch, counts),
            "policy/logprob_rejected": _mean(totals_B[batch.rejected_M], batch, counts),
        }
        if ratios is not None:
            moved_B = sequence_logprob(ratios.detach(), batch.loss_mask_BC) / _lengths(batch)
            metrics |= {
                "policy/chosen_change": _mean(moved_B[batch.chosen_M], batch, counts),
                "policy/rejected_change": _mean(moved_B[batch.rejected_M], batch, counts),
            }
        return loss, metrics

    return objective


def pair_loss(config: PairConfig) -> direct.PairLoss:
    """The loss of a pair as a function of what both completions are worth."""
    if isinstance(config, IPOConfig):
        return partial(direct.ipo_loss, beta=config.beta)
    if isinstance(config, SimPOConfig):
        return partial(direct.simpo_loss, beta=config.beta, gamma=config.gamma)
    if isinstance(config, ORPOConfig):
        return lambda c, r: config.beta * direct.orpo_odds_loss(c, r)
    loss = partial(DPO_LOSSES[config.loss], beta=config.beta)
    return direct.robust(loss, config.flip_rate) if config.flip_rate else loss


def worths(
    logprobs: Tensor, ratios: Tensor | None, batch: MicroBatch, config: PairConfig
) -> tuple[Tensor, Tensor]:
    """What both sides of each pair are worth to the policy, (M,): log-ratios, or mean log-probabilities.

    `logprobs` and `ratios` are per token, (B, C); there are ratios where the config compares with a reference.
    """
    mask, lengths = batch.loss_mask_BC, _lengths(batch)
    sides = (batch.chosen_M, batch.rejected_M)
    if ratios is None or not isinstance(config, DPOConfig | IPOConfig):
        mean = sequence_logprob(logprobs, mask) / lengths
        return mean[sides[0]], mean[sides[1]]
    if isinstance(config, DPOConfig) and config.length_alpha != 1.0:
        shared_M = torch.minimum(lengths[sides[0]], lengths[sides[1]])
        alpha = config.length_alpha
        totals = [
            direct.length_desensitised(ratios[side], mask[side], shared_M, alpha=alpha) for side in sides
        ]
    else:
        whole = sequence_logprob(ratios, mask)
        totals = [whole[side] for side in sides]
    if isinstance(config, DPOConfig):
        totals = [DIVERGENCES[config.divergence](total) for total in totals]  # of the whole, before any mean
    if config.per_token:
        totals = [total / lengths[side] for total, side in zip(totals, sides, strict=True)]
    return totals[0], totals[1]


def smoothed(p_chosen: Tensor, config: PairConfig) -> Tensor:
    """Soft labels, moved towards one half by the share of labels taken to be wrong (conservative DPO)."""
    epsilon = config.label_smoothing if isinstance(config, DPOConfig) else 0.0
    return p_chosen * (1 - epsilon) + (1 - p_chosen) * epsilon


def completion_logprobs(model: Any, batch: MicroBatch) -> Tensor:
    """Log-probabilities of the completion tokens at temperature 1, (B, C)."""
    logits, _ = completion_logits(model, batch)
    return token_logprobs(logits, batch.completion_BC)


def reference_logprobs(batch: MicroBatch, reference: Reference | None) -> Tensor:
    """Log-probabilities of the reference, (B, C): those of the rows, or computed on the spot."""
    if reference is None:
        if batch.ref_logprobs_BC is None:
            raise ValueError(
                "this objective compares with a reference, and there is none: give rows with ref_logprobs, "
                "or a Reference to compute them with"
            )
        return batch.ref_logprobs_BC
    with torch.no_grad(), reference.active():
        return completion_logprobs(reference.model, batch)


def _lengths(batch: MicroBatch) -> Tensor:
    """Counted tokens of each row, (B,); 1 for a row without any."""
    return batch.loss_mask_BC.sum(1).clamp(min=1)


def _won(c: Tensor, r: Tensor, p_chosen: Tensor) -> Tensor:
    """1 where a pair is ranked as labelled, half for a tie of the policy or of the labels."""
    return 0.5 * (1.0 + torch.sign(c - r).detach() * torch.sign(p_chosen - 0.5))


def _mean(values: Tensor, batch: MicroBatch, counts: Counts) -> Tensor:
    return (values.detach() * batch.weight_M).sum() / counts.pairs
