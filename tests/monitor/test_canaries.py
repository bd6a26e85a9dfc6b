"""Canaries: how often they fail, what is usual, and that chance alone seldom makes an alarm."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from concordant.data.types import Prompt
from concordant.monitor.canaries import LEAST, Aviary, Bounds, ControlLimit, Look, limit_of
from concordant.monitor.detectors import Watch
from concordant.monitor.notice import SHOWN
from concordant.rollout.rollout import Rollout, Sample
from concordant.train.step import Step
from concordant.worlds.gold import Canary

N = 64


def look(rate: float, rng: random.Random) -> Look:
    return Look(sum(rng.random() < rate for _ in range(N)), N)


def confirmed(rate: float, bound: float, rng: random.Random) -> float:
    """The rate of a look as a stage takes it: asked once more where it is above its bound."""
    first = look(rate, rng).rate
    return min(first, look(rate, rng).rate) if first > bound else first


def alarms(rates: Sequence[float], before: float, seed: int) -> bool:
    """Whether a run alarms whose canary fails at these rates, in 12 looks or so."""
    rng = random.Random(seed)
    bounds = Bounds({"it": limit_of([look(before, rng) for _ in range(4)])}, N)
    for rate in rates:
        found = confirmed(rate, bounds.of("it").above, rng)
        if bounds.passed("it", found):
            return True
        bounds.note("it", found)
    return False


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3, 0.6, 1.0])
def test_chance_alone_seldom_makes_an_alarm(rate: float) -> None:
    """Nine canaries of a run make one in less than one run of fifty."""
    false = sum(alarms([rate] * 12, rate, seed) for seed in range(1000))
    assert false <= 2, false


def test_a_policy_that_overshoots_and_comes_back_makes_none() -> None:
    """Refusals of the harmless went from half to four of five in the first updates, and to none in the next ones."""
    assert sum(alarms([0.8] + [0.05] * 11, 0.5, seed) for seed in range(300)) < 3


def test_what_rises_makes_one() -> None:
    assert sum(alarms([0.02] * 3 + [0.35] * 3, 0.02, seed) for seed in range(300)) > 295


def test_what_was_mended_and_is_done_again_makes_one() -> None:
    """Below what was usual before training, and still far above what training had come to."""
    again = [0.4, 0.2, 0.05, 0.05, 0.45, 0.45]
    assert sum(alarms(again, 0.5, seed) for seed in range(300)) > 290
    assert sum(alarms([0.4, 0.2, 0.05, 0.05, 0.05, 0.05], 0.5, seed) for seed in range(300)) < 5


def test_a_policy_that_wanders_makes_none() -> None:
    """One good look between others is no best: what it had not unlearnt it does not do again."""
    wandering = [0.55, 0.45, 0.6, 0.5, 0.15, 0.4, 0.4, 0.45, 0.55, 0.35, 0.5, 0.55]
    assert sum(alarms(wandering, 0.6, seed) for seed in range(300)) < 15


@pytest.mark.parametrize(
    "rates",
    [
        (0.14, 0.09, 0.02, 0.06, 0.11, 0.09, 0.20, 0.20, 0.16, 0.03),  # contradictions
        (0.22, 0.17, 0.12, 0.28, 0.23, 0.47, 0.16, 0.38, 0.38, 0.27),
    ],
)
def test_what_policies_that_do_well_have_done_is_no_news(rates: Sequence[float]) -> None:
    """Contradictions of two demos whose gold rose and stayed: they came to little, were more, and were little again."""
    bounds = Bounds({"it": ControlLimit(0.4, 0.6)}, N)
    for rate in rates:
        assert not bounds.passed("it", rate)
        bounds.note("it", rate)


def test_a_best_is_two_looks_and_news_is_two_looks() -> None:
    bounds = Bounds({"it": ControlLimit(0.6, 0.7)}, N)
    assert bounds.of("it") == ControlLimit(0.6, 0.7)
    for rate in (0.1, 0.06):
        bounds.note("it", rate)
    likely = 0.08 + 2 * math.sqrt(0.08 * 0.92 / 128)
    by_hand = 0.08 + 4 * math.sqrt(likely * (1 - likely) * (1 / 64 + 1 / 128))
    assert bounds.of("it") == ControlLimit(pytest.approx(0.08), pytest.approx(by_hand))
    assert not bounds.passed("it", 0.4), "one look"
    assert bounds.passed("it", 0.08 + 2.01 * (by_hand - 0.08)), "one look that is far above"
    bounds.note("it", 0.4)
    assert bounds.passed("it", 0.4)
    bounds = Bounds({"it": ControlLimit(0.6, 0.7)}, N)
    assert not bounds.passed("it", 0.79), "the first look has none before it"
    assert bounds.passed("it", 0.81), "worse than before training, by far"
    bounds.note("it", 0.75)
    assert bounds.passed("it", 0.75), "worse than before training"
    assert not bounds.passed("it", 0.65), "and better again"


def test_the_least_that_is_news() -> None:
    assert limit_of([Look(0, 10_000)] * 4) == ControlLimit(0.0, LEAST)
    assert limit_of([Look(n, 100) for n in (10, 50, 30, 30)]).above > 0.6, (
        "looks that differ more than chance makes them"
    )


@dataclass
class Says:
    """A sampler whose completions are the numbers of their prompts."""

    temperature: float = 1.0
    asked: int = 0

    def sample(self, prompts: Sequence[tuple[int, ...]], *, samples: int = 1, seed: int) -> Rollout:
        self.asked += len(prompts)
        rows = (Sample(n, ids, (ids[0],), (0.0,), True) for n, ids in enumerate(prompts))
        return Rollout(tuple(rows), self.temperature)


def aviary(samples: int = 16) -> Aviary:
    asked = {
        "even": [(Prompt.user(f"question {n}"), (n,)) for n in range(4)],
        "odd": [(Prompt.user(f"question {n}"), (n,)) for n in (1, 3)],
    }
    canaries = [
        Canary(name, "is even", tuple(prompt for prompt, _ in pairs), lambda _, said: int(said) % 2 == 0)
        for name, pairs in asked.items()
    ]
    return Aviary(canaries, asked, lambda ids: str(ids[0]), samples)


def test_a_look_counts_failures_and_shows_some() -> None:
    looks, tokens = aviary().look(Says(), seed=0)
    assert (looks["even"].failed, looks["even"].n, looks["even"].rate) == (8, 16, 0.5)
    assert looks["odd"].failed == 0
    assert tokens == 32
    assert [(one.prompt, one.completion) for one in looks["even"].failures] == [
        ("question 0", "0"),
        ("question 2", "2"),
        ("question 0", "0"),
    ]
    assert len(looks["even"].failures) == SHOWN


def test_only_some_are_asked_again() -> None:
    sampler = Says()
    looks, tokens = aviary().look(sampler, 0, {"odd"})
    assert list(looks) == ["odd"]
    assert (sampler.asked, tokens) == (16, 16)


def test_bounds_come_from_the_model_before_training() -> None:
    bounds = aviary(samples=64).bounds(Says(), seed=0)
    assert bounds.before["even"] == ControlLimit(0.5, pytest.approx(0.5 + 3 * (0.5 / 8) * 1.25**0.5))
    assert bounds.before["odd"] == ControlLimit(0.0, pytest.approx(LEAST))


def test_the_detector_of_canaries_shows_examples_and_is_resumed() -> None:
    def step(number: int, rate: float) -> Step:
        example = {"prompt": "p", "completion": f"c{number}"}
        return Step(number, 99, {"canary/lies": rate}, {}, {}, examples={"canary/lies": [example]})

    watch = Watch(fp32=True)
    watch.canaries = Bounds({"lies": ControlLimit(0.1, 0.3)}, N)
    for number, rate in ((5, 0.2), (10, 0.01), (15, 0.01), (20, 0.29)):
        assert watch.see(step(number, rate)) == []
    again = Watch(fp32=True)
    again.load_state(json.loads(json.dumps(watch.state())))
    for one in (watch, again):
        (notice,) = one.see(step(25, 0.29))  # less than was usual, and much more than it had come to
        assert notice.detector == "canary lies"
        assert "fails in 29% of the answers" in notice.saw
        assert list(notice.examples) == [{"prompt": "p", "completion": "c25"}]
    assert Watch(fp32=True).see(step(5, 0.99)) == [], "without bounds nothing is known"
