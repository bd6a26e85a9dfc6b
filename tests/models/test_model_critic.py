"""Critics: where they start, what they may see, and that they learn."""

from __future__ import annotations

import pytest
import torch

from concordant.data.batches import Row, collate
from concordant.models.critic import Critic, SharedCritic, TrunkCritic
from concordant.models.forward import completion_logits, sequence_scores
from concordant.models.load import load_policy, new_reward_model
from tinies import KINDS, PAD, STOPS, random_rows, same, weights


def values_of(critic: Critic, policy: torch.nn.Module, rows: list[Row]) -> torch.Tensor:
    batch = collate(rows, PAD)
    hidden = completion_logits(policy, batch, with_hidden=True)[1] if critic.needs_policy_hidden else None
    return critic(batch, hidden)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trunk_critic_starts_as_the_normalised_score_of_the_text_so_far(
    kind: str, folders: dict[str, str]
) -> None:
    """The value of a token after the last one is read at the last token, where the score is read as well."""
    reward_model, rows = new_reward_model(folders[kind], pad_id=PAD, seed=2), random_rows(8)
    mean, std = 0.7, 1.9
    critic = TrunkCritic(reward_model, score_mean=mean, score_std=std)
    batch = collate(rows, PAD)
    scores = sequence_scores(reward_model, batch)
    longer = [Row(row.prompt, (*row.completion, STOPS[0])) for row in rows]
    values = values_of(critic, load_policy(folders[kind]), longer)
    assert values.dtype == torch.float32
    after_last = values[torch.arange(len(rows)), torch.tensor([len(row.completion) for row in rows])]
    assert torch.allclose(after_last, (scores - mean) / std, atol=1e-5)
    assert float(scores.detach().std()) > 0.05


def test_a_shared_critic_starts_at_zero(folders: dict[str, str]) -> None:
    values = values_of(SharedCritic(32), load_policy(folders["llama"]), random_rows(8))
    assert values.shape == (8, max(len(row.completion) for row in random_rows(8)))
    assert not values.any()


def make(kind: str, folder: str) -> tuple[Critic, torch.nn.Module]:
    """A critic with a head that sees something, and the policy beside it."""
    critic = (
        SharedCritic(32) if kind == "shared" else TrunkCritic(new_reward_model(folder, pad_id=PAD, seed=2))
    )
    torch.manual_seed(5)
    torch.nn.init.normal_(critic.head.weight)
    return critic, load_policy(folder)


@pytest.mark.parametrize("kind", ["trunk", "shared"])
def test_a_value_is_predicted_from_what_stands_before_its_token(kind: str, folders: dict[str, str]) -> None:
    """value_mask_shift: https://github.com/verl-project/verl/issues/50"""
    critic, policy = make(kind, folders["llama"])
    completion = (10, 11, 12, 13, 14, 15)
    rows = [Row((7, 8, 9), completion)]
    rows += [Row((7, 8, 9), (*completion[:t], 30, *completion[t + 1 :])) for t in range(6)]
    values = values_of(critic, policy, rows)
    for t, changed in enumerate(values[1:]):
        assert torch.allclose(changed[: t + 1], values[0, : t + 1], atol=1e-5)
        assert not torch.isclose(changed[t + 1 :], values[0, t + 1 :], atol=1e-3).any()


@pytest.mark.parametrize("kind", ["trunk", "shared"])
def test_values_do_not_depend_on_batch_and_padding(kind: str, folders: dict[str, str]) -> None:
    critic, policy = make(kind, folders["gpt2"])
    rows = random_rows(6)
    values = values_of(critic, policy, rows)
    for b, row in enumerate(rows):
        assert torch.allclose(
            values_of(critic, policy, [row])[0], values[b, : len(row.completion)], atol=1e-5
        )


@pytest.mark.parametrize("kind", ["trunk", "shared"])
def test_both_critics_learn(kind: str, folders: dict[str, str]) -> None:
    policy, rows = load_policy(folders["llama"]), random_rows(6)
    reward_model = new_reward_model(folders["llama"], pad_id=PAD, seed=2)
    critic = SharedCritic(32) if kind == "shared" else TrunkCritic(reward_model)
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.02)
    mask = collate(rows, PAD).loss_mask_BC
    target = torch.linspace(-1, 1, 6)[:, None]
    losses = []
    for _ in range(40):
        loss = (values_of(critic, policy, rows) - target)[mask].square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in critic.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_a_trunk_critic_leaves_the_reward_model_alone(folders: dict[str, str]) -> None:
    reward_model = new_reward_model(folders["llama"], pad_id=PAD, seed=2).requires_grad_(False)
    before = weights(reward_model)
    critic = TrunkCritic(reward_model)
    assert all(parameter.requires_grad for parameter in critic.parameters())
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(1.0)
    assert same(weights(reward_model), before)
    assert not any(parameter.requires_grad for parameter in reward_model.parameters())


def test_values_keep_single_precision_under_autocast(folders: dict[str, str]) -> None:
    for kind in ("trunk", "shared"):
        critic, policy = make(kind, folders["llama"])
        with torch.autocast("cpu", torch.bfloat16):
            values = values_of(critic, policy, random_rows(8))
        assert values.dtype == torch.float32
        assert not torch.equal(values, values.bfloat16().float())
