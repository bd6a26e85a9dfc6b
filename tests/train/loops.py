"""Both loops on tiny models, put together as the stages of a run put them together."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from concordant.core.kl import AdaptiveKL, FixedKL
from concordant.data.batches import Example, Pair, Row
from concordant.data.types import Prompt
from concordant.models.config import AdapterConfig
from concordant.models.critic import Critic, SharedCritic, TrunkCritic
from concordant.models.load import add_adapter, load_policy, new_reward_model, reference_of
from concordant.rollout.rollout import Rollout
from concordant.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from concordant.train.config import CriticFreeConfig, FitConfig, OptimizerConfig, PPOConfig
from concordant.train.estimate import Models
from concordant.train.improve import improve
from concordant.train.improver import Improver
from concordant.train.learner import Group, Learner
from concordant.train.rewards import Reward, RewardModel, ScoreNorm
from concordant.train.step import Step
from tinies import MACHINE, PAD, random_prompts, sampler_of, weights

SMALL: dict[str, Any] = {"batch": 12, "completion": 8, "updates": 3, "tokens": 120, "kl_coef": 0.1}


def learner_of(
    *modules: Any,
    lr: float = 1e-3,
    tokens: int = 10_000,
    total: int = 100,
    packing: bool = False,
    skipped: Path | None = None,
    say: Callable[[str], None] | None = None,
    **changed: Any,
) -> Learner:
    """A learner with a group per module, named a, b, ..."""
    groups = [Group("abc"[n], module, lr) for n, module in enumerate(modules)]
    config = OptimizerConfig(lr=lr, **({"schedule": "constant"} | changed))
    given = {"total_steps": total, "tokens": tokens, "pad_id": PAD, "machine": MACHINE, "packing": packing}
    return Learner(groups, config, **given, skipped=skipped, say=say)


def config_of(steps: int, batch: int, **changed: Any) -> FitConfig:
    return FitConfig(steps=steps, batch=batch, optimizer=OptimizerConfig(**changed))


@dataclass(frozen=True)
class Pays:
    """A rule instead of a reward model: the share of one token among those of a completion."""

    token: int

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        return torch.tensor([s.completion.count(self.token) / len(s.completion) for s in rollout.samples])


@dataclass(frozen=True)
class OddPrompts:
    """Pays by the prompt alone, whatever the completion."""

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        return torch.tensor([1.0 if s.prompt_ids[-1] % 2 else -1.0 for s in rollout.samples])


@dataclass(frozen=True)
class Given:
    """Scores as given."""

    scores: Tensor

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        return self.scores


@dataclass
class Improvement:
    """Everything an improvement needs, built from a folder as a stage builds it."""

    folder: str
    config: PPOConfig | CriticFreeConfig
    adapter: AdapterConfig | None = None
    reward: Reward | None = None
    norm: ScoreNorm | None = None
    seed: int = 3
    asked: int = 20
    policy: Any = field(init=False)
    critic: Critic | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        config = self.config
        self.policy = load_policy(self.folder)
        if self.adapter:
            self.policy = add_adapter(self.policy, self.adapter, 0)
        reference = reference_of(self.policy, self.folder)
        reward_model = new_reward_model(self.folder, pad_id=PAD, seed=1).requires_grad_(False)
        groups = [Group("policy", self.policy, config.optimizer.lr)]
        if isinstance(config, PPOConfig):
            self.critic = SharedCritic(32) if config.critic == "shared" else TrunkCritic(reward_model)
            groups.append(Group("critic", self.critic, config.critic_lr or config.optimizer.lr))
        self.scorer = self.reward or RewardModel(reward_model, PAD, config.tokens, MACHINE)
        self.models = Models(self.policy, reference, self.critic)
        self.sampler = sampler_of(
            self.policy, limit=config.completion, temperature=config.temperature, slots=7
        )
        self.learner = Learner(
            groups,
            config.optimizer,
            total_steps=config.updates * config.epochs * config.minibatches,
            tokens=config.tokens,
            pad_id=PAD,
            machine=MACHINE,
        )
        self.controller: FixedKL | AdaptiveKL = FixedKL(config.kl_coef)
        if config.kl_target is not None:
            self.controller = AdaptiveKL(config.kl_coef, config.kl_target, config.kl_horizon)
        tokens = random_prompts(self.asked, seed=8)
        self.prompts = [(Prompt.user(f"question {i}"), ids) for i, ids in enumerate(tokens)]

    def improver(self, done: int = 0) -> Improver:
        norm = self.norm or ScoreNorm()
        given = (self.models, self.learner, self.controller, norm, self.config)
        return Improver(*given, seed=self.seed, number=done)

    def run(self, *, done: int = 0, until: int | None = None) -> list[Step]:
        steps = improve(self.improver(done), self.sampler, self.scorer, self.prompts)
        return [next(steps) for _ in range((until or self.config.updates) - done)]

    def save(self, folder: Path, step: int) -> None:
        facts = {"step": step, "learner": self.learner.facts(), "controller": self.controller.state()}
        save_checkpoint(folder, Checkpoint(self.learner.state(), facts))

    def load(self, folder: Path) -> int:
        found = load_checkpoint(folder)
        assert found is not None
        self.learner.load_state(found.tensors, found.facts["learner"])
        self.controller.load_state(found.facts["controller"])
        return int(found.facts["step"])

    def weights(self) -> dict[str, Tensor]:
        critic = {} if self.critic is None else weights(self.critic)
        return weights(self.policy) | {f"critic.{name}": t for name, t in critic.items()}


def ppo_config(**changed: Any) -> PPOConfig:
    lr = changed.pop("lr", 1e-3)
    optimizer = OptimizerConfig(lr=lr, schedule="constant")
    return PPOConfig(**(SMALL | {"optimizer": optimizer} | changed))


def single_examples(n: int, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    return [
        Example((Row(prompt, tuple(rng.randrange(5, 40) for _ in range(rng.randint(2, 8)))),))
        for prompt in random_prompts(n, seed)
    ]


def ranking(rows: Sequence[Row], **labels: float) -> Example:
    """All pairs of rows, best first, of weight 2/(K(K-1))."""
    k = len(rows)
    weight = 2 / (k * (k - 1))
    pairs = [Pair(i, j, weight=weight, **labels) for i in range(k) for j in range(i + 1, k)]
    return Example(tuple(rows), tuple(pairs))
