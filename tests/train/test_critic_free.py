"""The relatives of PPO without a critic: the same loop, other advantages, nothing wasted on groups that agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from loops import SMALL, Given, Improvement, Pays
from torch import Tensor

from concordant.core.advantages import leave_one_out
from concordant.data.types import Prompt
from concordant.errors import UserError
from concordant.rollout.rollout import Rollout
from concordant.train.config import (
    CRITIC_FREE,
    BestOfNConfig,
    CriticFreeConfig,
    DPOConfig,
    KTOConfig,
    OptimizerConfig,
    PPOConfig,
)
from concordant.train.estimate import estimate, freeze
from concordant.train.rewards import ScoreNorm, Scores
from tinies import assert_close, gradients, same


def critic_free(algorithm: str, **changed: Any) -> CriticFreeConfig:
    lr = changed.pop("lr", 1e-3)
    plain = {k: v for k, v in SMALL.items() if k in CriticFreeConfig.model_fields}
    optimizer = OptimizerConfig(lr=lr, schedule="constant")
    group = {} if algorithm == "reinforce++" else {"group": 4}
    settings = plain | group | {"overlong_buffer": 2, "optimizer": optimizer} | changed
    return CriticFreeConfig(**{"algorithm": algorithm, "epochs": 1, **settings})


@dataclass(frozen=True)
class OnlySome:
    """Pays for a token, but nothing in reply to prompts that end in an even token: those groups are flat."""

    token: int

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        paid = Pays(self.token).score(prompts, rollout)
        odd = torch.tensor([s.prompt_ids[-1] % 2 for s in rollout.samples])
        return paid * odd


@pytest.mark.parametrize("algorithm", CRITIC_FREE)
def test_step_zero_is_exact(algorithm: str, folders: dict[str, str]) -> None:
    """first_step_ratio_is_one, initial_kl_is_zero: https://github.com/CarperAI/trlx/issues/108"""
    run = Improvement(folders["llama"], critic_free(algorithm, temperature=0.7), reward=Pays(11))
    metrics = run.run(until=1)[0].metrics
    assert metrics["policy/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert abs(metrics["objective/kl"]) <= 1e-5
    assert metrics["rollout/logprob_gap"] <= 1e-5
    later = run.run(done=1, until=2)[0].metrics
    assert abs(later["objective/kl"]) > 1e-5, "afterwards the policy has left its reference"


@pytest.mark.parametrize("algorithm", CRITIC_FREE)
def test_every_algorithm_learns_what_pays(algorithm: str, folders: dict[str, str]) -> None:
    """One token pays, by a known rule; within 25 rollouts most of what is said is that token."""
    config = critic_free(
        algorithm,
        updates=25,
        batch=64,
        epochs=2,
        kl_coef=0.0,
        lr=1e-2,
        missing_eos_penalty=0.0,
        overlong_buffer=0,
    )
    run = Improvement(folders["mild"], config, reward=Pays(11), norm=ScoreNorm(0.1, 0.2))
    scores = [step.metrics["objective/score"] for step in run.run()]
    assert scores[0] < 0.15
    assert sum(scores[-3:]) / 3 > 0.5


def test_completions_of_flat_groups_cost_no_forward_pass_and_change_nothing(folders: dict[str, str]) -> None:
    """zero_variance_and_single_member_groups: https://github.com/NVIDIA-NeMo/RL/issues/1519"""
    config = critic_free("grpo", kl_coef=0.0, batch=24, updates=1)
    run = Improvement(folders["llama"], config, reward=OnlySome(11))
    rollout = run.sampler.sample([ids for _, ids in run.prompts[:6]], samples=4, seed=1)
    scores = OnlySome(11).score([], rollout)
    frozen = freeze(run.models, run.learner, rollout, config)
    targets, _ = estimate(rollout, scores, frozen, ScoreNorm(), 0.0, config)
    flat = 24 - len(targets.pulling)
    assert 4 <= flat <= 20
    improver = run.improver()
    seen = []
    for pulling in (targets.pulling, frozenset(range(24))):
        run.policy.zero_grad(set_to_none=True)
        metrics = improver._backward(frozen, replace(targets, pulling=pulling), range(24))
        seen.append((metrics, gradients(run.policy)))
    assert_close(seen[0][1], seen[1][1])
    for name in ("loss", "policy/loss", "policy/ratio"):
        assert seen[0][0][name] == pytest.approx(seen[1][0][name], abs=1e-6)


def test_dynamic_sampling_replaces_groups_that_agree(folders: dict[str, str]) -> None:
    """DAPO, arXiv:2503.14476, section 3.2"""

    def run(times: int) -> Any:
        config = critic_free("dapo", batch=24, updates=2, dynamic_sampling=times, lr=1e-5)
        return Improvement(folders["llama"], config, reward=OnlySome(11)).run()

    def flat(step: Any) -> int:
        groups = torch.tensor(step.scores).view(-1, 4)
        return sum(len(set(group.tolist())) == 1 for group in groups)

    without, with_more = run(0), run(4)
    assert sum(map(flat, with_more)) < sum(map(flat, without))
    for step in (*without, *with_more):
        assert step.metrics["rollout/zero_variance"] == flat(step) / 6
    for step in with_more:
        assert len(step.rollout.samples) == 24
        assert [s.prompt for s in step.rollout.samples] == [i for i in range(6) for _ in range(4)]
        for sample, score in zip(step.rollout.samples, step.scores, strict=True):
            assert score == 0 or sample.prompt_ids[-1] % 2


def test_the_open_form_is_the_loop(folders: dict[str, str]) -> None:
    """`improver.step(rollout, scores)` with own sampling and scores moves the policy as `improve` does."""
    config = critic_free("rloo", updates=2, batch=16)
    whole = Improvement(folders["llama"], config, reward=Pays(11))
    steps = whole.run()
    mine = Improvement(folders["llama"], config)
    improver = mine.improver()
    for step in steps:
        metrics = improver.step(step.rollout, list(step.scores))
        assert metrics == pytest.approx(step.metrics)
    assert same(mine.weights(), whole.weights())


def test_advantages_are_those_of_the_group_with_the_penalty_inside(folders: dict[str, str]) -> None:
    config = critic_free("rloo", batch=16, kl_coef=0.3, overlong_buffer=0, missing_eos_penalty=0.5)
    run = Improvement(folders["llama"], config)
    rollout = run.sampler.sample([ids for _, ids in run.prompts[:4]], samples=4, seed=2)
    frozen = freeze(run.models, run.learner, rollout, config)
    moved = replace(frozen, ref_logprobs=frozen.ref_logprobs - 0.1 * frozen.loss_mask)
    scores = torch.randn(16, generator=torch.Generator().manual_seed(0))
    targets, _ = estimate(rollout, scores, moved, ScoreNorm(0.2, 2.0), 0.3, config)
    rewards = [
        (float(score) - 0.2) / 2.0 - 0.5 * (not s.ended) - 0.3 * 0.1 * len(s.completion)
        for s, score in zip(rollout.samples, scores, strict=True)
    ]
    expected = leave_one_out(torch.tensor(rewards), torch.tensor([s.prompt for s in rollout.samples]))
    for row, wanted, mask in zip(targets.advantages, expected, frozen.loss_mask, strict=True):
        torch.testing.assert_close(row[mask], wanted.expand(int(mask.sum())), atol=1e-5, rtol=1e-4)
        assert not row[~mask].any()


def test_a_critic_belongs_to_ppo_alone(folders: dict[str, str]) -> None:
    run = Improvement(folders["llama"], critic_free("rloo"), reward=Given(torch.zeros(12)))
    run.models = replace(run.models, critic=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="critic"):
        run.improver()


def test_what_whitening_lowers_pulls_too(folders: dict[str, str]) -> None:
    """A score of 0 among others is a failure, and learnt from, though its advantage was 0 before whitening."""
    config = critic_free("reinforce++", batch=8, kl_coef=0.0, missing_eos_penalty=0.0, overlong_buffer=0)
    run = Improvement(folders["llama"], config)
    rollout = run.sampler.sample([ids for _, ids in run.prompts[:8]], seed=2)
    frozen = freeze(run.models, run.learner, rollout, config)
    scores = torch.tensor([1.0] + [0.0] * 7)
    targets, _ = estimate(rollout, scores, frozen, ScoreNorm(), 0.0, config)
    assert targets.pulling == frozenset(range(8))
    assert (targets.advantages[1:][frozen.loss_mask[1:]] < 0).all()


def test_a_completion_without_a_score_has_no_advantage_after_whitening_either(
    folders: dict[str, str],
) -> None:
    config = critic_free("reinforce++_baseline", batch=8, kl_coef=0.0, missing_eos_penalty=0.0)
    run = Improvement(folders["llama"], config)
    rollout = run.sampler.sample([ids for _, ids in run.prompts[:2]], samples=4, seed=2)
    frozen = freeze(run.models, run.learner, rollout, config)
    scores = Scores(torch.arange(8.0), torch.tensor([True] * 7 + [False]))
    targets, _ = estimate(rollout, scores, frozen, ScoreNorm(), 0.0, config)
    assert not targets.advantages[7].any()
    known = targets.advantages[:7][frozen.loss_mask[:7]]
    assert float(known.mean()) == pytest.approx(0, abs=1e-5)
    assert float(known.std()) == pytest.approx(1, abs=1e-3)


def test_a_reward_that_never_varied_sets_no_scale() -> None:
    assert ScoreNorm.of(torch.zeros(9)) == ScoreNorm(0.0, 1.0)
    assert ScoreNorm.of(torch.tensor([])) == ScoreNorm()
    assert ScoreNorm.of(torch.tensor([2.0])) == ScoreNorm(2.0, 1.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scores": torch.zeros(3)}, "8 completions need as many scores"),
        ({"scores": torch.full((8,), float("nan"))}, "not finite"),
        ({"temperature": 0.5}, "temperature 0.5"),
        ({"samples": 1}, "samples=config.group"),
    ],
)
def test_the_open_form_refuses_what_would_be_learnt_wrongly(
    changed: dict[str, Any], said: str, folders: dict[str, str]
) -> None:
    run = Improvement(folders["llama"], critic_free("rloo", batch=8))
    samples = changed.get("samples", 4)
    rollout = run.sampler.sample([ids for _, ids in run.prompts[: 8 // samples]], samples=samples, seed=2)
    rollout = replace(rollout, temperature=changed.get("temperature", rollout.temperature))
    with pytest.raises(ValueError, match=said):
        run.improver().step(rollout, changed.get("scores", torch.zeros(8)))


def test_a_log_probability_that_is_not_finite_is_not_learnt_from(folders: dict[str, str]) -> None:
    run = Improvement(folders["llama"], critic_free("rloo", batch=8))
    rollout = run.sampler.sample([ids for _, ids in run.prompts[:2]], samples=4, seed=2)
    first = rollout.samples[0]
    broken = replace(first, logprobs=(float("-inf"), *first.logprobs[1:]))
    with pytest.raises(UserError, match="log-probability that is not finite") as caught:
        run.improver(done=6).step(replace(rollout, samples=(broken, *rollout.samples[1:])), torch.zeros(8))
    assert caught.value.where == "the rollout of update 7"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"algorithm": "dapo", "completion": 8, "overlong_buffer": 9}, "longest completion of 8"),
        ({"algorithm": "rloo", "kl_coef": 0.0, "kl_target": 6.0}, "kl_coef above 0"),
        ({"algorithm": "reinforce++", "dynamic_sampling": 2}, "no group"),
        ({"algorithm": "grpo", "group": 1}, "set group"),
        ({"algorithm": "grpo", "batch": 128, "group": 3}, "such as 2 or 4"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CriticFreeConfig(**settings)


def test_the_buffer_of_dapo_follows_its_completions() -> None:
    assert CriticFreeConfig(algorithm="dapo", completion=8).overlong_buffer == 2
    assert CriticFreeConfig(algorithm="dapo", completion=64, overlong_buffer=4).overlong_buffer == 4


def test_a_part_of_the_optimiser_leaves_the_rest_as_the_section_has_it() -> None:
    for kind in (PPOConfig, DPOConfig, BestOfNConfig, KTOConfig):
        default = kind().optimizer
        assert kind(optimizer={"warmup": 5}).optimizer == default.model_copy(update={"warmup": 5})


@pytest.mark.parametrize("algorithm", ["reinforce++"])
def test_what_needs_every_score_says_so(algorithm: str, folders: dict[str, str]) -> None:
    run = Improvement(folders["llama"], critic_free(algorithm, batch=4))
    rollout = run.sampler.sample([ids for _, ids in run.prompts[:4]], seed=2)
    scores = Scores(torch.zeros(4), torch.tensor([True, True, False, True]))
    with pytest.raises(UserError, match="1 of 4 completions have no score"):
        run.improver().step(rollout, scores)
