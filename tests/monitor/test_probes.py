"""Probes: what a fall is, that chance seldom makes one, and when a probe grows."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace

import pytest

from concordant.monitor.detectors import Watch
from concordant.monitor.probes import FIRST, MOST, START, Course, Probe
from concordant.train.step import Step


def probe(step: int, rate: float, n: int, rng: random.Random, score: float = 0.0) -> Probe:
    """Of single votes: the widest that values between 0 and 1 can be."""
    return Probe.of_values(step, [float(rng.random() < rate) for _ in range(n)], score)


def falls(rates: list[float], seed: int) -> bool:
    """Whether a run with these true win rates is ever said to have fallen, as a stage asks."""
    rng, course = random.Random(seed), Course()
    for step, rate in enumerate(rates, start=1):
        found = probe(step, rate, FIRST, rng)
        if course.grows(found):
            found = probe(step, rate, MOST, rng)
        if course.fell(found):
            return True
        course.note(found)
    return False


def test_the_figures_of_a_probe() -> None:
    found = Probe.of_values(7, [1.0, 0.5, 1.0, 0.0], 2.5)
    assert (found.step, found.n, found.rate, found.score) == (7, 4, 0.625, 2.5)
    values = [1.0, 0.5, 1.0, 0.0, 0.0, 1.0]
    mean = sum(values) / 6
    by_hand = math.sqrt(sum((x - mean) ** 2 for x in values) / 5) / 2
    assert found.se == pytest.approx(by_hand)
    assert found.low < 0.625 < found.high
    assert Probe.of(Step(7, 9, found.figures(), {}, {})) == found
    assert Probe.of(Step(7, 9, {"probe/rate": 0.5}, {}, {})) is None


@pytest.mark.parametrize("rate", [0.5, 0.7, 0.9, 0.99])
def test_chance_alone_seldom_makes_a_fall(rate: float) -> None:
    """Twelve probes of a policy that stays as good as it is: an alarm in fewer than one run of fifty."""
    false = sum(falls([rate] * 12, seed) for seed in range(300))
    assert false <= 6, false


def test_a_policy_that_turns_over_is_found() -> None:
    assert sum(falls([0.7, 0.8, 0.85, 0.6, 0.4], seed) for seed in range(100)) >= 99
    assert sum(falls([0.3], seed) for seed in range(100)) >= 95, "worse than what training began with"


def test_a_probe_grows_where_it_leaves_the_question_open() -> None:
    course, rng = Course(), random.Random(0)
    assert course.grows(probe(1, 0.55, FIRST, rng))
    assert not course.grows(probe(1, 0.95, FIRST, rng))
    assert not course.grows(probe(1, 0.55, MOST, rng)), "it is as large as it gets"
    course.note(Probe.of_values(1, [1.0] * FIRST, 0.0))
    fallen = Probe.of_values(2, [1.0] * 35 + [0.0] * 13, 0.0)
    assert not fallen.undecided
    assert course.grows(fallen), "what would be news is asked about once more"


def test_turning_is_a_win_rate_that_falls_where_the_score_rises() -> None:
    course = Course([replace(START, step=n, rate=0.8, score=float(n)) for n in (1, 2)])
    assert course.turned(replace(START, rate=0.5, score=3.0))
    assert not course.turned(replace(START, rate=0.5, score=0.0)), "both fall"
    assert not Course().turned(replace(START, rate=0.5, score=0.0)), "one probe has no slope"
    assert course.best.step == 1


def test_the_detector_tells_and_remembers() -> None:
    rng = random.Random(1)

    def step(number: int, rate: float) -> Step:
        found = probe(number, rate, MOST, rng, score=float(number))
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
