"""What alarms may lead to: the further an action goes, the more has to be known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from concordant.monitor.detectors import Watch
from concordant.monitor.notice import BEHAVIOR, DISTANCE, OPTIMIZER, PROBE, Action, Notice, response
from concordant.monitor.probes import Probe
from concordant.train.step import Step


def notice(tier: int) -> Notice:
    return Notice(1, "it", "saw", "causes", tier=tier)


@pytest.mark.parametrize(
    ("tier", "signals", "most", "expected"),
    [
        (DISTANCE, 1, "rollback", "warn"),
        (DISTANCE, 2, "rollback", "brake"),
        (OPTIMIZER, 2, "rollback", "warn"),
        (BEHAVIOR, 0, "rollback", "brake"),
        (BEHAVIOR, 0, "pause", "brake"),
        (BEHAVIOR, 0, "warn", "warn"),
        (PROBE, 0, "rollback", "rollback"),
        (PROBE, 0, "pause", "pause"),
        (PROBE, 0, "brake", "brake"),
        (PROBE, 0, "warn", "warn"),
    ],
)
def test_the_ladder(tier: int, signals: int, most: Action, expected: Action) -> None:
    assert response(notice(tier), signals, most) == expected


def test_a_step_does_the_furthest_that_one_of_its_notices_calls_for() -> None:
    watch = Watch(fp32=True, most="pause")
    assert watch.action == "warn"
    best = Probe.of_values(1, [0.9] * 200, 1.0)
    probes = [best, Probe.of_values(2, [0.3] * 200, 2.0, best)]
    first, second = (Step(one.step, 9, one.figures() | {"objective/kl": 30.0}, {}, {}) for one in probes)
    assert [one.detector for one in watch.see(first)] == ["far away"]
    found = watch.see(replace(second, metrics={**second.metrics, "optimizer/skipped": 1.0}))
    assert {one.detector: one.action for one in found} == {"not finite": "warn", "turnover": "pause"}
    assert watch.action == "pause"


def test_two_signals_of_distance_brake_together() -> None:
    watch = Watch(fp32=True, most="brake")
    sample = {"prompt": "p", "completion": "c"}

    def step(number: int, kl: float, entropy: float) -> Step:
        figures = {"objective/kl": kl, "policy/entropy": entropy}
        return Step(number, 99, figures, {}, {}, examples={"rollout": [sample]})

    watch.see(step(1, 1.0, 1.0))
    (far,) = watch.see(step(2, 30.0, 0.9))
    assert (far.detector, far.action, watch.tripped) == ("far away", "warn", "far away")
    assert far.examples == (sample,)
    (collapsed,) = watch.see(step(3, 30.0, 0.1))
    assert (collapsed.detector, collapsed.action) == ("collapse", "brake")
    assert watch.see(step(4, 30.0, 0.1)) == []
    assert (watch.action, watch.tripped) == ("warn", "")
