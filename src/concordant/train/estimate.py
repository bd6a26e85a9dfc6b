"""From a rollout and its scores to what an update is computed from: advantages, returns, and figures.

Legend: N completions of a rollout, C completion tokens (padded on the right).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from concordant.core.advantages import (
    gae,
    group_centred,
    group_normalised,
    leave_one_out,
    overlong_penalty,
    returns_to_go,
    token_rewards,
)
from concordant.core.kl import k1
from concordant.core.logprobs import sequence_logprob, token_logprobs
from concordant.core.masked import kept, masked_mean, whiten
from concordant.data.batches import Example, MicroBatch
from concordant.models.critic import Critic
from concordant.models.forward import completion_logits
from concordant.models.load import Reference
from concordant.rollout.rollout import Rollout
from concordant.train.config import CriticFreeConfig, PPOConfig
from concordant.train.learner import Learner
from concordant.train.objectives.on_policy import Targets
from concordant.train.rewards import ScoreNorm, Scores, zero_variance

OnPolicy = PPOConfig | CriticFreeConfig
AGAINST_GROUP = {
    "leave_one_out": leave_one_out,
    "normalised": group_normalised,
    "centred": group_centred,
}


@dataclass(frozen=True)
class Models:
    """Who takes part in an update."""

    policy: Any  # trained
    reference: Reference  # frozen
    critic: Critic | None = None  # trained; PPO alone has one


@dataclass(frozen=True)
class Frozen:
    """What the models say of a rollout before it is learnt from, padded to (N, C)."""

    examples: tuple[Example, ...]
    loss_mask: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor  # 0 without a critic


@torch.no_grad()
def freeze(models: Models, learner: Learner, rollout: Rollout, config: OnPolicy) -> Frozen:
    """Log-probabilities of the reference and values of the critic; the policy's own came with the samples."""
    examples = tuple(sample.example for sample in rollout.samples)
    width = max(len(sample.completion) for sample in rollout.samples)
    shape = (len(examples), width)
    device = learner.machine.device
    ref_logprobs, values = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
    old_logprobs, mask = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    for n, sample in enumerate(rollout.samples):
        old_logprobs[n, : len(sample.logprobs)] = torch.tensor(sample.logprobs)
        mask[n, : len(sample.completion)] = True

    def read(batch: MicroBatch) -> None:
        columns = batch.loss_mask_BC.shape[1]
        with models.reference.active():
            logits, _ = completion_logits(models.reference.model, batch)
        if models.critic is not None:
            hidden = None
            if models.critic.needs_policy_hidden:
                _, hidden = completion_logits(models.policy, batch, with_hidden=True)
            values[batch.index_B, :columns] = models.critic(batch, hidden)
        logprobs = token_logprobs(logits, batch.completion_BC, config.temperature)
        ref_logprobs[batch.index_B, :columns] = logprobs

    learner.read(examples, read)
    mask = mask.to(device)
    zero = torch.zeros((), device=device)
    return Frozen(
        examples,
        mask,
        old_logprobs.to(device),
        torch.where(mask, ref_logprobs, zero),
        torch.where(mask, values, zero),
    )


def final_scores(rollout: Rollout, scores: Tensor, norm: ScoreNorm, config: OnPolicy) -> Tensor:
    """Normalised, clipped scores, less the penalties for a completion that never stopped or is too long."""
    final = norm(scores)
    if config.score_clip:
        final = final.clamp(-config.score_clip, config.score_clip)
    if isinstance(config, CriticFreeConfig) and config.overlong_buffer:
        lengths = torch.tensor([len(sample.completion) for sample in rollout.samples])
        final = final + overlong_penalty(lengths, config.completion, config.overlong_buffer)
    ended = torch.tensor([sample.ended for sample in rollout.samples])
    return final - config.missing_eos_penalty * (~ended).float()


