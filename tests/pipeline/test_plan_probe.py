"""A probe takes real steps of every kind of stage, and what it foresees is what a run then takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from concordant.models.hardware import Machine
from concordant.pipeline.forecast.amounts import Range
from concordant.pipeline.forecast.forecast import Forecast, forecast
from concordant.pipeline.forecast.probe import Probe
from concordant.pipeline.forecast.timing import timed
from concordant.pipeline.forecast.trial import Trial
from concordant.pipeline.recipe import load_recipe
from concordant.train.learner import Learner
from tinies import MACHINE, save_models
from tiny_run import TOWN, snapshot, town

ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "ppo, shared": {"critic": "shared"},
    "grpo": {"group": 4, "minibatches": 2},
    "dapo": {"group": 4},
    "reinforce++": {},
    "best_of_n": {"prompts": 8, "batch": 4},
    "online_dpo": {"prompts": 8, "batch": 4, "rounds": 2},
    "dpo": {"batch": 4},
    "ipo": {"batch": 4},
    "kto": {"batch": 4},
    "orpo": {"batch": 4},
    "simpo": {"batch": 4},
}


def measured(recipe_folder: Path, stage: str = "policy", **changes: Any) -> tuple[Forecast, Probe]:
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    recipe = town(recipe_folder, **changes)
    found = forecast(recipe, recipe_folder / "run", TOWN, overrides)
    assert found.size is not None
    probe = Probe(recipe, found.size, MACHINE, seconds=0.05)
    return found, probe


@pytest.mark.parametrize("adapter", [None, {"rank": 2}])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_can_be_tried(tmp_path: Path, name: str, adapter: dict[str, int] | None) -> None:
    settings = {"batch": 8, "completion": 8, **ALGORITHMS[name], "algorithm": name.partition(",")[0]}
    if "batch" in ALGORITHMS[name] and "prompts" not in ALGORITHMS[name]:
        del settings["completion"]  # it learns from what is there
    found, probe = measured(tmp_path, policy=settings, **({"model__adapter": adapter} if adapter else {}))
    works = [work for work in found.works if work.stage == "policy"]
    seconds = probe.measure(works)["policy"].seconds
    assert 0 < seconds.low <= seconds.middle <= seconds.high
    assert probe.skipped == {}


def test_every_stage_is_tried_and_nothing_is_written(tmp_path: Path) -> None:
    found, probe = measured(tmp_path)
    before, state = snapshot(tmp_path), torch.random.get_rng_state()
    told = probe.measure(found.works)
    assert list(told) == ["base", "sft", "feedback", "reward", "policy", "evaluate"]
    assert snapshot(tmp_path) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    for one in told.values():
        assert 0 < one.memory.low <= one.memory.middle <= one.memory.high
    assert told["feedback"].notes == ["keeping completions in the store, and the votes of labelers"]


def test_twice_the_steps_take_twice_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**9))
    monkeypatch.setattr("concordant.pipeline.forecast.timing.time.perf_counter", lambda: float(next(ticks)))
    once, twice = (
        probe.measure(found.works[:1])["base"].seconds.middle
        for found, probe in (measured(tmp_path, pretrain__steps=steps) for steps in (50, 100))
    )
    assert twice == pytest.approx(2 * once)
    assert once == pytest.approx(
        50 * 2, rel=1.0
    )  # a second by this clock for each step on a part of the batch


def test_real_steps_are_taken_at_the_batch_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    backward = Learner.backward

    def spy(self: Learner, examples: Any, objective: Any, **given: Any) -> dict[str, float]:
        seen.append(len(examples))
        return backward(self, examples, objective, **given)

    monkeypatch.setattr(Learner, "backward", spy)
    found, probe = measured(tmp_path)
    probe.seconds = 5
    probe.measure([work for work in found.works if work.stage == "base"])
    assert max(seen) == found.recipe.pretrain.batch  # type: ignore[union-attr]


def test_memory_holds_at_least_one_full_forward_pass(tmp_path: Path) -> None:
    """However little time there is."""
    found, _ = measured(tmp_path, pretrain__tokens=300, pretrain__batch=64)
    assert found.size is not None
    (base,) = (work for work in found.works if work.stage == "base")
    trial = Trial(found.recipe, found.size, MACHINE, base, 1e-6)
    examples = trial._examples(base.shapes[:64])
    few = examples[: trial._filling(examples, 300)]
    assert sum(example.length for example in few) >= 0.8 * 300


def test_a_stage_that_does_not_fit_into_memory_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("concordant.pipeline.forecast.probe.free_memory", lambda _: 1_000)
    found, probe = measured(tmp_path)
    assert probe.measure(found.works) == {}
    assert set(probe.skipped) == {work.stage for work in found.works}
    assert all("it takes more than" in why for why in probe.skipped.values())


def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("concordant.pipeline.forecast.timing.time.perf_counter", lambda: now[0])
    return now


def test_memory_that_gives_out_in_one_stage_leaves_the_others_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Trial.measure

    def small(trial: Trial) -> Range:
        if trial.work.stage == "sft":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(trial)

    monkeypatch.setattr(Trial, "measure", small)
    found, probe = measured(tmp_path)
    works = [work for work in found.works if work.stage in ("base", "sft")]
    assert set(probe.measure(works)) == {"base"}
    assert "out of memory in its trial" in probe.skipped["sft"]


@pytest.mark.parametrize(
    ("a_second_each", "whole", "unit", "expected"),
    [(0.001, 64, 1, 64), (1.0, 64, 4, 4), (0.1, 1_000, 1, 50), (100.0, 64, 1, 1)],
)
def test_as_much_is_timed_as_the_time_allows(
    monkeypatch: pytest.MonkeyPatch, a_second_each: float, whole: int, unit: int, expected: int
) -> None:
    now = clock(monkeypatch)
    calls: list[int] = []

    def act(n: int) -> None:
        calls.append(n)
        now[0] += n * a_second_each

    machine = Machine(torch.device("cpu"), torch.float32, 1, "tests")
    seconds, n = timed(act, whole, 10.0, machine, unit=unit)
    assert n == expected
    assert seconds.middle == pytest.approx(n * a_second_each)
    assert now[0] < 20 or len(calls) == 1
    assert calls[0] == unit


def test_a_range_is_as_wide_as_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock(monkeypatch)
    lengths = iter([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])

    def act(n: int) -> None:
        now[0] += next(lengths)

    seconds, _ = timed(act, 1, 100.0, MACHINE)
    assert seconds == Range(1.0, 3.0, 5.0)  # the first one warms up


def test_models_of_three_kinds_can_be_tried(tmp_path: Path) -> None:
    for kind, path in save_models(tmp_path / "models").items():
        text = TOWN.partition("[pretrain]")[0].replace(
            "[model.embedded]\nlayers = 1\nwidth = 32\nheads = 2\n", ""
        )
        text += (
            f'[model]\npath = "{path}"\n[reward]\nbatch = 4\nsteps = 2\n[policy]\nbatch = 4\ncompletion = 6\n'
        )
        (tmp_path / f"{kind}.toml").write_text(text)
        recipe = load_recipe(tmp_path / f"{kind}.toml", {})
        found = forecast(recipe, tmp_path / "run", text, {})
        assert found.size is not None
        learning = [work for work in found.works if work.settings is not None]
        told = Probe(recipe, found.size, MACHINE, seconds=0.05).measure(learning)
        assert set(told) == {"reward", "policy"}, kind
