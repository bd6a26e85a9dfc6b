"""Critic-free optimisation on own samples against TRL.

The trunks run in fp64 here: a ratio carries the absolute rounding of logits, which in fp32 is more than the difference
that is asked for. Log-probabilities and losses are fp32 on both sides all the same.
"""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import peers
import pytest
import torch
from compare import Makes, Side, Table, moved, ours
from torch import Tensor

from concordant.core.logprobs import token_logprobs
from concordant.data.batches import Example, micro_batches
from concordant.models.forward import completion_logits
from concordant.models.load import Reference
from concordant.rollout.rollout import Rollout, Sample
from concordant.train.config import CriticFreeConfig, OptimizerConfig
from concordant.train.estimate import Models, estimate, freeze
from concordant.train.learner import Group, Learner
from concordant.train.objectives.on_policy import on_policy_objective
from concordant.train.rewards import ScoreNorm
from tinies import MACHINE, PAD, ids

pytestmark = pytest.mark.parity

GROUP, LIMIT = 4, 9
FREE: dict[str, Any] = {
    "batch": 12,
    "group": GROUP,
    "completion": LIMIT,
    "temperature": 0.7,
    "score_norm": "none",
    "missing_eos_penalty": 0.0,
    "overlong_buffer": 0,
}
K3 = {"beta": 0.04}  # weighted by the ratio, as ours, by default


def config_of(algorithm: str, **changed: Any) -> CriticFreeConfig:
    return CriticFreeConfig(**(FREE | {"algorithm": algorithm} | changed))


def drift(model: Any) -> None:
    """What earlier passes over the rollout did, far enough that some ratios leave the clip range."""
    moved(model, seed=18, size=0.03)


def rollout_of(model: Any, temperature: float, longest: int) -> Rollout:
    """Random completions of three prompts, with what the model says of them."""
    rng = random.Random(5)
    prompts = [ids(rng, 1, 7) for _ in range(3)]
    rows = [(n, prompt, ids(rng, 2, longest)) for n, prompt in enumerate(prompts) for _ in range(GROUP)]
    samples = []
    for n, prompt, completion in rows:
        one = Sample(n, prompt, completion, (0.0,) * len(completion), True)
        samples.append(replace(one, logprobs=logprobs_of(model, one, temperature)))
    return Rollout(tuple(samples), temperature)


def logprobs_of(model: Any, sample: Sample, temperature: float) -> tuple[float, ...]:
    (batch,) = micro_batches([sample.example], 10_000, PAD)
    with torch.no_grad():
        logits, _ = completion_logits(model, batch)
        return tuple(token_logprobs(logits, batch.completion_BC, temperature)[0].tolist())


def in_double(reference: Reference) -> Reference:
    return Reference(reference.model.double())


def scores_of(model: Any, rollout: Rollout) -> Tensor:
    """Random, and lower for what `drift` will make likelier.

    The advantages of a group add up to 0. With scores that know nothing of the ratios a loss is what is left
    when large numbers have cancelled, most of it rounding.
    """
    later = copy.deepcopy(model)
    drift(later)
    ratios = torch.tensor(
        [
            sum(logprobs_of(later, sample, rollout.temperature)) - sum(sample.logprobs)
            for sample in rollout.samples
        ]
    )
    noise = torch.randn(len(ratios), generator=torch.Generator().manual_seed(2))
    return 0.3 * noise - (ratios - ratios.mean()) / ratios.std()


def learnt(policy: Makes, reference: Reference, config: CriticFreeConfig) -> tuple[Side, Rollout, Tensor]:
    """Our side: freeze and score a rollout, move the policy, take the loss of all of it."""
    model = policy().double()
    # A ratio of sequences adds up what fp32 rounds off each log-probability: few of them, and small ones.
    rollout = rollout_of(model, config.temperature, 3 if config.ratio == "sequence" else LIMIT)
    scores = scores_of(model, rollout)
    learner = Learner(
        [Group("policy", model, 1e-3)],
        OptimizerConfig(),
        total_steps=1,
        tokens=90,
        pad_id=PAD,
        machine=MACHINE,
    )
    frozen = freeze(Models(model, in_double(reference)), learner, rollout, config)
    targets, _ = estimate(rollout, scores, frozen, ScoreNorm(), config.kl_coef, config)
    drift(model)
    examples: list[Example] = list(frozen.examples)
    objective = on_policy_objective(
        model, None, targets, torch.arange(len(examples)), config, kl_coef=config.kl_coef
    )
    return ours(objective, examples, model), rollout, scores


# Name in the table, our config, their trainer and its settings.
METHODS: list[tuple[str, CriticFreeConfig, str, dict[str, Any]]] = [
    ("RLOO", config_of("rloo", kl_coef=0.05, temperature=2.0), "rloo", {"beta": 0.05}),
    ("RLOO without KL", config_of("rloo", kl_coef=0.0, temperature=2.0), "rloo", {"beta": 0.0}),
    ("GRPO, k3 weighted by the ratio", config_of("grpo"), "grpo", {"loss_type": "grpo", **K3}),
    ("GRPO without KL", config_of("grpo", kl_coef=0.0), "grpo", {"loss_type": "grpo", "beta": 0.0}),
    (
        "GRPO, entropy bonus on all tokens",
        config_of("dapo", clip_high=0.2, ent_coef=0.01),
        "grpo",
        {"loss_type": "dapo", "beta": 0.0, "entropy_coef": 0.01},
    ),
    (
        "GSPO (mean log-ratio of the sequence)",
        config_of("grpo", kl_coef=0.0, ratio="sequence_mean", clip=0.03),
        "grpo",
        {"loss_type": "grpo", "beta": 0.0, "importance_sampling_level": "sequence", "epsilon": 0.03},
    ),
    (
        "Dr. GRPO",
        config_of("dr_grpo", kl_coef=0.04),
        "grpo",
        {"loss_type": "dr_grpo", "scale_rewards": "none", "max_completion_length": LIMIT, **K3},
    ),
    (
        "DAPO",
        config_of("dapo"),
        "grpo",
        {"loss_type": "dapo", "beta": 0.0, "epsilon_high": 0.28},
    ),
]


@pytest.mark.parametrize(("name", "config", "method", "settings"), METHODS, ids=[row[0] for row in METHODS])
def test_critic_free(
    name: str,
    config: CriticFreeConfig,
    method: str,
    settings: dict[str, Any],
    policy: Makes,
    reference: Reference,
    table: Table,
    tmp_path: Path,
) -> None:
    mine, rollout, scores = learnt(policy, reference, config)
    theirs = peers.on_policy_loss(method, policy().double(), rollout, scores, drift, tmp_path, **settings)
    table.same(name, mine, theirs)


def test_k3_without_the_ratio(policy: Makes, reference: Reference, table: Table, tmp_path: Path) -> None:
    """What TRL can be set to, and what the paper writes: its gradient is that of another divergence."""
    mine, rollout, scores = learnt(policy, reference, config_of("grpo"))
    settings = {"loss_type": "grpo", "use_bias_correction_kl": False, **K3}
    theirs = peers.on_policy_loss("grpo", policy().double(), rollout, scores, drift, tmp_path, **settings)
    table.deviates("GRPO, k3 without the ratio", mine, theirs)
