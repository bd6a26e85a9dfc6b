"""PPO: clipped policy and value losses on one rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from concordant.core.logprobs import token_logprobs_and_entropy
from concordant.core.losses import clipped_policy_loss, clipped_value_loss, entropy_bonus
from concordant.core.masked import masked_sum
from concordant.data.batches import Counts, MicroBatch
from concordant.models.critic import Critic
from concordant.models.forward import completion_logits
from concordant.train.config import PPOConfig
from concordant.train.learner import Objective


@dataclass(frozen=True, slots=True)
class Targets:
    """What the update of a rollout is computed from, padded to (N completions, C tokens)."""

    old_logprobs: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor

    def of(self, batch: MicroBatch, offset: Tensor) -> Targets:
        """The part that belongs to a micro-batch; `offset` maps its rows to rows of the rollout."""
        rows, width = offset[batch.index_B], batch.loss_mask_BC.shape[1]
        return Targets(
            *(t[rows, :width] for t in (self.old_logprobs, self.old_values, self.advantages, self.returns))
        )


def ppo_objective(
    policy: Any,
    critic: Critic,
    targets: Targets,
    rows: Tensor,
    config: PPOConfig,
    *,
    policy_learns: bool = True,
) -> Objective:
    """Policy loss + vf_coef * value loss - ent_coef * entropy, over the rollout rows given by `rows`."""

    def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
        with torch.set_grad_enabled(policy_learns):  # else the loss of a shared critic would move its trunk
            logits, hidden = completion_logits(
                policy, batch.ids_BT, batch.attention_BT, batch.start, with_hidden=critic.needs_policy_hidden
            )
        logprobs, entropy = token_logprobs_and_entropy(logits, batch.completion_BC, config.temperature)
        values = critic(batch.ids_BT, batch.attention_BT, batch.start, hidden)
        part, mask = targets.of(batch, rows), batch.loss_mask_BC
        policy_loss, policy_metrics = clipped_policy_loss(
            logprobs,
            part.old_logprobs,
            part.advantages,
            mask,
            counts.tokens,
            clip_low=config.clip,
            clip_high=config.clip if config.clip_high is None else config.clip_high,
        )
        value_loss, value_metrics = clipped_value_loss(
            values, part.old_values, part.returns, mask, counts.tokens, clip=config.clip_value
        )
        bonus = entropy_bonus(entropy, mask, counts.tokens)
        gap = masked_sum((logprobs - part.old_logprobs).abs(), mask) / counts.tokens
        loss = config.vf_coef * value_loss
        if policy_learns:
            loss = loss + policy_loss - config.ent_coef * bonus
        metrics = {
            "policy/loss": policy_loss,
            "policy/entropy": bonus,
            "policy/logprob_gap": gap,
            "value/loss": value_loss,
            **{f"policy/{name}": value for name, value in policy_metrics.items()},
            **{f"value/{name}": value for name, value in value_metrics.items()},
        }
        return loss, metrics

    return objective
