"""Detectors: each speaks of what it is for, once, says what is behind it, and of nothing else."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest

from concordant.monitor.detectors import ENOUGH, FLAT, LEARNING, QUIET, WINDOW, Watch
from concordant.monitor.notice import Notice
from concordant.rollout.rollout import Rollout
from concordant.train.step import Step


def step(number: int, **metrics: float) -> Step:
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    return Step(number, 1000, named, {}, {})


def healthy(number: int, **changed: float) -> Step:
    """A step of an ordinary fit: a noisy loss that falls, a norm that varies fivefold."""
    rng = random.Random(number)
    usual = {
        "loss": 2 / math.sqrt(number) + rng.uniform(0.3, 0.5),
        "optimizer__grad_norm_model": rng.uniform(0.4, 2.0),
    }
    return step(number, **(usual | changed))


def watched(*steps: Step, fp32: bool = True) -> list[Notice]:
    watch = Watch(fp32=fp32)
    return [notice for one in steps for notice in watch.see(one)]


def test_an_ordinary_fit_is_silent() -> None:
    assert watched(*map(healthy, range(1, 400))) == []


def test_a_loss_spike() -> None:
    before = list(map(healthy, range(1, 60)))
    (notice,) = watched(*before, healthy(60, loss=9.0))
    assert (notice.step, notice.detector) == (60, "loss spike")
    assert "the loss is 9" in notice.saw
    assert "learning rate" in str(notice)
    assert watched(*before, healthy(60, loss=1.0)) == [], "a little more is no spike"
    assert watched(*map(healthy, range(1, ENOUGH)), healthy(ENOUGH, loss=9.0)) == [], "nothing is usual yet"
    own = replace(healthy(60, loss=9.0), rollout=Rollout((), 1.0))
    assert watched(*before, own) == [], "on own samples the loss says nothing"


def test_a_plateau_is_no_spike() -> None:
    flat = [step(n, loss=0.5) for n in range(1, 60)]
    assert watched(*flat, step(60, loss=0.51)) == []


def test_a_burst_of_the_gradient() -> None:
    before = list(map(healthy, range(1, 60)))
    (notice,) = watched(*before, healthy(60, optimizer__grad_norm_model=80.0))
    assert notice.detector == "gradient burst of the model"
    assert "norm 80" in notice.saw


def test_a_skipped_step() -> None:
    (notice,) = watched(healthy(1, optimizer__skipped=2.0, loss=math.nan))
    assert notice.detector == "not finite"
    assert "optimiser steps were left out: 2" in notice.saw


def test_what_is_not_finite_does_not_count_as_usual() -> None:
    before = list(map(healthy, range(1, 60)))
    broken = [healthy(n, loss=math.nan, optimizer__grad_norm_model=math.inf) for n in range(60, 70)]
    assert [notice.detector for notice in watched(*before, *broken)] == ["gradient burst of the model"]
    notices = watched(*before, *broken, *map(healthy, range(70, 90)))
    assert len(notices) == 1


@pytest.mark.parametrize("explained", [-0.4, 0.0])
def test_a_dead_critic(explained: float) -> None:
    def update(number: int, value: float = explained) -> Step:
        return step(number, value__explained_variance=value)

    learning = [update(n) for n in range(1, LEARNING + 1)]
    dead = [update(n) for n in range(LEARNING + 1, LEARNING + FLAT + 1)]
    assert watched(*learning, *dead[:-1]) == []
    (notice,) = watched(*learning, *dead)
    assert notice.detector == "dead critic"
    alive = update(LEARNING + 3, 0.2)
    assert watched(*learning, *dead[:2], alive, *dead[3:]) == [], "once alive, it is counted anew"


@pytest.mark.parametrize(
    "figures",
    [{"policy__ratio": 1.5}, {"policy__ratio": 0.5}, {"policy__ratio": 1.0, "policy__clip_fraction": 0.6}],
)
def test_an_exploding_ratio(figures: dict[str, float]) -> None:
    (notice,) = watched(step(1, **figures))
    assert notice.detector == "exploding ratio"
    assert watched(step(1, policy__ratio=1.05, policy__clip_fraction=0.3)) == []


def test_the_gap_between_sampler_and_learner_depends_on_the_precision() -> None:
    assert [n.detector for n in watched(step(1, rollout__logprob_gap=0.01))] == ["sampler gap"]
    assert watched(step(1, rollout__logprob_gap=0.01), fp32=False) == []
    assert [n.detector for n in watched(step(1, rollout__logprob_gap=0.06), fp32=False)] == ["sampler gap"]


def test_a_policy_that_collapses() -> None:
    steps = [step(n, policy__entropy=0.4 - 0.01 * n, rollout__eos_rate=1.0) for n in range(1, 40)]
    (notice,) = watched(*steps)
    assert notice.detector == "collapse"
    assert "28% of what it was" in notice.saw


def test_completions_that_do_not_end_any_more() -> None:
    assert watched(step(1, rollout__eos_rate=0.5), step(2, rollout__eos_rate=0.49)) == [], "they never did"
    (notice,) = watched(step(1, rollout__eos_rate=1.0), step(2, rollout__eos_rate=0.9))
    assert notice.detector == "endless"
    assert "90% of what it was" in notice.saw


def test_a_policy_that_is_far_away() -> None:
    assert watched(step(1, objective__kl=19.0)) == []
    (notice,) = watched(step(1, objective__kl=21.0))
    assert notice.detector == "far away"


def test_a_detector_speaks_once_until_it_was_quiet() -> None:
    steps = [step(n, policy__ratio=2.0) for n in range(1, 6)]
    steps += [step(n, policy__ratio=1.0) for n in range(6, 6 + QUIET)]
    steps += [step(6 + QUIET, policy__ratio=2.0)]
    assert [notice.step for notice in watched(*steps)] == [1, 6 + QUIET]


def test_a_resumed_watch_says_the_same() -> None:
    steps = [healthy(n, value__explained_variance=-1.0) for n in range(1, 60)] + [healthy(60, loss=9.0)]
    whole = watched(*steps)
    first = Watch(fp32=True)
    seen = [notice for one in steps[:13] for notice in first.see(one)]
    second = Watch(fp32=True)
    second.load_state(json.loads(json.dumps(first.state())))
    seen += [notice for one in steps[13:] for notice in second.see(one)]
    assert seen == whole
    assert len(whole) == 2
    assert all(len(values) <= WINDOW for values in second.state()["recent"].values())


@pytest.mark.parametrize(
    ("figure", "first", "fine", "beyond", "detector"),
    [
        ("rollout/unique", 0.8, 0.3, 0.2, "sameness"),
        ("rollout/zero_variance", 0.1, 0.5, 0.6, "nothing to tell"),
        ("policy/chosen_change", 0.0, -0.9, -1.1, "displacement"),
        ("rollout/length", 10.0, 14.0, 16.0, "length"),
        ("rollout/length", 10.0, 6.0, 4.0, "length"),
        ("reward/tie_gap", 0.0, 1e-4, 1e-2, "unequal ties"),
    ],
)
def test_a_figure_beyond_its_limit(
    figure: str, first: float, fine: float, beyond: float, detector: str
) -> None:
    def at(number: int, value: float) -> Step:
        return Step(number, 1000, {figure: value}, {}, {})

    assert watched(at(1, first), at(2, fine)) == []
    (notice,) = watched(at(1, first), at(2, beyond))
    assert (notice.step, notice.detector) == (2, detector)
    assert notice.saw
    assert notice.causes
