"""Probes: what a fall is, that chance seldom makes one, and when a probe grows."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from concordant.monitor.detectors import Watch
from concordant.monitor.probes import FIRST, MOST, START, Course, Probe
from concordant.train.step import Step


@dataclass
class Stage:
    """Probes as a stage makes them, of shares of so many votes; `worth` of a pair is the same each time."""

    rng: random.Random
    worth: list[float]
    votes: int = 1  # single ones are the widest that values between 0 and 1 can be
    paired: bool = True
    course: Course = field(default_factory=Course)
    said: dict[int, list[float]] = field(default_factory=dict)

    def probe(self, step: int, rate: float) -> Probe:
        first = self._asked(step, rate, FIRST)
        return self._asked(step, rate, MOST) if self.course.grows(first) else first

    def _asked(self, step: int, rate: float, n: int) -> Probe:
        best = self.course.best
        theirs = (self.said.get(best.step, []) + [math.nan] * MOST)[:n] if self.paired else []
        self.said[step] = [self._share(rate + worth) for worth in self.worth[:n]]
        return Probe.of_values(step, self.said[step], float(step), best, theirs)

    def _share(self, rate: float) -> float:
        return sum(self.rng.random() < rate for _ in range(self.votes)) / self.votes


def falls(rates: list[float], seed: int, spread: float = 0.0, **how: Any) -> bool:
    """Whether a run with these true win rates is ever said to have fallen."""
    rng = random.Random(seed)
    stage = Stage(rng, [rng.gauss(0, spread) for _ in range(MOST)], **how)
    for step, rate in enumerate(rates, start=1):
        found = stage.probe(step, rate)
        if stage.course.fell(found):
            return True
        stage.course.note(found)
    return False


def test_the_figures_of_a_probe() -> None:
    found = Probe.of_values(7, [1.0, 0.5, 1.0, 0.0], 2.5)
    assert (found.step, found.n, found.rate, found.score) == (7, 4, 0.625, 2.5)
    values = [1.0, 0.5, 1.0, 0.0, 0.0, 1.0]
    mean = sum(values) / 6
    by_hand = math.sqrt(sum((x - mean) ** 2 for x in values) / 5) / 2
    assert found.se == pytest.approx(by_hand)
    assert found.low < 0.625 < found.high
    assert (found.below, found.below_se) == (pytest.approx(0.5 - 0.625), found.se), "below one half"
    assert Probe.of(Step(7, 9, found.figures(), {}, {})) == found
    assert Probe.of(Step(7, 9, {"probe/rate": 0.5}, {}, {})) is None


def test_a_fall_is_that_of_the_same_pairs() -> None:
    before = Probe.of_values(3, [1.0, 0.5, 0.0, 0.0, 1.0, 1.0, 0.0], 0.0)
    found = Probe.of_values(
        7, [0.5, 0.5, 1.0, 0.0, 1.0, 1.0, 0.0], 0.0, before, [1, 0.5, math.nan, 0, 1, 1, 0]
    )
    assert found.below == pytest.approx(0.5 / 6)
    differences = [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5, 0.5]
    mean = sum(differences) / 8
    by_hand = math.sqrt(sum((x - mean) ** 2 for x in differences) / 7) / math.sqrt(6)
    assert found.below_se == pytest.approx(by_hand)
    for theirs in ([math.nan] * 7, []):  # no pair in common
        apart = Probe.of_values(7, [0.0] * 7, 0.0, before, theirs)
        assert (apart.below, apart.below_se) == (before.rate, math.hypot(before.se, apart.se))


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("rate", [0.5, 0.7, 0.9, 0.99])
def test_chance_alone_seldom_makes_a_fall(rate: float, spread: float) -> None:
    """Twelve probes of a policy that stays as good as it is: an alarm in fewer than one run of fifty."""
    false = sum(falls([rate] * 12, seed, spread) for seed in range(300))
    assert false <= 6, false


def test_pairs_that_are_the_same_each_time_tell_more() -> None:
    rates = [0.55, 0.58, 0.58, 0.5, 0.5]
    paired, apart = (
        sum(falls(rates, seed, spread=0.3, votes=10, paired=paired) for seed in range(100))
        for paired in (True, False)
    )
    assert paired > 80 > 20 > apart, (paired, apart)


def test_a_policy_that_turns_over_is_found() -> None:
    assert sum(falls([0.7, 0.8, 0.85, 0.6, 0.4], seed) for seed in range(100)) >= 99
    assert sum(falls([0.3], seed) for seed in range(100)) >= 95, "worse than what training began with"


def test_a_probe_grows_where_it_leaves_the_question_open() -> None:
    course = Course()
    assert course.grows(Probe.of_values(1, [1.0] * 27 + [0.0] * 21, 0.0))
    assert not course.grows(Probe.of_values(1, [1.0] * 46 + [0.0] * 2, 0.0))
    assert not course.grows(Probe.of_values(1, [1.0] * 110 + [0.0] * 90, 0.0)), "it is as large as it gets"
    fallen = Probe.of_values(2, [1.0] * 35 + [0.0] * 13, 0.0, Probe.of_values(1, [1.0] * FIRST, 0.0))
    assert not fallen.undecided
    assert course.grows(fallen), "what would be news is asked about once more"


def test_turning_is_a_win_rate_that_falls_where_the_score_rises() -> None:
    course = Course([replace(START, step=n, rate=0.8, score=float(n)) for n in (1, 2)])
    assert course.turned(replace(START, rate=0.5, score=3.0))
    assert not course.turned(replace(START, rate=0.5, score=0.0)), "both fall"
    assert not Course().turned(replace(START, rate=0.5, score=0.0)), "one probe has no way"
    falling = Course([replace(START, step=n, rate=rate, score=3.0 - n) for n, rate in ((1, 0.5), (2, 0.55))])
    assert not falling.turned(replace(START, rate=0.6, score=0.0)), "the score falls while it is liked more"
    assert course.best.step == 1


def test_the_detector_tells_and_remembers() -> None:
    stage = Stage(random.Random(1), [0.0] * MOST)

    def step(number: int, rate: float) -> Step:
        found = stage.probe(number, rate)
        stage.course.note(found)
        example = {"prompt": "p", "completion": "c", "preferred": "d"}
        return Step(number, 99, found.figures(), {}, {}, examples={"probe/rate": [example]})

    watch = Watch(fp32=True, most="rollback")
    steps = [step(10, 0.7), step(20, 0.9), step(30, 0.5)]
    assert [watch.see(one) for one in steps[:2]] == [[], []]
    again = Watch(fp32=True, most="rollback")
    again.load_state(json.loads(json.dumps(watch.state())))
    for one in (watch, again):
        (notice,) = one.see(steps[2])
        assert (notice.detector, notice.tier, notice.action) == ("turnover", 3, "rollback")
        assert "at step 20, while the score rises" in notice.saw
        assert notice.examples[0]["preferred"] == "d"
        assert one.action == "rollback"
        assert [asdict(found)["step"] for found in one.course.probes] == [10, 20, 30]
