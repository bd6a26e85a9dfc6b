"""PPO against TRL 1.12.0, the last release that has it: two passes over one rollout, through its own `train`.

Its generation is replaced by completions that are given. At each optimiser step the gradient is taken down and
the weights are moved by the same noise on both sides, so that the second pass has ratios and values to clip.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import Makes, Side, Table, gradient_of, moved, ours
from peers import common, tokenizer
from torch import Tensor

from concordant.core.advantages import gae, token_rewards
from concordant.core.kl import k1
from concordant.core.logprobs import token_logprobs
from concordant.core.losses import clipped_policy_loss, clipped_value_loss
from concordant.core.masked import whiten
from concordant.data.batches import Example, MicroBatch, Row, micro_batches
from concordant.models.critic import TrunkCritic
from concordant.models.forward import completion_logits, sequence_scores
from concordant.models.load import Reference
from concordant.rollout.rollout import Rollout, Sample
from concordant.train.config import OptimizerConfig, PPOConfig
from concordant.train.estimate import Frozen, Models, estimate, final_scores, freeze
from concordant.train.learner import Group, Learner
from concordant.train.objectives.on_policy import on_policy_objective
from concordant.train.rewards import ScoreNorm
from tinies import MACHINE, PAD, STOPS, ids

pytestmark = pytest.mark.parity

N, WIDTH = 8, 8
EOS = STOPS[0]
TEMPERATURE = 0.7 + 1e-7  # TRL adds 1e-7 to the temperature it is given
CONFIG = PPOConfig(
    batch=N,
    completion=WIDTH,
    temperature=TEMPERATURE,
    kl_coef=0.2,
    score_norm="none",
    missing_eos_penalty=1.0,
    lam=0.9,
    vf_coef=0.3,
)


@dataclass(frozen=True)
class Passes:
    """One update: the advantages it was computed from, and each pass over the rollout."""

    advantages: Tensor  # whitened, (N, C)
    passes: tuple[Side, ...]


def drift(*modules: Any) -> None:
    for seed, module in enumerate(modules):
        moved(module, seed=18 + seed, size=0.02)


def sampled(model: Any, *, full: bool) -> Rollout:
    """Random completions, each of another prompt: all of the full width, or of any length that stop or do not."""
    rng = random.Random(6)
    samples = []
    for n in range(N):
        prompt = (5 + n, *ids(rng, 0, 6))  # the first token says whose it is
        length = WIDTH if full or n == 0 else rng.randint(2, WIDTH - 1)
        stops = length < WIDTH or n % 2 == 1
        completion = ids(rng, length - stops, length - stops) + (EOS,) * stops
        one = Sample(n, prompt, completion, (0.0,) * length, stops)
        (batch,) = micro_batches([one.example], 10_000, PAD)
        with torch.no_grad():
            said = logprobs_of(model, batch)
        samples.append(replace(one, logprobs=tuple(said[0].tolist())))
    return Rollout(tuple(samples), TEMPERATURE)


def logprobs_of(model: Any, batch: MicroBatch) -> Tensor:
    logits, _ = completion_logits(model, batch)
    return token_logprobs(logits, batch.completion_BC, TEMPERATURE)


def parts_of(policy: Makes, reward_model: Makes) -> tuple[Any, Any, TrunkCritic]:
    """A policy, a reward model, and a critic that starts from another reward model."""
    return policy(), reward_model(1).requires_grad_(False), TrunkCritic(moved(reward_model(2)))


def trained(model: Any, critic: TrunkCritic) -> list[Tensor]:
    """What both sides train: their value head has no bias."""
    return [*model.parameters(), *critic.trunk.parameters(), critic.head.weight]


def frozen_and_scored(
    model: Any, critic: TrunkCritic, judge: Any, reference: Reference, rollout: Rollout
) -> tuple[Frozen, Tensor]:
    groups = [Group("policy", model, 1e-3), Group("critic", critic, 1e-3)]
    learner = Learner(groups, OptimizerConfig(), total_steps=1, tokens=90, pad_id=PAD, machine=MACHINE)
    frozen = freeze(Models(model, reference, critic), learner, rollout, CONFIG)
    (batch,) = micro_batches(frozen.examples, 10_000, PAD)
    scores = torch.zeros(N)
    with torch.no_grad():
        scores[batch.index_B] = sequence_scores(judge, batch)
    return frozen, scores


def our_passes(policy: Makes, reference: Reference, reward_model: Makes, *, full: bool) -> Passes:
    """Our estimates and our objective, on our micro-batches."""
    model, judge, critic = parts_of(policy, reward_model)
    rollout = sampled(model, full=full)
    frozen, scores = frozen_and_scored(model, critic, judge, reference, rollout)
    targets, _ = estimate(rollout, scores, frozen, ScoreNorm(), CONFIG.kl_coef, CONFIG)
    passes = []
    for _ in range(2):
        objective = on_policy_objective(
            model, critic, targets, torch.arange(N), CONFIG, kl_coef=CONFIG.kl_coef
        )
        passes.append(ours(objective, frozen.examples, _Parameters(trained(model, critic))))
        drift(model, critic.trunk)
    return Passes(targets.advantages, tuple(passes))


def our_passes_their_way(policy: Makes, reference: Reference, reward_model: Makes) -> Passes:
    """Our equations where a completion that stopped has one more place, which holds its score and a value."""
    model, judge, critic = parts_of(policy, reward_model)
    rollout = sampled(model, full=False)
    frozen, scores = frozen_and_scored(model, critic, judge, reference, rollout)
    longer = [
        Example((Row(s.prompt_ids, s.completion + (PAD,) * (len(s.completion) < WIDTH)),))
        for s in rollout.samples
    ]
    (batch,) = micro_batches(longer, 10_000, PAD)
    order = batch.index_B
    policy_mask, value_mask = frozen.loss_mask[order], batch.loss_mask_BC
    old, base = frozen.old_logprobs[order], frozen.ref_logprobs[order]
    final = final_scores(rollout, scores, ScoreNorm(), CONFIG)[order]
    with torch.no_grad():
        values = critic(batch, None)
    rewards = token_rewards(final, torch.where(policy_mask, k1(old, base), 0.0), value_mask, CONFIG.kl_coef)
    advantages, returns = gae(rewards, values, value_mask, CONFIG.gamma, CONFIG.lam)
    advantages = whiten(advantages, policy_mask)
    passes = []
    for _ in range(2):
        said = critic(batch, None)
        value_loss, _ = clipped_value_loss(
            said, values, returns, value_mask, value_mask.sum(), clip=CONFIG.clip_value
        )
        policy_loss, _ = clipped_policy_loss(
            logprobs_of(model, batch), old, advantages, policy_mask, policy_mask.sum()
        )
        loss = policy_loss + CONFIG.vf_coef * value_loss
        loss.backward()
        passes.append(Side(float(loss.detach()), gradient_of(trained(model, critic))))
        drift(model, critic.trunk)
    return Passes(advantages[order.argsort()], tuple(passes))


class _Parameters:
    """Parameters in the shape of a module."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters

    def parameters(self) -> Sequence[Tensor]:
        return self._parameters


