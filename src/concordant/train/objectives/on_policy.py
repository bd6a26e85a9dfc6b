"""PPO and its critic-free relatives: clipped policy loss, value loss where there is a critic, on one rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from concordant.core.logprobs import token_logprobs_and_entropy
from concordant.core.losses import (
    clipped_policy_loss,
    clipped_value_loss,
    entropy_bonus,
    kl_penalty,
    token_weights,
)
from concordant.core.masked import masked_sum
from concordant.data.batches import Counts, MicroBatch
from concordant.models.critic import Critic
from concordant.models.forward import completion_logits
from concordant.train.config import CriticFreeConfig, PPOConfig
from concordant.train.learner import Objective

Metrics = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Targets:
    """What the update of a rollout is computed from, padded to (N completions, C tokens)."""

    old_logprobs: Tensor
    ref_logprobs: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor
    pulling: frozenset[int] = frozenset()  # completions whose gradient is not zero

    def of(self, batch: MicroBatch, offset: Tensor) -> Targets:
        """The part that belongs to a micro-batch; `offset` maps its rows to rows of the rollout."""
        rows, width = offset[batch.index_B], batch.loss_mask_BC.shape[1]
        return Targets(
            self.old_logprobs[rows, :width],
            self.ref_logprobs[rows, :width],
            self.old_values[rows, :width],
            self.advantages[rows, :width],
            self.returns[rows, :width],
        )

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, each (N, C)."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pulling"}


def on_policy_objective(
    policy: Any,
    critic: Critic | None,
    targets: Targets,
    rows: Tensor,
    config: PPOConfig | CriticFreeConfig,
    *,
    kl_coef: float = 0.0,
    policy_learns: bool = True,
) -> Objective:
    """Policy loss + kl_coef * KL + vf_coef * value loss - ent_coef * entropy, over the rollout rows `rows`.

    The KL stands here only where the config does not put it into the reward, the value loss where there is a
    critic. `policy_learns=False` leaves the value loss alone.
    """
    with_hidden = critic is not None and critic.needs_policy_hidden

    def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
        part = targets.of(batch, rows)
        with torch.set_grad_enabled(policy_learns):  # else the loss of a shared critic would move its trunk
            logits, hidden = completion_logits(policy, batch, with_hidden=with_hidden)
        logprobs, entropy = token_logprobs_and_entropy(logits, batch.completion_BC, config.temperature)
        weights = token_weights(
            batch.loss_mask_BC, counts.tokens, counts.sequences, config.average, config.completion
        )
        loss, metrics = policy_loss(logprobs, entropy, part, batch, counts, config, weights, kl_coef)
        if not policy_learns:
            loss = loss.detach() * 0.0
        if critic is not None and isinstance(config, PPOConfig):
            values = critic(batch, hidden)
            value_loss, value_metrics = clipped_value_loss(
                values,
                part.old_values,
                part.returns,
                batch.loss_mask_BC,
                counts.tokens,
                clip=config.clip_value,
                weight_BT=weights,
            )
            loss = loss + config.vf_coef * value_loss
            metrics["value/loss"] = value_loss
            metrics |= {f"value/{name}": value for name, value in value_metrics.items()}
        return loss, metrics

    return objective


def policy_loss(
    logprobs: Tensor,
    entropy: Tensor,
    part: Targets,
    batch: MicroBatch,
    counts: Counts,
    config: PPOConfig | CriticFreeConfig,
    weights: Tensor | None,
    kl_coef: float,
) -> tuple[Tensor, Metrics]:
    """The part of the loss that moves the policy, and what describes it."""
    mask = batch.loss_mask_BC
    clipped, described = clipped_policy_loss(
        logprobs,
        part.old_logprobs,
        part.advantages,
        mask,
        counts.tokens,
        clip_low=config.clip,
        clip_high=config.clip if config.clip_high is None else config.clip_high,
        ratio=config.ratio,
        weight_BT=weights,
    )
    bonus = entropy_bonus(entropy, mask, counts.tokens, weights)
    loss = clipped - config.ent_coef * bonus
    metrics = {
        "policy/loss": clipped,
        "policy/entropy": bonus if weights is None else entropy_bonus(entropy, mask, counts.tokens),
        "policy/logprob_gap": masked_sum((logprobs - part.old_logprobs).abs(), mask) / counts.tokens,
        **{f"policy/{name}": value for name, value in described.items()},
    }
    if config.kl != "reward" and kl_coef:
        drift = kl_penalty(
            logprobs,
            part.old_logprobs,
            part.ref_logprobs,
            mask,
            counts.tokens,
            estimator=config.kl,
            weight_BT=weights,
        )
        loss = loss + kl_coef * drift
        metrics["policy/kl_loss"] = drift
    return loss, metrics
