"""One update from one rollout with scores: the inner half of `improve`, open to loops of your own.

    improver = Improver(models, learner, controller, norm, config, seed=0)
    rollout = sampler.sample(prompts, samples=config.group, seed=1)
    metrics = improver.step(rollout, scores)

Penalise drift from the reference, estimate advantages, then several clipped passes over the rollout.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from concordant.core.kl import KLController
from concordant.data.batches import count, epochs
from concordant.errors import UserError
from concordant.rollout.rollout import Rollout
from concordant.seeds import derive
from concordant.train.config import CriticFreeConfig, PPOConfig
from concordant.train.estimate import Frozen, Models, OnPolicy, estimate, freeze
from concordant.train.learner import Learner
from concordant.train.objectives.on_policy import Targets, on_policy_objective
from concordant.train.rewards import ScoreNorm, Scores
from concordant.train.step import averaged

# Figures that describe the completions that were passed, rather than being parts of the loss.
PER_TOKEN = frozenset(
    f"policy/{name}" for name in ("ratio", "approx_kl", "clip_fraction", "entropy", "logprob_gap")
)

BRAKED_KL_COEF = 0.05  # the least penalty after braking


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

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state()` gave."""
        self.number = int(state["number"])
        self.controller.load_state(state["controller"])
        self.norm = ScoreNorm(**state["norm"])

    def brake(self) -> None:
        """Go on more carefully: twice the KL penalty, where there was none a usual one, and half the learning rates."""
        self.controller.coef = max(2 * self.controller.coef, BRAKED_KL_COEF)
        self.learner.pace /= 2

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
        if math.isfinite(summary["objective/kl"]):  # else no step of this update was taken
            self.controller.update(summary["objective/kl"], len(rollout.samples))
        return summary

    def _check(self, rollout: Rollout, scores: Scores) -> None:
        """Refuse what would be learnt from without a word and wrongly."""
        n, config = len(rollout.samples), self.config
        if scores.values.shape != (n,):
            raise ValueError(f"{n} completions need as many scores, not a shape {tuple(scores.values.shape)}")
        if not torch.isfinite(scores.values[scores.known]).all():
            raise ValueError("a score is not finite")
        if not all(math.isfinite(logprob) for sample in rollout.samples for logprob in sample.logprobs):
            raise UserError(
                "the sampler gave a log-probability that is not finite",
                where=f"the rollout of update {self.number + 1}",
                expected="finite numbers: a policy without NaN or infinity in its weights and activations",
                fix="set machine.precision=float32, or go back to an earlier model",
            )
        if rollout.temperature != config.temperature:
            raise ValueError(
                f"sampled at temperature {rollout.temperature}, but the config says {config.temperature}"
            )
        if n % config.minibatches:
            raise ValueError(f"{n} completions cannot be cut into {config.minibatches} equal minibatches")
        against_group = isinstance(config, CriticFreeConfig) and config.advantage != "to_go"
        if not against_group and not scores.known.all():
            raise UserError(
                f"{int((~scores.known).sum())} of {n} completions have no score",
                where="policy.rewards",
                expected=f"a score for every completion, as policy.algorithm = {config.algorithm!r} needs",
                fix="let the reward give a number each time, or compare groups: rloo, grpo",
            )
        if against_group and min(Counter(rollout.groups).values()) < 2:
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
            if config.early_stop_kl is not None and metrics["policy/approx_kl"] > 1.5 * config.early_stop_kl:
                learner.discard()
                seen = seen or [metrics]
                break
            seen.append(metrics | learner.step())
            steps += 1
        return averaged(seen) | {
            "rollout/logprob_gap": seen[0]["policy/logprob_gap"],
            "policy/steps": float(steps),
        }

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
        beside = targets.tensors() | {"rows": torch.tensor(learning)}
        metrics = self.learner.backward(passed, objective, counts=counts, beside=beside)
        seen = count(passed).tokens / counts.tokens
        return {name: value / seen if name in PER_TOKEN else value for name, value in metrics.items()}
