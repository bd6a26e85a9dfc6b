"""Rounds on own samples: what is kept of a group, what is learnt from it, and going on where one stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import Improvement, Pays, learner_of
from test_critic_free import critic_free

from concordant.data.batches import Example, Pair
from concordant.models.load import load_policy, reference_of
from concordant.rollout.rollout import Rollout, Sample
from concordant.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from concordant.train.config import BestOfNConfig, DPOConfig, OnlineDPOConfig
from concordant.train.learner import Objective
from concordant.train.objectives.direct import pair_objective
from concordant.train.objectives.sft import sft_objective
from concordant.train.refine import Keep, best, best_and_worst, kept_of, refine
from concordant.train.rewards import Scores
from concordant.train.step import Step
from tinies import same, sampler_of, weights


def sample(prompt: int, token: int, *, ended: bool = True) -> Sample:
    return Sample(prompt, (5, 6 + prompt), (token, 1), (0.0, 0.0), ended)


GROUP = [sample(0, token) for token in (7, 8, 9)]


def test_the_best_is_imitated() -> None:
    assert best(GROUP, torch.tensor([0.0, 2.0, 1.0])) == GROUP[1].example


def test_the_best_stands_against_the_worst() -> None:
    found = best_and_worst(GROUP, torch.tensor([0.0, 2.0, 1.0]))
    assert found == Example((GROUP[1].row, GROUP[0].row), (Pair(0, 1),))
    assert best_and_worst(GROUP, torch.ones(3)) is None
    assert best_and_worst([GROUP[0], GROUP[0]], torch.tensor([0.0, 1.0])) is None


def test_a_completion_that_never_stopped_wins_nothing() -> None:
    endless = sample(0, 7, ended=False)
    scores = torch.tensor([9.0, 2.0, 1.0])
    assert best([endless, *GROUP[1:]], scores) == GROUP[1].example
    assert best([endless, endless], scores[:2]) is None
    found = best_and_worst([endless, *GROUP[1:]], scores)
    assert found == Example((GROUP[1].row, GROUP[2].row), (Pair(0, 1),))
    assert best_and_worst([endless, endless], scores[:2]) is None


def test_a_question_asked_twice_is_two_groups() -> None:
    """groups_by_id_not_text: https://github.com/NVIDIA-NeMo/RL/issues/2176"""
    again = [replace(one, prompt=1) for one in GROUP]
    rollout = Rollout((*GROUP, *again, sample(2, 7)), 1.0)
    assert rollout.groups == (0, 0, 0, 1, 1, 1, 2)
    scores = Scores.of([0.0, 2.0, 1.0, 0.0, 0.0, 3.0, 0.0])
    assert kept_of(rollout, scores, best) == [GROUP[1].example, GROUP[2].example]


def test_completions_without_a_score_are_left_out() -> None:
    rollout = Rollout((*GROUP, sample(1, 7), sample(1, 8)), 1.0)
    known = torch.tensor([True, False, True, True, False])
    found = kept_of(rollout, Scores(torch.tensor([0.0, 9.0, 1.0, 3.0, 4.0]), known), best)
    assert found == [GROUP[2].example]  # of the second prompt one is left, which nothing can be compared with


@dataclass
class Refinement:
    """Everything rounds need, built as a stage builds it."""

    folder: str
    config: BestOfNConfig | OnlineDPOConfig

    def __post_init__(self) -> None:
        self.policy = load_policy(self.folder)
        self.sampler = sampler_of(self.policy, limit=8)
        self.prompts = Improvement(self.folder, critic_free("rloo")).prompts
        self.learner = learner_of(self.policy, lr=self.config.optimizer.lr)
        self.keep: Keep = best
        self.objective: Objective = sft_objective(self.policy)
        if isinstance(self.config, OnlineDPOConfig):
            self.keep = best_and_worst
            reference = reference_of(self.policy, self.folder)
            self.objective = pair_objective(self.policy, DPOConfig(beta=self.config.beta), reference)

    def run(self, *, done: int = 0, until: int | None = None) -> list[Step]:
        given = (self.learner, self.sampler, Pays(11), self.prompts, self.keep, self.objective, self.config)
        steps = refine(*given, seed=3, done=done)
        return [next(steps) for _ in range((until or self.config.rounds) - done)]


def config_of(kind: type[Any], **changed: Any) -> Any:
    settings = {"rounds": 8, "prompts": 16, "samples": 8, "batch": 8, "epochs": 2, "optimizer": {"lr": 1e-2}}
    return kind(**(settings | changed))


@pytest.mark.parametrize("kind", [BestOfNConfig, OnlineDPOConfig])
def test_what_pays_is_learnt_round_by_round(kind: type[Any], folders: dict[str, str]) -> None:
    changed = {"beta": 0.02} if kind is OnlineDPOConfig else {}
    steps = Refinement(folders["mild"], config_of(kind, **changed)).run()
    scores = [step.metrics["objective/score"] for step in steps]
    assert scores[0] < 0.15
    assert scores[-1] > 0.4
    assert [step.number for step in steps] == list(range(1, 9))
    assert all(0 < step.metrics["objective/kept"] <= 1 for step in steps)


@pytest.mark.parametrize("kind", [BestOfNConfig, OnlineDPOConfig])
def test_a_resumed_run_equals_the_uninterrupted_one(
    kind: type[Any], folders: dict[str, str], tmp_path: Path
) -> None:
    config = config_of(kind, rounds=3)
    whole = Refinement(folders["llama"], config)
    expected = [step.metrics for step in whole.run()]
    first = Refinement(folders["llama"], config)
    seen = [step.metrics for step in first.run(until=2)]
    save_checkpoint(tmp_path / "state", Checkpoint(first.learner.state(), first.learner.facts()))
    found = load_checkpoint(tmp_path / "state")
    assert found is not None
    second = Refinement(folders["llama"], config)
    second.learner.load_state(found.tensors, found.facts)
    seen += [step.metrics for step in second.run(done=2)]
    assert seen == expected
    assert same(weights(second.policy), weights(whole.policy))
