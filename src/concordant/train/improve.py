"""The second loop: learning from own rollouts.

One update, top to bottom: sample, score, penalise drift from the reference, estimate
advantages, several clipped passes over the rollout.

Legend: N completions of a rollout, C completion tokens (padded on the right).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from concordant.core.advantages import gae, token_rewards
from concordant.core.kl import AdaptiveKL, FixedKL, k1
from concordant.core.logprobs import sequence_logprob, token_logprobs
from concordant.core.masked import masked_mean, whiten
from concordant.data.batches import Example, epochs
from concordant.data.types import Prompt
from concordant.models.critic import Critic
from concordant.models.forward import completion_logits
from concordant.models.load import Reference
from concordant.rollout.rollout import Rollout, Sampler
from concordant.seeds import derive
from concordant.train.config import PPOConfig
from concordant.train.learner import Learner
from concordant.train.objectives.ppo import Targets, ppo_objective
from concordant.train.rewards import Reward, ScoreNorm, checked
from concordant.train.step import Step


@dataclass(frozen=True)
class Models:
    """Who takes part in an update."""

    policy: Any  # trained
    reference: Reference  # frozen
    critic: Critic  # trained
    reward: Reward


@dataclass(frozen=True)
class Frozen:
    """What the models say of a rollout before it is learnt from, padded to (N, C)."""

    examples: tuple[Example, ...]
    loss_mask: Tensor
    old_logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor


def improve(
    models: Models,
    sampler: Sampler,
    prompts: Sequence[tuple[Prompt, tuple[int, ...]]],
    learner: Learner,
    controller: FixedKL | AdaptiveKL,
    norm: ScoreNorm,
    config: PPOConfig,
    *,
    seed: int,
    done: int = 0,
) -> Iterator[Step]:
    """Run PPO from update `done` + 1 to the last. `prompts` come with their token ids.

    Everything random in update k depends on the seed and k alone, so a run restored from a
    checkpoint goes on exactly where it stopped.
    """
    batches = epochs(len(prompts), config.batch, config.updates, derive(seed, "prompts"))
    for number, rows in enumerate(batches, start=1):
        if number <= done:
            continue
        clock = _Clock()
        asked = tuple(prompts[i][0] for i in rows)
        rollout = sampler.sample([prompts[i][1] for i in rows], seed=derive(seed, number, "samples"))
        clock.lap("sample")
        scores = checked(models.reward.score(asked, rollout), asked, rollout)
        frozen = freeze(models, learner, rollout, config)
        clock.lap("score")
        targets, summary = estimate(rollout, scores, frozen, norm, controller.coef, config)
        policy_learns = number > config.critic_warmup
        minibatches = derive(seed, number, "minibatches")
        summary |= clipped_passes(
            models, learner, frozen, targets, config, seed=minibatches, policy_learns=policy_learns
        )
        controller.update(summary["objective/kl"], len(scores))
        clock.lap("train")
        passes = summary["policy/steps"] / config.minibatches  # fewer than epochs where the early stop came
        tokens = round(passes * sum(s.row.length for s in rollout.samples))
        yield Step(
            number, config.updates, summary, tokens, clock.laps, asked, rollout, tuple(scores.tolist())
        )


@torch.no_grad()
def freeze(models: Models, learner: Learner, rollout: Rollout, config: PPOConfig) -> Frozen:
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
    for batch in learner.batches(examples):
        given = (batch.ids_BT, batch.attention_BT, batch.start)
        columns = batch.loss_mask_BC.shape[1]
        with learner.machine.autocast():
            with models.reference.active():
                logits, _ = completion_logits(models.reference.model, *given)
            hidden = None
            if models.critic.needs_policy_hidden:
                _, hidden = completion_logits(models.policy, *given, with_hidden=True)
            values[batch.index_B, :columns] = models.critic(*given, hidden)
        logprobs = token_logprobs(logits, batch.completion_BC, config.temperature)
        ref_logprobs[batch.index_B, :columns] = logprobs
    mask = mask.to(device)
    zero = torch.zeros((), device=device)
    return Frozen(
        examples,
        mask,
        old_logprobs.to(device),
        torch.where(mask, ref_logprobs, zero),
        torch.where(mask, values, zero),
    )


def final_scores(rollout: Rollout, scores: Tensor, norm: ScoreNorm, config: PPOConfig) -> Tensor:
    """Normalised, clipped scores, less the penalty for a completion that never stopped."""
    final = norm(scores)
    if config.score_clip:
        final = final.clamp(-config.score_clip, config.score_clip)
    ended = torch.tensor([sample.ended for sample in rollout.samples])
    return final - config.missing_eos_penalty * (~ended).float()


def estimate(
    rollout: Rollout, scores: Tensor, frozen: Frozen, norm: ScoreNorm, kl_coef: float, config: PPOConfig
) -> tuple[Targets, dict[str, float]]:
    """Advantages and returns of a rollout, and the figures that describe it."""
    mask = frozen.loss_mask
    final = final_scores(rollout, scores, norm, config).to(mask.device)
    kl = k1(frozen.old_logprobs, frozen.ref_logprobs)
    rewards = token_rewards(final, kl, mask, kl_coef)
    advantages, returns = gae(rewards, frozen.values, mask, config.gamma, config.lam)
    explained = 1.0 - _variance(returns - frozen.values, mask) / max(_variance(returns, mask), 1e-8)
    kl_N = sequence_logprob(kl, mask)
    lengths = mask.sum(1).float()
    summary = {
        "objective/kl": float(kl_N.mean()),
        "objective/kl_per_token": float(masked_mean(kl, mask)),
        "objective/kl_coef": kl_coef,
        "objective/score": float(scores.mean()),
        "objective/score_std": float(scores.std()) if len(scores) > 1 else 0.0,
        "objective/score_normalised": float(norm(scores).mean()),
        "objective/rlhf_reward": float((final - kl_coef * kl_N).mean()),
        "objective/non_score_reward": float((-kl_coef * kl_N).mean()),
        "value/explained_variance": explained,
        "value/mean": float(masked_mean(frozen.values, mask)),
        "rollout/length": float(lengths.mean()),
        "rollout/eos_rate": sum(s.ended for s in rollout.samples) / len(rollout.samples),
        "rollout/unique": len({s.completion for s in rollout.samples}) / len(rollout.samples),
    }
    if config.whiten:
        advantages = whiten(advantages, mask)
    return Targets(frozen.old_logprobs, frozen.values, advantages, returns), summary


def clipped_passes(
    models: Models,
    learner: Learner,
    frozen: Frozen,
    targets: Targets,
    config: PPOConfig,
    *,
    seed: int,
    policy_learns: bool,
) -> dict[str, float]:
    """Several passes of clipped updates over one rollout; returns their mean metrics.

    The first minibatch comes before any update: its log-probabilities against the sampler's are the
    gap between the two, which is measured every time (`rollout/logprob_gap`). Where its KL already
    is too high, the figures are those of this minibatch, and `policy/steps` is 0.
    """
    n = len(frozen.examples)
    size = n // config.minibatches
    steps = 0
    seen: list[dict[str, float]] = []
    for rows in epochs(n, size, config.epochs * config.minibatches, seed):
        index = torch.tensor(rows, device=learner.machine.device)
        objective = ppo_objective(
            models.policy, models.critic, targets, index, config, policy_learns=policy_learns
        )
        metrics = learner.backward([frozen.examples[i] for i in rows], objective)
        if config.target_kl is not None and metrics["policy/approx_kl"] > 1.5 * config.target_kl:
            learner.discard()
            seen = seen or [metrics]
            break
        seen.append(metrics | learner.step())
        steps += 1
    names = sorted({name for metrics in seen for name in metrics})
    means = {name: sum(m.get(name, 0.0) for m in seen) / len(seen) for name in names}
    return means | {"rollout/logprob_gap": seen[0]["policy/logprob_gap"], "policy/steps": float(steps)}


def _variance(x: Tensor, mask: Tensor) -> float:
    return float(x[mask].var(unbiased=False))


class _Clock:
    """Seconds by activity."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now
