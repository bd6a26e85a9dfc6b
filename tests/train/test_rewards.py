"""Scores of a rollout by a reward model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loops import Pays
from torch import Tensor

from concordant.data.batches import MicroBatch
from concordant.data.types import Prompt
from concordant.errors import UserError
from concordant.models.forward import sequence_scores
from concordant.models.load import load_policy, new_reward_model
from concordant.rollout.rollout import Rollout, Sample
from concordant.train import rewards
from concordant.train.rewards import RewardModel, checked
from tinies import KINDS, MACHINE, PAD, random_prompts, random_rows, sampler_of


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_model_scores_each_completion_whatever_the_budget(
    kind: str, folders: dict[str, str]
) -> None:
    """score_invariant_to_batch_and_padding: https://github.com/allenai/reward-bench/issues/137,
    https://github.com/hiyouga/LLaMA-Factory/issues/689
    """
    policy, model = load_policy(folders[kind]), new_reward_model(folders[kind], pad_id=PAD, seed=0)
    rollout = sampler_of(policy).sample(random_prompts(10), samples=2, seed=0)
    asked = [Prompt.user(str(n)) for n in range(10)]
    found = [RewardModel(model, PAD, tokens, MACHINE).score(asked, rollout) for tokens in (1, 70, 10_000)]
    for scores in found:
        assert torch.allclose(scores, found[0], atol=1e-5)
    for sample, score in zip(rollout.samples, found[0], strict=True):
        ids = torch.tensor([sample.prompt_ids + sample.completion])
        last = model.base_model(input_ids=ids).last_hidden_state[0, -1]
        assert torch.allclose(model.score(last)[0], score, atol=1e-5)


def test_memory_that_gives_out_is_said_and_the_scores_stay(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(model: Any, batch: MicroBatch) -> Tensor:
        if batch.ids_BT.numel() > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sequence_scores(model, batch)

    said: list[str] = []
    model = new_reward_model(folders["llama"], pad_id=PAD, seed=0)
    rows = random_rows(12)
    before = RewardModel(model, PAD, 10_000, MACHINE).score_rows(rows)
    monkeypatch.setattr(rewards, "sequence_scores", small)
    scorer = RewardModel(model, PAD, 200, MACHINE, said.append)
    assert torch.allclose(scorer.score_rows(rows), before, atol=1e-5)
    assert said == [f"  out of memory: from here on at most {n} tokens in one pass" for n in (100, 50)]


def test_scores_are_plain_numbers_on_the_cpu(folders: dict[str, str]) -> None:
    model = new_reward_model(folders["llama"], pad_id=PAD, seed=0)
    samples = tuple(
        Sample(0, r.prompt, r.completion, (0.0,) * len(r.completion), True) for r in random_rows(4)
    )
    scores = RewardModel(model, PAD, 100, MACHINE).score([Prompt.user("?")], Rollout(samples, 1.0))
    assert (scores.shape, scores.dtype, scores.device.type) == ((4,), torch.float32, "cpu")
    assert not scores.requires_grad


def test_broken_scores_name_their_prompt() -> None:
    samples = tuple(Sample(n, (5,), (6, 7), (0.0, 0.0), True) for n in range(3))
    rollout, asked = Rollout(samples, 1.0), [Prompt.user(text) for text in ("fine", "what is wrong?", "fine")]
    with pytest.raises(UserError, match="1 of 3 scores are not finite") as caught:
        checked(torch.tensor([0.0, float("nan"), 1.0]), asked, rollout)
    assert "what is wrong?" in caught.value.where
    with pytest.raises(UserError, match="shape"):
        checked(torch.zeros(3, 1), asked, rollout)
    fine = Pays(6).score(asked, rollout)
    found = checked(fine, asked, rollout)
    assert found.values is fine
    assert found.known.all()
