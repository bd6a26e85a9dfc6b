"""One update from one rollout with scores: the inner half of `improve`, open to loops of your own.

    improver = Improver(models, learner, controller, norm, config, seed=0)
    rollout = sampler.sample(prompts, samples=config.group, seed=1)
    metrics = improver.step(rollout, scores)

Penalise drift from the reference, estimate advantages, then several clipped passes over the rollout.

Legend: N completions of a rollout, C completion tokens (padded on the right).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
from concordant.core.kl import KLController, k1
from concordant.core.logprobs import sequence_logprob, token_logprobs
from concordant.core.masked import kept, masked_mean, whiten
from concordant.data.batches import Example, count, epochs
from concordant.errors import UserError
from concordant.models.critic import Critic
from concordant.models.forward import completion_logits
from concordant.models.load import Reference
from concordant.rollout.rollout import Rollout
from concordant.seeds import derive
from concordant.train.config import CriticFreeConfig, PPOConfig
from concordant.train.learner import Learner
from concordant.train.objectives.on_policy import Targets, on_policy_objective
from concordant.train.rewards import ScoreNorm, Scores

OnPolicy = PPOConfig | CriticFreeConfig
AGAINST_GROUP = {
    "leave_one_out": leave_one_out,
    "normalised": group_normalised,
    "centred": group_centred,
}

# Figures that describe the completions that were passed, rather than being parts of the loss.
PER_TOKEN = frozenset(
    f"policy/{name}" for name in ("ratio", "approx_kl", "clip_fraction", "entropy", "logprob_gap")
)


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


class Improver:
    """Takes rollouts with their scores and moves the policy; see the module's docstring.

    Everything random in update k depends on the seed and k alone. `number` is the last update taken: set it
    to go on from a checkpoint.
    """

    def __init__(
        self,
        models: Models,
        learner: Learner,
        controller: KLController,
        norm: ScoreNorm,
        config: OnPolicy,
        *,
        seed: int,
        number: int = 0,
    ) -> None:
        if isinstance(config, PPOConfig) != (models.critic is not None):
            raise ValueError("PPO needs a critic, and the others have no use for one")
        self.models = models
        self.learner = learner
        self.controller = controller
        self.norm = norm
        self.config = config
        self.seed = seed
        self.number = number

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the learner's state."""
        norm = {"mean": self.norm.mean, "std": self.norm.std}
        return {"number": self.number, "controller": self.controller.state(), "norm": norm}

    def load_state(self, state: Mapping[str, Any] | None) -> None:
        """Go on from what `state()` gave; None changes nothing."""
        if state is not None:
            self.number = int(state["number"])
            self.controller.load_state(state["controller"])
            self.norm = ScoreNorm(**state["norm"])

    def step(
        self, rollout: Rollout, scores: Tensor | Sequence[float] | Scores, frozen: Frozen | None = None
    ) -> dict[str, float]:
        """Learn from a rollout and one score per completion, (N,); returns the metrics of the update.

        `frozen` is what `freeze` gave for this rollout, where a caller wants to time it by itself.
        """
        scores = Scores.of(scores)
        self._check(rollout, scores)
        self.number += 1
        if frozen is None:
            frozen = freeze(self.models, self.learner, rollout, self.config)
        targets, summary = estimate(rollout, scores, frozen, self.norm, self.controller.coef, self.config)
        summary |= self._clipped_passes(frozen, targets)
        self.controller.update(summary["objective/kl"], len(rollout.samples))
        return summary

    def _check(self, rollout: Rollout, scores: Scores) -> None:
        """Refuse what would be learnt from without a word and wrongly."""
        n, config = len(rollout.samples), self.config
        if scores.values.shape != (n,):
            raise ValueError(f"{n} completions need as many scores, not a shape {tuple(scores.values.shape)}")
        if not torch.isfinite(scores.values[scores.known]).all():
            raise ValueError("a score is not finite")
        if rollout.temperature != config.temperature:
            raise ValueError(
                f"sampled at temperature {rollout.temperature}, but the config says {config.temperature}"
            )
        if n % config.minibatches:
            raise ValueError(f"{n} completions cannot be cut into {config.minibatches} equal minibatches")
        groups = Counter(sample.prompt for sample in rollout.samples)
        if isinstance(config, CriticFreeConfig) and config.advantage != "to_go" and min(groups.values()) < 2:
            raise ValueError(
                f"{config.algorithm} compares the completions of a prompt: sample with samples=config.group"
            )

    def _clipped_passes(self, frozen: Frozen, targets: Targets) -> dict[str, float]:
        """Several passes of clipped updates over one rollout; returns their mean metrics.

        The first minibatch comes before any update: its log-probabilities against the sampler's are the
        gap between the two, which is measured every time (`rollout/logprob_gap`). Where its KL already
        is too high, the figures are those of this minibatch, and `policy/steps` is 0.
        """
        config, learner = self.config, self.learner
        n = len(frozen.examples)
        steps = 0
        seen: list[dict[str, float]] = []
        shuffled = derive(self.seed, self.number, "minibatches")
        for rows in epochs(n, n // config.minibatches, config.epochs * config.minibatches, shuffled):
            metrics = self._backward(frozen, targets, rows)
            if config.target_kl is not None and metrics["policy/approx_kl"] > 1.5 * config.target_kl:
                learner.discard()
                seen = seen or [metrics]
                break
            seen.append(metrics | learner.step())
            steps += 1
        names = sorted({name for metrics in seen for name in metrics})
        means = {name: sum(m.get(name, 0.0) for m in seen) / len(seen) for name in names}
        return means | {"rollout/logprob_gap": seen[0]["policy/logprob_gap"], "policy/steps": float(steps)}

    def _backward(self, frozen: Frozen, targets: Targets, rows: Sequence[int]) -> dict[str, float]:
        """Gradient of one minibatch. Completions that pull nowhere cost no forward pass, and still count."""
        config = self.config
        learning = [i for i in rows if i in targets.pulling] or list(rows[:1])
        warming_up = isinstance(config, PPOConfig) and self.number <= config.critic_warmup
        objective = on_policy_objective(
            self.models.policy,
            self.models.critic,
            targets,
            torch.tensor(learning, device=self.learner.machine.device),
            config,
            kl_coef=self.controller.coef,
            policy_learns=not warming_up,
        )
        passed = [frozen.examples[i] for i in learning]
        counts = count(frozen.examples[i] for i in rows)
        metrics = self.learner.backward(passed, objective, counts=counts)
        seen = count(passed).tokens / counts.tokens
        return {name: value / seen if name in PER_TOKEN else value for name, value in metrics.items()}


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
    for batch in learner.batches(examples):
        given = (batch.ids_BT, batch.attention_BT, batch.start)
        columns = batch.loss_mask_BC.shape[1]
        with learner.machine.autocast():
            with models.reference.active():
                logits, _ = completion_logits(models.reference.model, *given)
            if models.critic is not None:
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
    """Advantages and returns of a rollout, and the figures that describe it."""
    mask, judged = frozen.loss_mask, Scores.of(given)
    against_group = isinstance(config, CriticFreeConfig) and config.advantage != "to_go"
    if not against_group and not judged.known.all():
        raise UserError(
            f"{int((~judged.known).sum())} of {len(judged.known)} completions have no score",
            expected=f"a score for every completion, as policy.algorithm = {config.algorithm!r} needs",
            fix="let the reward give a number each time, or compare groups: rloo, grpo",
        )
    final = final_scores(rollout, judged.values, norm, config).to(mask.device)
    scores = judged.values[judged.known]
    kl = k1(frozen.old_logprobs, frozen.ref_logprobs)
    kl_N = sequence_logprob(kl, mask)
    summary = {
        "objective/kl": float(kl_N.mean()),
        "objective/kl_per_token": float(masked_mean(kl, mask)),
        "objective/kl_coef": kl_coef,
        "objective/score": float(scores.mean()) if len(scores) else 0.0,
        "objective/score_std": float(scores.std()) if len(scores) > 1 else 0.0,
        "objective/score_normalised": float(norm(scores).mean()) if len(scores) else 0.0,
        "objective/rlhf_reward": float((final - kl_coef * kl_N)[judged.known].mean()),
        "objective/non_score_reward": float((-kl_coef * kl_N).mean()),
        "rollout/length": float(mask.sum(1).float().mean()),
        "rollout/eos_rate": sum(s.ended for s in rollout.samples) / len(rollout.samples),
        "rollout/unique": len({s.completion for s in rollout.samples}) / len(rollout.samples),
    }
    summary |= {f"score/{name}": float(part[judged.known].mean()) for name, part in judged.parts.items()}
    if not judged.known.all():
        summary["objective/unscored"] = float((~judged.known).float().mean())
    in_reward = kl_coef if config.kl == "reward" else 0.0
    if isinstance(config, PPOConfig):
        rewards = token_rewards(final, kl, mask, in_reward)
        advantages, returns = gae(rewards, frozen.values, mask, config.gamma, config.lam)
        left = _variance(returns - frozen.values, mask) / max(_variance(returns, mask), 1e-8)
        summary |= {
            "value/explained_variance": 1.0 - left,
            "value/mean": float(masked_mean(frozen.values, mask)),
        }
    elif config.advantage == "to_go":
        returns = returns_to_go(token_rewards(final, kl, mask, in_reward), mask, config.gamma)
        advantages = returns
    else:
        group_N = torch.tensor([sample.prompt for sample in rollout.samples], device=mask.device)
        known_N = judged.known.to(mask.device)
        advantage_N = AGAINST_GROUP[config.advantage](final - in_reward * kl_N, group_N, known_N)
        advantages = kept(advantage_N[:, None].expand_as(kl), mask)
        returns = advantages
    if config.whiten:
        advantages = whiten(advantages, mask & judged.known.to(mask.device)[:, None])
    pulls_N = (advantages != 0).any(1) | bool(config.ent_coef or (kl_coef and config.kl != "reward"))
    if isinstance(config, PPOConfig):
        pulls_N = torch.ones_like(pulls_N)  # the critic learns from all
    targets = Targets(
        frozen.old_logprobs,
        frozen.ref_logprobs,
        frozen.values,
        advantages,
        returns,
        pulling=frozenset(pulls_N.nonzero().flatten().tolist()),
    )
    return targets, summary


def _variance(x: Tensor, mask: Tensor) -> float:
    return float(x[mask].var(unbiased=False))