def estimate(
    rollout: Rollout,
    given: Tensor | Scores,
    frozen: Frozen,
    norm: ScoreNorm,
    kl_coef: float,
    config: OnPolicy,
) -> tuple[Targets, dict[str, float]]:
    """Advantages and returns of a rollout, and the figures that describe it.

    A completion without a score has no advantage, and is left out of all means.
    """
    mask, judged = frozen.loss_mask, Scores.of(given)
    final = final_scores(rollout, judged.values, norm, config).to(mask.device)
    kl = k1(frozen.old_logprobs, frozen.ref_logprobs)
    summary = described(rollout, judged, final, kl, mask, norm, kl_coef)
    known_N1 = judged.known.to(mask.device)[:, None]
    in_reward = kl_coef if config.kl == "reward" else 0.0
    if isinstance(config, PPOConfig):
        rewards = token_rewards(final, kl, mask, in_reward)
        advantages, returns = gae(rewards, frozen.values, mask, config.gamma, config.lam)
        summary |= value_figures(frozen.values, returns, mask)
    elif config.advantage == "to_go":
        returns = returns_to_go(token_rewards(final, kl, mask, in_reward), mask, config.gamma)
        advantages = returns
    else:
        group_N = torch.tensor(rollout.groups, device=mask.device)
        total_N = final - in_reward * sequence_logprob(kl, mask)
        advantage_N = AGAINST_GROUP[config.advantage](total_N, group_N, known_N1[:, 0])
        advantages = returns = kept(advantage_N[:, None].expand_as(kl), mask)
    if config.whiten:
        advantages = whiten(advantages, mask & known_N1)
    # The critic, a bonus or a penalty in the loss pull on every completion; advantages on those that have one.
    all_pull = isinstance(config, PPOConfig) or config.ent_coef or (kl_coef and config.kl != "reward")
    pulls_N = (advantages != 0).any(1) | bool(all_pull)
    pulling = frozenset(pulls_N.nonzero().flatten().tolist())
    given_targets = (frozen.old_logprobs, frozen.ref_logprobs, frozen.values, advantages, returns)
    return Targets(*given_targets, pulling=pulling), summary


def described(
    rollout: Rollout,
    judged: Scores,
    final: Tensor,
    kl: Tensor,
    mask: Tensor,
    norm: ScoreNorm,
    kl_coef: float,
) -> dict[str, float]:
    """Figures of a rollout and its scores; `final` are the scores as they are learnt from, `kl` is per token."""
    known, samples = judged.known, rollout.samples
    scores = judged.values[known]
    kl_N = sequence_logprob(kl, mask)
    figures = {
        "objective/kl": float(kl_N.mean()),
        "objective/kl_per_token": float(masked_mean(kl, mask)),
        "objective/kl_coef": kl_coef,
        "objective/score": _mean(scores),
        "objective/score_std": float(scores.std()) if len(scores) > 1 else 0.0,
        "objective/score_normalised": _mean(norm(scores)),
        "objective/rlhf_reward": _mean((final - kl_coef * kl_N)[known.to(mask.device)]),
        "objective/non_score_reward": float((-kl_coef * kl_N).mean()),
        "rollout/length": float(mask.sum(1).float().mean()),
        "rollout/eos_rate": sum(s.ended for s in samples) / len(samples),
        "rollout/unique": len({s.completion for s in samples}) / len(samples),
        **zero_variance(rollout, judged),
        **{f"score/{name}": _mean(part[known]) for name, part in judged.parts.items()},
    }
    if not known.all():
        figures["objective/unscored"] = float((~known).float().mean())
    return figures


def value_figures(values: Tensor, returns: Tensor, mask: Tensor) -> dict[str, float]:
    """How much of the returns the critic foresaw: 1 is all, 0 no more than their mean."""
    left, whole = ((x[mask]).var(unbiased=False) for x in (returns - values, returns))
    explained = 1.0 - float(left) / max(float(whole), 1e-8)
    return {"value/explained_variance": explained, "value/mean": float(masked_mean(values, mask))}


def _mean(x: Tensor) -> float:
    return float(x.mean()) if len(x) else 0.0
