"""Invariant 1: loss and gradient do not depend on micro-batches, order or padding; denominators are global.

loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266, https://github.com/verl-project/verl/issues/102
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from loops import learner_of, ppo_config, ranking
from torch import Tensor

from concordant.data.batches import Counts, Example, Pair, Row, count, epochs
from concordant.models.critic import Critic, SharedCritic, TrunkCritic
from concordant.models.load import load_policy, new_reward_model
from concordant.train.objectives.ppo import Targets, ppo_objective
from concordant.train.objectives.reward import reward_objective
from concordant.train.objectives.sft import sft_objective
from tinies import KINDS, PAD, assert_close, gradients, plain_logprobs, random_rows

BUDGETS = (1, 50, 100_000)


def measured(
    modules: Sequence[Any], examples: Sequence[Example], objective: Any, *, tokens: int, pad_id: int = PAD
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Loss with metrics, and gradients, of one optimiser batch."""
    learner = learner_of(*modules, tokens=tokens)
    learner.pad_id = pad_id
    learner.discard()
    metrics = learner.backward(examples, objective)
    found = gradients(*modules)
    learner.discard()
    return metrics, found


def assert_same(one: Any, other: Any) -> None:
    assert one[0] == pytest.approx(other[0], rel=2e-6, abs=2e-6)
    assert_close(one[1], other[1])


def test_sft_is_the_mean_over_all_counted_tokens(folders: dict[str, str]) -> None:
    for kind in KINDS:
        model, rows = load_policy(folders[kind]), random_rows(10, masked=True)
        rows.append(Row((5, 6), (7, 8, 9), (False,) * 3))  # adds nothing, to the sum or the count
        n = sum(row.counted for row in rows)
        loss = sum(-plain_logprobs(model, row)[torch.tensor(row.loss_mask)].sum() / n for row in rows)
        loss.backward()
        expected = ({"loss": float(loss.detach())}, gradients(model))
        model.zero_grad(set_to_none=True)
        examples = [Example((row,)) for row in rows]
        for tokens in BUDGETS:
            for given in (examples, examples[::-1]):
                assert_same(measured([model], given, sft_objective(model), tokens=tokens), expected)
        assert_same(measured([model], examples, sft_objective(model), tokens=70, pad_id=9), expected)


def comparisons() -> list[Example]:
    """Pairs and four-way rankings, with soft labels, weights and margins."""
    rows, rng = random_rows(60, seed=4), random.Random(0)
    examples = []
    for number in range(9):
        k = (2, 4, 2)[number % 3]
        own = [Row(rows[0].prompt, rows.pop().completion) for _ in range(k)]
        if number % 3 == 0:
            examples.append(Example(tuple(own), (Pair(1, 0, p_chosen=rng.random(), weight=rng.random()),)))
        else:
            label = {"margin": 0.7} if number in (2, 4) else {"p_chosen": 0.8} if number == 1 else {}
            examples.append(ranking(own, **label))
    return examples


def plain_reward_loss(model: Any, examples: Sequence[Example], centering: float) -> tuple[Tensor, float]:
    """Loss and accuracy, row by row and pair by pair, with nothing of the code under test."""
    loss, right, total = torch.zeros(()), 0.0, sum(p.weight for e in examples for p in e.pairs)
    for example in examples:
        tokens = [torch.tensor([row.prompt + row.completion]) for row in example.rows]
        scores = [model(input_ids=ids).logits[0, 0] for ids in tokens]
        for pair in example.pairs:
            chosen, rejected = scores[pair.chosen], scores[pair.rejected]
            d = chosen - rejected
            if pair.margin:
                term = torch.log1p(torch.exp(pair.margin - d))
            else:
                p = pair.p_chosen
                term = p * torch.log1p(torch.exp(-d)) + (1 - p) * torch.log1p(torch.exp(d))
            loss = loss + pair.weight * (term + centering * (chosen + rejected) ** 2) / total
            won = 0.5 if pair.p_chosen == 0.5 else float((d > 0) == (pair.p_chosen > 0.5))
            right += pair.weight * won / total
    return loss, right


@pytest.mark.parametrize("kind", KINDS)
def test_reward_loss_is_the_weighted_mean_over_all_pairs(kind: str, folders: dict[str, str]) -> None:
    """Also where one micro-batch has margins and the next one soft labels."""
    model, examples = new_reward_model(folders[kind], pad_id=PAD, seed=0), comparisons()
    loss, right = plain_reward_loss(model, examples, 0.01)
    loss.backward()
    expected = ({"loss": float(loss.detach()), "reward/accuracy": right}, gradients(model))
    model.zero_grad(set_to_none=True)
    objective = reward_objective(model, centering=0.01)
    for tokens in BUDGETS:
        for given in (examples, examples[::-1]):
            assert_same(measured([model], given, objective, tokens=tokens), expected)
    assert_same(measured([model], examples, objective, tokens=200, pad_id=9), expected)


