"""Canaries in a run: they are looked at beside training and do not change it, unless they are asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from concordant.monitor.canaries import Bounds
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.plan import plan
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.run import execute
from tiny_run import STAGES, Stopper, clone, figures, results, rows, town, weights

POLICY = Path("stages", "05-policy")
LOOKING: dict[str, Any] = {"monitor__canaries": 1, "monitor__samples": 16}


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    return clone(finished, tmp_path / "run", stages=STAGES[:4])


def go_on(recipe: Recipe, run: Path) -> Stopper:
    reporter = Stopper(StopRequest())
    assert execute(recipe, run, reporter, reporter.stop)
    return reporter


def stop_at(recipe: Recipe, run: Path, step: int) -> Stopper:
    reporter = Stopper(StopRequest(), "PPO", step)
    with pytest.raises(Interrupted):
        execute(recipe, run, reporter, reporter.stop)
    return reporter


def test_canaries_are_logged_and_leave_training_as_it_was(
    trained: Path, finished: Path, tmp_path: Path
) -> None:
    recipe = town(tmp_path, **(LOOKING | {"monitor__canaries": 2}))
    go_on(recipe, trained)
    assert weights(trained, "05-policy") == weights(finished, "05-policy")
    logged = rows(trained / POLICY / "steps.jsonl")
    looked = [row["step"] for row in logged if "canary/sycophancy" in row]
    assert looked == [2]
    assert all(0 <= value <= 1 for name, value in logged[1].items() if name.startswith("canary/"))
    assert sum(name.startswith("canary/") for name in logged[1]) == 9
    limits = {name: value for name, value in logged[1].items() if name.startswith("canary_limit/")}
    assert len(limits) == 9, "so that what was said can be found out from the log"
    assert all(0 < limit <= 1.5 for limit in limits.values())
    assert results(trained)["throughput"]["policy"]["watch"]["tokens"] > 9 * 16
    assert plan(town(tmp_path, monitor__canaries=0), trained)[4].action == "skip"
    assert plan(town(tmp_path, monitor__on_alarm="brake"), trained)[4].action == "rebuild"


def test_a_stage_too_short_for_a_look_asks_nothing(finished: Path) -> None:
    assert "watch" not in results(finished)["throughput"]["policy"]


def test_a_resumed_run_looks_at_the_same(trained: Path, finished: Path, tmp_path: Path) -> None:
    recipe, whole = (
        town(tmp_path, **LOOKING),
        clone(finished, tmp_path / "apart" / "whole", stages=STAGES[:4]),
    )
    go_on(recipe, whole)
    stop_at(recipe, trained, 1)
    go_on(recipe, trained)
    assert rows(trained / POLICY / "steps.jsonl") == rows(whole / POLICY / "steps.jsonl")
    assert figures(trained) == figures(whole)


def test_canaries_that_are_asked_for_later_are_measured_against_the_start(
    trained: Path, finished: Path, tmp_path: Path
) -> None:
    stop_at(town(tmp_path, **LOOKING | {"monitor__canaries": 0}), trained, 2)
    go_on(town(tmp_path, **LOOKING), trained)
    whole = clone(finished, tmp_path / "apart" / "whole", stages=STAGES[:4])
    go_on(town(tmp_path, **LOOKING), whole)
    first, late = rows(whole / POLICY / "steps.jsonl")[0], rows(trained / POLICY / "steps.jsonl")[2]
    limits = [name for name in late if name.startswith("canary_limit/")]
    assert len(limits) == 9
    assert all(late[name] == first[name] for name in limits), "the model that training starts from"


def test_an_alarm_brakes_where_the_recipe_says_so(
    trained: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bounds, "passed", lambda _bounds, _canary, _rate: True)
    recipe = town(tmp_path, **LOOKING, monitor__on_alarm="brake")
    whole = clone(finished, tmp_path / "apart" / "whole", stages=STAGES[:4])
    told = go_on(recipe, whole)
    assert any("step 1, canary mistake: fails in" in line for line in told.said)
    assert sum("braking: kl_coef is" in line for line in told.said) == 1, (
        "an alarm that goes on is no new one"
    )
    logged = rows(whole / POLICY / "steps.jsonl")
    coefficients = [row["objective/kl_coef"] for row in logged]
    rates = [row["optimizer/lr_policy"] for row in logged]
    assert coefficients[1:] == [2 * coefficients[0]] * 2
    assert rates[1:] == pytest.approx([rates[0] / 2] * 2)
    (first, *_) = rows(whole / POLICY / "notices.jsonl")
    assert {"prompt", "completion"} == set(first["examples"][0])
    stop_at(recipe, trained, 2)
    go_on(recipe, trained)
    assert rows(trained / POLICY / "steps.jsonl") == logged
    assert weights(trained, "05-policy") == weights(whole, "05-policy")
