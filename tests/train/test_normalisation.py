"""Invariant 1: loss and gradient do not depend on micro-batches, order or padding; denominators are global.

loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266, https://github.com/verl-project/verl/issues/102
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from loops import learner_of, ppo_config, ranking
from torch import Tensor

from concordant.data.batches import Counts, Example, Pair, Row, count, epochs
from concordant.models.critic import Critic, SharedCritic, TrunkCritic
from concordant.models.load import load_policy, new_reward_model
from concordant.train.config import CriticFreeConfig
from concordant.train.objectives.on_policy import Targets, on_policy_objective
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
    """loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266,
    https://github.com/NVIDIA-NeMo/RL/issues/86
    fully_masked_sequence_is_zero_not_nan: https://github.com/verl-project/verl/issues/782,
    https://github.com/allenai/open-instruct/issues/1685
    masked_tokens_not_in_mean: https://github.com/NovaSky-AI/SkyRL/issues/462,
    https://github.com/THUDM/slime/issues/365
    sft_mask_off_by_one_and_eos_after_truncation: https://github.com/verl-project/verl/issues/3287,
    https://github.com/CarperAI/trlx/issues/401
    """
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
    """Also where one micro-batch has margins and the next one soft labels.

    loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266,
    https://github.com/NVIDIA-NeMo/RL/issues/86
    """
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
    chosen = sum(rows[i].counted * w for i, w in ((0, 3 / 6), (1, 2 / 6), (2, 1 / 6), (4, 1.0)))
    expected = Counts(sum(row.counted for row in rows), 6, pytest.approx(2.0), pytest.approx(chosen))
    assert counts == expected


def targets_of(rows: Sequence[Row], seed: int = 0) -> Targets:
    """Old log-probabilities near the new ones, some tokens beyond the clip; NaN where no token is."""
    width = max(len(row.completion) for row in rows)
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(len(rows), width, generator=generator) for _ in range(5)]
    for n, row in enumerate(rows):
        for part in parts:
            part[n, len(row.completion) :] = float("nan")
    parts[1] -= 3.5
    return Targets(parts[0] - 3.5, *parts[1:])


def of_rows(targets: Targets, rows: Sequence[int]) -> Targets:
    names = [name for name in Targets.__slots__ if name != "pulling"]
    return Targets(*(getattr(targets, name)[list(rows)] for name in names))


def critic_of(kind: str, folder: str) -> Critic:
    if kind == "trunk":
        return TrunkCritic(new_reward_model(folder, pad_id=PAD, seed=1))
    critic = SharedCritic(32)
    torch.nn.init.normal_(critic.head.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return critic


def plain_on_policy(
    policy: Any, critic: Critic | None, rows: Sequence[Row], given: Targets, config: Any, kl_coef: float = 0.0
) -> Tensor:
    """The loss of PPO or of a relative without critic, row by row, from the equations."""
    n, loss = sum(len(row.completion) for row in rows), torch.zeros(())
    for k, row in enumerate(rows):
        c = len(row.completion)
        ids = torch.tensor([row.prompt + row.completion])
        out = policy(input_ids=ids, output_hidden_states=True)
        logits = out.logits[0, len(row.prompt) - 1 : -1] / config.temperature
        every = logits.log_softmax(-1)
        logprobs = every.gather(-1, torch.tensor(row.completion)[:, None])[:, 0]
        old, ref, advantages = (
            part[k, :c] for part in (given.old_logprobs, given.ref_logprobs, given.advantages)
        )
        log_ratio = logprobs - old
        if config.ratio != "token":
            total = log_ratio.sum() if config.ratio == "sequence" else log_ratio.mean()
            log_ratio = total.expand(c)
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - config.clip, 1 + (config.clip_high or config.clip))
        entropy = -(every.exp() * every).sum(-1)
        part = torch.max(-advantages * ratio, -advantages * clipped) - config.ent_coef * entropy
        if config.kl == "k3":
            part = part + kl_coef * (logprobs - old).exp() * ((ref - logprobs).exp() - 1 - (ref - logprobs))
        if config.kl == "k2":
            part = part + kl_coef * 0.5 * (ref - logprobs) ** 2
        divisors = {"token": n, "sequence": len(rows) * c, "limit": len(rows) * config.completion}
        loss = loss + part.sum() / divisors[config.average]
        if critic is not None:
            loss = loss + config.vf_coef * plain_value_loss(critic, out, row, k, given, config) / n
    return loss


def plain_value_loss(critic: Critic, out: Any, row: Row, k: int, given: Targets, config: Any) -> Tensor:
    c = len(row.completion)
    trunk = out.hidden_states[-1]
    if isinstance(critic, TrunkCritic):
        trunk = critic.trunk(input_ids=torch.tensor([row.prompt + row.completion])).last_hidden_state
    values = critic.head(trunk)[0, len(row.prompt) - 1 : -1, 0]
    old_values, returns = given.old_values[k, :c], given.returns[k, :c]
    near = old_values + (values - old_values).clamp(-config.clip_value, config.clip_value)
    return (0.5 * torch.max((values - returns) ** 2, (near - returns) ** 2)).sum()


@pytest.mark.parametrize("critic_kind", ["trunk", "shared"])
@pytest.mark.parametrize("kind", KINDS)
def test_ppo_is_the_mean_over_all_tokens(kind: str, critic_kind: str, folders: dict[str, str]) -> None:
    """loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266,
    https://github.com/NVIDIA-NeMo/RL/issues/86
    nan_outside_mask_does_not_leak: https://github.com/verl-project/verl/issues/2377
    logprobs_use_sampling_temperature: https://github.com/NVIDIA-NeMo/RL/issues/316,
    https://github.com/NVIDIA-NeMo/RL/issues/714
    values_not_scaled_by_temperature: https://github.com/THUDM/slime/issues/1928
    entropy_same_logits_as_policy: https://github.com/THUDM/slime/issues/1846,
    https://github.com/NovaSky-AI/SkyRL/issues/490
    """
    policy, critic = load_policy(folders[kind]), critic_of(critic_kind, folders[kind])
    config = ppo_config(clip_high=0.3, ent_coef=0.05, temperature=0.7)
    rollout = random_rows(14, seed=2)
    all_targets = targets_of(rollout)
    chosen = [3, 0, 13, 7, 8, 1, 11]  # the rows of a minibatch, in the order in which they were drawn
    part = of_rows(all_targets, chosen)
    loss = plain_on_policy(policy, critic, [rollout[i] for i in chosen], part, config)
    loss.backward()
    expected = gradients(policy, critic)
    policy.zero_grad(set_to_none=True)
    critic.zero_grad(set_to_none=True)
    seen = []
    for order in (chosen, chosen[::-1]):
        objective = on_policy_objective(policy, critic, all_targets, torch.tensor(order), config)
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


@pytest.mark.parametrize("average", ["token", "sequence", "limit"])
@pytest.mark.parametrize("ratio", ["token", "sequence", "sequence_mean"])
@pytest.mark.parametrize("kl", ["reward", "k2", "k3"])
def test_relatives_without_a_critic_by_their_own_means(
    average: str, ratio: str, kl: str, folders: dict[str, str]
) -> None:
    """loss_invariant_to_microbatching: https://github.com/NVIDIA-NeMo/RL/issues/266,
    https://github.com/NVIDIA-NeMo/RL/issues/86
    agg_mode_reaches_critic_and_entropy: https://github.com/verl-project/verl/issues/945
    sequence_ratio_sum_vs_mean: https://github.com/huggingface/trl/issues/5814,
    https://github.com/unslothai/unsloth-zoo/issues/870
    """
    policy, config = load_policy(folders["llama"]), critic_free(average=average, ratio=ratio, kl=kl)
    rollout = random_rows(9, seed=4)
    targets = targets_of(rollout)
    if ratio == "sequence":  # a sum of log-ratios of 3.5 a token would be far beyond the clamp at 20
        targets = replace(targets, old_logprobs=targets.old_logprobs - 0.5)
    loss = plain_on_policy(policy, None, rollout, targets, config, kl_coef=0.3)
    loss.backward()
    expected = gradients(policy)
    policy.zero_grad(set_to_none=True)
    objective = on_policy_objective(policy, None, targets, torch.arange(9), config, kl_coef=0.3)
    for tokens in BUDGETS:
        metrics, found = measured([policy], [Example((row,)) for row in rollout], objective, tokens=tokens)
        assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert_close(found, expected)


def critic_free(**changed: Any) -> CriticFreeConfig:
    return CriticFreeConfig(
        **{"algorithm": "rloo", "batch": 8, "group": 4, "completion": 12, "ent_coef": 0.05} | changed
    )


@pytest.mark.parametrize(
    "average",
    [
        "token",
        "sequence",
        "limit",
    ],
)
def test_the_average_reaches_the_critic(average: str, folders: dict[str, str]) -> None:
    """agg_mode_reaches_critic_and_entropy: https://github.com/verl-project/verl/issues/945"""
    policy, critic = load_policy(folders["llama"]), critic_of("trunk", folders["llama"])
    config = ppo_config(average=average)
    rollout = random_rows(6, seed=2)
    targets = targets_of(rollout)
    divisors = {"token": lambda _: sum(len(row.completion) for row in rollout)}
    divisors |= {"sequence": lambda row: 6 * len(row.completion), "limit": lambda _: 6 * config.completion}
    with torch.no_grad():
        loss = sum(
            plain_value_loss(critic, policy(**as_input(row)), row, k, targets, config)
            / divisors[average](row)
            for k, row in enumerate(rollout)
        )
    objective = on_policy_objective(policy, critic, targets, torch.arange(6), config)
    metrics, _ = measured([policy, critic], [Example((row,)) for row in rollout], objective, tokens=80)
    assert metrics["value/loss"] == pytest.approx(float(loss), rel=1e-5)


def as_input(row: Row) -> dict[str, Any]:
    return {"input_ids": torch.tensor([row.prompt + row.completion]), "output_hidden_states": True}