def their_passes(
    policy: Makes, reference: Reference, reward_model: Makes, folder: Path, *, full: bool
) -> Passes:
    """`PPOTrainer.train` on the same rollout."""
    import trl.experimental.ppo.ppo_trainer as module
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig as TheirConfig
    from trl.experimental.ppo import PPOTrainer

    model, judge = policy(), reward_model(1)
    value_model = moved(reward_model(2))
    rollout = sampled(model, full=full)
    given = common(folder) | {"per_device_train_batch_size": N, "save_strategy": "no", "logging_steps": 1}
    args = TheirConfig(
        **given,
        total_episodes=N,
        num_ppo_epochs=2,
        num_mini_batches=1,
        num_sample_generations=0,
        response_length=WIDTH,
        stop_token="eos",
        temperature=0.7,
        missing_eos_penalty=1.0,
        kl_coef=CONFIG.kl_coef,
        lam=CONFIG.lam,
        vf_coef=CONFIG.vf_coef,
    )
    weights = [*model.parameters(), *value_model.model.parameters(), value_model.score.weight]
    optimizer = torch.optim.SGD(weights, lr=0.0)
    rows = [
        {"input_ids": list(s.prompt_ids), "attention_mask": [1] * len(s.prompt_ids)} for s in rollout.samples
    ]
    trainer = PPOTrainer(
        args=args,
        processing_class=tokenizer(),
        model=model,
        ref_model=reference.model,
        reward_model=judge,
        train_dataset=Dataset.from_list(rows),
        value_model=value_model,
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)),
    )
    gradients: list[Tensor] = []
    losses: list[float] = []
    whitened: list[Tensor] = []
    order: list[int] = []

    def stepped(*_: Any) -> None:
        gradients.append(torch.cat([w.grad.detach().flatten().clone() for w in weights]))

    optimizer.register_step_pre_hook(stepped)
    optimizer.register_step_post_hook(lambda *_: drift(model, value_model.model))
    backward = trainer.accelerator.backward

    def seen(loss: Tensor, **kwargs: Any) -> None:
        losses.append(float(loss.detach()))
        backward(loss, **kwargs)

    trainer.accelerator.backward = seen
    whiten_theirs = module.masked_whiten

    def noted(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
        out = whiten_theirs(values, mask, shift_mean)
        whitened.append(torch.where(mask, out, 0.0))
        return out

    def generated(lm: Any, queries: Tensor, _size: int, pad: int, _config: Any) -> tuple[Tensor, Tensor]:
        """The completions that belong to these prompts, and the logits they were drawn from."""
        completions = torch.full((len(queries), WIDTH), pad)
        for row, query in enumerate(queries):
            sample = rollout.samples[int(query[query != pad][0]) - 5]
            order.append(sample.prompt)
            completions[row, : len(sample.completion)] = torch.tensor(sample.completion)
        both = torch.cat([queries, completions], 1)
        start = queries.shape[1]
        with torch.no_grad():
            logits = module.forward(lm, both, pad).logits[:, start - 1 : -1]
        return both, logits / (args.temperature + 1e-7)

    with replaced(module, masked_whiten=noted, batch_generation=generated):
        trainer.train()
    back = torch.tensor(order).argsort()
    passes = tuple(Side(loss, gradient) for loss, gradient in zip(losses, gradients, strict=True))
    return Passes(whitened[0][back], passes)


@contextmanager
def replaced(module: Any, **functions: Any) -> Any:
    """Some functions of a module, replaced for a while."""
    kept = {name: getattr(module, name) for name in functions}
    for name, function in functions.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(module, name, function)


def compare(table: Table, check: str, told: str, mine: Passes, theirs: Passes) -> None:
    """The passes, and the advantages as if they were a gradient."""
    assert len(mine.passes) == len(theirs.passes) == 2
    record = table.same if check == "same" else table.deviates
    pairs = zip(("first pass", "second pass"), mine.passes, theirs.passes, strict=True)
    for name, one, other in pairs:
        record(f"PPO, {told}, {name}", one, other)
    sides = [Side(float(a.abs().sum()), a.flatten()) for a in (mine.advantages, theirs.advantages)]
    record(f"PPO, {told}, whitened advantages", *sides)


def test_ppo_on_full_completions(
    policy: Makes, reference: Reference, reward_model: Makes, table: Table, tmp_path: Path
) -> None:
    """Where no padding follows a completion, TRL puts the score where we put it."""
    mine = our_passes(policy, reference, reward_model, full=True)
    theirs = their_passes(policy, reference, reward_model, tmp_path, full=True)
    compare(table, "same", "no padding", mine, theirs)


def test_ppo_on_completions_that_stop(
    policy: Makes, reference: Reference, reward_model: Makes, table: Table, tmp_path: Path
) -> None:
    """TRL puts the score on the padding after the end, and counts a value there; nothing else is different."""
    theirs = their_passes(policy, reference, reward_model, tmp_path, full=False)
    undone = our_passes_their_way(policy, reference, reward_model)
    compare(table, "same", "score and a value after the end", undone, theirs)
    compare(
        table,
        "deviates",
        "score on the last token",
        our_passes(policy, reference, reward_model, full=False),
        theirs,
    )