def test_a_ranking_counts_once_however_long_it_is(folders: dict[str, str]) -> None:
    rows = random_rows(6)
    counts = count([ranking(rows[:4]), ranking(rows[4:])])
    assert counts == Counts(sum(row.counted for row in rows), 6, pytest.approx(2.0))


def targets_of(rows: Sequence[Row], seed: int = 0) -> Targets:
    """Old log-probabilities near the new ones, some tokens beyond the clip; NaN where no token is."""
    width = max(len(row.completion) for row in rows)
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(len(rows), width, generator=generator) for _ in range(4)]
    for n, row in enumerate(rows):
        for part in parts:
            part[n, len(row.completion) :] = float("nan")
    return Targets(parts[0] - 3.5, *parts[1:])


def critic_of(kind: str, folder: str) -> Critic:
    if kind == "trunk":
        return TrunkCritic(new_reward_model(folder, pad_id=PAD, seed=1))
    critic = SharedCritic(32)
    torch.nn.init.normal_(critic.head.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return critic


def plain_ppo(policy: Any, critic: Critic, rows: Sequence[Row], given: Targets, config: Any) -> Tensor:
    """The loss of PPO row by row, from the equations."""
    n, loss = sum(len(row.completion) for row in rows), torch.zeros(())
    for k, row in enumerate(rows):
        c = len(row.completion)
        ids = torch.tensor([row.prompt + row.completion])
        out = policy(input_ids=ids, output_hidden_states=True)
        logits = out.logits[0, len(row.prompt) - 1 : -1] / config.temperature
        every = logits.log_softmax(-1)
        logprobs = every.gather(-1, torch.tensor(row.completion)[:, None])[:, 0]
        trunk = out.hidden_states[-1]
        if isinstance(critic, TrunkCritic):
            trunk = critic.trunk(input_ids=ids).last_hidden_state
        values = critic.head(trunk)[0, len(row.prompt) - 1 : -1, 0]
        old, old_values, advantages, returns = (
            part[k, :c] for part in (given.old_logprobs, given.old_values, given.advantages, given.returns)
        )
        ratio = (logprobs - old).exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip_high)
        near = old_values + (values - old_values).clamp(-config.clip_value, config.clip_value)
        surrogate = torch.max(-advantages * ratio, -advantages * clipped)
        value_loss = 0.5 * torch.max((values - returns) ** 2, (near - returns) ** 2)
        entropy = -(every.exp() * every).sum(-1)
        loss = loss + (surrogate + config.vf_coef * value_loss - config.ent_coef * entropy).sum() / n
    return loss


@pytest.mark.parametrize("critic_kind", ["trunk", "shared"])
@pytest.mark.parametrize("kind", KINDS)
def test_ppo_is_the_mean_over_all_tokens(kind: str, critic_kind: str, folders: dict[str, str]) -> None:
    """nan_outside_mask_does_not_leak: https://github.com/verl-project/verl/issues/2377"""
    policy, critic = load_policy(folders[kind]), critic_of(critic_kind, folders[kind])
    config = ppo_config(clip_high=0.3, ent_coef=0.05, temperature=0.7)
    rollout = random_rows(14, seed=2)
    all_targets = targets_of(rollout)
    chosen = [3, 0, 13, 7, 8, 1, 11]  # the rows of a minibatch, in the order in which they were drawn
    part = Targets(*(getattr(all_targets, name)[chosen] for name in Targets.__slots__))
    loss = plain_ppo(policy, critic, [rollout[i] for i in chosen], part, config)
    loss.backward()
    expected = gradients(policy, critic)
    policy.zero_grad(set_to_none=True)
    critic.zero_grad(set_to_none=True)
    seen = []
    for order in (chosen, chosen[::-1]):
        objective = ppo_objective(policy, critic, all_targets, torch.tensor(order), config)
        examples = [Example((rollout[i],)) for i in order]
        for tokens in BUDGETS:
            metrics, found = measured([policy, critic], examples, objective, tokens=tokens)
            assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=5e-6)
            assert_close(found, expected)
            seen.append(metrics)
        metrics, found = measured([policy, critic], examples, objective, tokens=80, pad_id=9)
        assert_close(found, expected)
        seen.append(metrics)
    for metrics in seen[1:]:
        assert metrics == pytest.approx(seen[0], rel=1e-5, abs=1e-6)
    assert 0.05 < seen[0]["policy/clip_fraction"] < 0.95, "both branches of the clip are on trial"


def test_minibatches_of_one_pass_see_every_completion_once() -> None:
    for one_pass in range(3):
        drawn = list(epochs(12, 4, 9, 5))[3 * one_pass : 3 * one_pass + 3]
        assert sorted(i for rows in drawn for i in rows) == list(range(12))
