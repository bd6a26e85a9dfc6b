"""Probes in a run, and what alarms do: brake, pause, go back; a run that was killed does the same again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from concordant.errors import UserError
from concordant.feedback.answering.labelers import collect
from concordant.feedback.answering.simulated import simulated_labelers
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.projects import projects
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, skip, tie
from concordant.monitor import detectors, probes
from concordant.monitor.detectors import LIMITS
from concordant.monitor.probes import Course, Probe
from concordant.pipeline.interrupt import Interrupted, PausedByMonitor, StopRequest
from concordant.pipeline.material import material_of
from concordant.pipeline.parts import probing, probing_people
from concordant.pipeline.parts.model_judge import AskedModel
from concordant.pipeline.plan import plan
from concordant.pipeline.preflight import check_recipe
from concordant.pipeline.recipe import Recipe, load_recipe
from concordant.pipeline.run import execute, prepare
from concordant.worlds.world import make_world
from tiny_run import STAGES, Stopper, clone, concordant, figures, results, rows, town, town_file, weights

POLICY = Path("stages", "05-policy")
PROBING: dict[str, Any] = {"policy__updates": 4, "monitor__probes": 1, "monitor__canaries": 0}


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    return clone(finished, tmp_path / "run", stages=STAGES[:4])


@pytest.fixture
def another(finished: Path, tmp_path: Path) -> Path:
    return clone(finished, tmp_path / "apart" / "run", stages=STAGES[:4])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes of 8 pairs, 12 at most."""
    for module in (probes, probing, probing_people):
        monkeypatch.setattr(module, "MOST", 12)
    for module in (probing, probing_people):
        monkeypatch.setattr(module, "FIRST", 8)


@pytest.fixture
def fallen(monkeypatch: pytest.MonkeyPatch, few: None) -> None:
    """The third probe is a fall, whatever it says; the best one is the second."""
    monkeypatch.setattr(Course, "fell", lambda _course, probe: probe.step == 3)
    rates = {1: 0.6, 2: 0.9, 3: 0.2}
    made = Probe.of_values

    def given(step: int, values: list[float], score: float, *_best: Any) -> Probe:
        rate = rates.get(step, 0.3)
        return made(step, [rate] * len(values), score)

    monkeypatch.setattr(Probe, "of_values", given)


def go_on(recipe: Recipe, run: Path) -> Stopper:
    reporter = Stopper(StopRequest())
    assert execute(recipe, run, reporter, reporter.stop)
    return reporter


def stop_at(recipe: Recipe, run: Path, step: int) -> None:
    reporter = Stopper(StopRequest(), "PPO", step)
    with pytest.raises(Interrupted):
        execute(recipe, run, reporter, reporter.stop)


def test_probes_are_recorded_and_leave_training_as_it_was(
    trained: Path, another: Path, tmp_path: Path, few: None
) -> None:
    recipe = town(tmp_path, **PROBING, evaluate__labelers="pool")
    go_on(recipe, trained)
    go_on(town(tmp_path, **PROBING | {"monitor__probes": 0}), another)
    assert weights(trained, "05-policy") == weights(another, "05-policy")
    found = rows(trained / POLICY / "probes.jsonl")
    assert [(row["step"], row["of"], row["why"]) for row in found] == [
        (1, 1, "due"),
        (2, 2, "due"),
        (3, 3, "due"),
        (4, 4, "last step"),
    ]
    assert {(row["by"], row["against"]) for row in found} == {("pool", "sft")}
    assert all(row["n"] in (8, 12) and row["low"] <= row["rate"] <= row["high"] for row in found)
    for row, step in zip(found, rows(trained / POLICY / "steps.jsonl"), strict=True):
        values = [pair["value"] for pair in row["pairs"]]
        assert row["rate"] == pytest.approx(sum(values) / len(values)) == step["probe/rate"]
        assert row["alike"] == sum(a == b for a, b in (pair["texts"] for pair in row["pairs"]))
        assert step["probe/n"] == row["n"] == len(values)
    for n, row in enumerate(found):
        assert row["below"] == pytest.approx(below_the_best(found[:n], row), abs=0.05), (
            "paired, or the two rates"
        )
    assert results(trained)["throughput"]["policy"]["watch"]["tokens"] > 4 * 12


def below_the_best(before: list[dict[str, Any]], row: dict[str, Any]) -> float:
    """How far a probe's win rate is below the best one of those before it, one half among them."""
    best = max((one["rate"] for one in before), default=0.5)
    return float(max(best, 0.5) - row["rate"])


def test_gold_answers_where_nobody_else_is_named(trained: Path, tmp_path: Path, few: None) -> None:
    recipe = town(tmp_path, **PROBING)
    go_on(recipe, trained)
    material = material_of(recipe)
    prompts = {prompt.id: prompt for prompt in material.evaluation(12)["train"]}
    found = rows(trained / POLICY / "probes.jsonl")
    assert {row["by"] for row in found} == {"gold"}
    for pair in (pair for row in found for pair in row["pairs"]):
        first, policy = (material.gold(prompts[pair["prompt_id"]], text).total for text in pair["texts"])
        assert pair["value"] == (0.5 if first == policy else float(policy > first))


def test_an_alarm_makes_a_probe_on_the_next_step(
    trained: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [replace(one, most=-1.0) if one.detector == "far away" else one for one in LIMITS]
    monkeypatch.setattr(detectors, "LIMITS", limits)
    go_on(town(tmp_path, **PROBING | {"monitor__probes": 4}), trained)
    why = [(row["of"], row["why"]) for row in rows(trained / POLICY / "probes.jsonl")]
    assert why == [(2, "far away"), (4, "last step")]
    (notice, *_) = [row for row in rows(trained / POLICY / "notices.jsonl") if row["detector"] == "far away"]
    assert len(notice["examples"]) == 3
    assert all(set(example) == {"prompt", "completion"} for example in notice["examples"])


def test_going_back_leaves_the_step_that_was_liked_best(
    trained: Path, another: Path, tmp_path: Path, fallen: None
) -> None:
    steady = PROBING | {"policy__optimizer__schedule": "constant"}
    told = go_on(town(tmp_path, **steady, monitor__on_alarm="rollback"), trained)
    assert any("what stays is step 2, whose answers won 90%" in line for line in told.said)
    assert [row["step"] for row in rows(trained / POLICY / "steps.jsonl")] == [1, 2, 3]
    turnover, rollback = rows(trained / POLICY / "notices.jsonl")[-2:]
    assert (turnover["detector"], turnover["tier"], turnover["action"]) == ("turnover", 3, "rollback")
    assert (rollback["detector"], rollback["step"]) == ("rollback", 3)
    go_on(town(tmp_path, **steady | {"policy__updates": 2}), another)
    assert weights(trained, "05-policy") == weights(another, "05-policy")


@pytest.mark.parametrize("step", [1, 2])
def test_a_resumed_run_goes_back_to_the_same(
    trained: Path, another: Path, tmp_path: Path, fallen: None, step: int
) -> None:
    recipe = town(tmp_path, **PROBING, monitor__on_alarm="rollback")
    go_on(recipe, another)
    stop_at(recipe, trained, step)
    go_on(recipe, trained)
    for name in ("steps.jsonl", "notices.jsonl", "probes.jsonl"):
        assert rows(trained / POLICY / name) == rows(another / POLICY / name)
    assert weights(trained, "05-policy") == weights(another, "05-policy")
    assert figures(trained) == figures(another)


def test_going_back_to_the_very_beginning(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: None
) -> None:
    monkeypatch.setattr(Course, "fell", lambda _course, _probe: True)
    made = Probe.of_values
    monkeypatch.setattr(
        Probe, "of_values", lambda step, values, score, *_: made(step, [0.1] * len(values), score)
    )
    told = go_on(town(tmp_path, **PROBING, monitor__on_alarm="rollback"), trained)
    assert any("what stays is step 0" in line for line in told.said)
    assert weights(trained, "05-policy") == weights(trained, "02-sft")


def test_going_back_is_for_the_policy_alone(finished: Path, tmp_path: Path, few: None) -> None:
    """Fixed data has no probes: what its stages leave is what `checkpoint.best` says, and nothing else is kept."""
    run = clone(finished, tmp_path / "run", stages=STAGES[:1])
    recipe = town(
        tmp_path, **PROBING, monitor__on_alarm="rollback", sft__checkpoint={"every": 1, "best": "-loss"}
    )
    told = go_on(recipe, run)
    assert not any("step 0" in line for line in told.said)
    losses = {row["step"]: row["loss"] for row in rows(run / "stages" / "02-sft" / "steps.jsonl")}
    best = min(losses, key=lambda step: losses[step])
    assert best == max(losses) or any(f"the best by -loss is step {best}" in line for line in told.said)


def test_a_pause_asks_people_and_goes_on_where_it_stopped(
    trained: Path, another: Path, tmp_path: Path, fallen: None
) -> None:
    recipe = town(tmp_path, **PROBING, monitor__on_alarm="pause", monitor__relabel=10)
    stop = StopRequest()
    with pytest.raises(PausedByMonitor, match="step 3, turnover") as paused:
        execute(recipe, trained, Stopper(stop), stop)
    with Store.open(trained / "feedback.sqlite") as store:
        waiting = store.unfinished()
        assert 0 < len(waiting) <= 10
        assert f"{len(waiting)} pairs" in str(paused.value)
        (asked, *_) = store.comparisons([waiting[0].task_id])
        assert len(asked[1]) == 2
    planned = plan(recipe, trained)
    assert [stage.action for stage in planned[:5]] == ["skip"] * 4 + ["resume"]
    go_on(recipe, trained)
    go_on(town(tmp_path, **PROBING | {"monitor__on_alarm": "warn"}), another)
    assert weights(trained, "05-policy") == weights(another, "05-policy")
    assert rows(trained / POLICY / "probes.jsonl") == rows(another / POLICY / "probes.jsonl")


def test_votes_after_a_pause_make_another_reward_model(trained: Path, tmp_path: Path, fallen: None) -> None:
    recipe = town(tmp_path, **PROBING, monitor__on_alarm="pause", monitor__relabel=10)
    stop = StopRequest()
    with pytest.raises(PausedByMonitor):
        execute(recipe, trained, Stopper(stop), stop)
    with Store.open(trained / "feedback.sqlite") as store:
        collect(store, simulated_labelers("careful", make_world("town", 0).gold))
    assert [stage.action for stage in plan(recipe, trained)[3:5]] == ["rebuild", "rebuild"]


def test_the_command_line_says_what_to_do_at_a_pause(finished: Path, tmp_path: Path, fallen: None) -> None:
    run = clone(finished, tmp_path / "run", stages=STAGES[:4])
    words = [
        f"{name.replace('__', '.')}={value}"
        for name, value in {**PROBING, "monitor__on_alarm": "pause"}.items()
    ]
    told = concordant("run", town_file(tmp_path), *words, "--run", run)
    said = " ".join(told.out.split())
    assert told.status == 0
    assert "paused at step 3, turnover" in said
    assert "concordant label" in said
    assert "then go on with: concordant run" in said


def test_people_answer_later(trained: Path, tmp_path: Path, few: None) -> None:
    recipe = town(tmp_path, **PROBING | {"monitor__probes": 2}, monitor__probed_by="people")
    stop_at(recipe, trained, 2)
    with Store.open(trained / "feedback.sqlite") as store:
        (project,) = [one for one in projects(store) if one.id != DEFAULT_PROJECT]
        assert project.purpose == "evaluation"
        assert 0 < project.tasks <= 8
        labelers = simulated_labelers("careful", make_world("town", 0).gold)
        collect(store, labelers, project=project.id)
    assert rows_of(trained, "probes.jsonl") == []
    stop_at(recipe, trained, 3)
    with Store.open(trained / "feedback.sqlite") as store:
        (project,) = [one for one in projects(store) if one.id != DEFAULT_PROJECT]
        collect(store, labelers, project=project.id)
    go_on(recipe, trained)
    (found, *_) = rows(trained / POLICY / "probes.jsonl")
    assert (found["of"], found["by"], found["why"]) == (2, "people", "due")
    assert found["step"] > 2
    logged = rows(trained / POLICY / "steps.jsonl")
    assert logged[found["step"] - 1]["probe/step"] == 2
    assert [row["by"] for row in results(trained)["win_rates"]].count("people") == 0


def test_a_question_that_somebody_passes_over_is_not_waited_for(
    trained: Path, tmp_path: Path, few: None
) -> None:
    recipe = town(tmp_path, **PROBING | {"monitor__probes": 2}, monitor__probed_by="people")
    for step in (2, 3):  # the first pairs, and those that it grows by
        stop_at(recipe, trained, step)
        with Store.open(trained / "feedback.sqlite") as store:
            (project,) = [one for one in projects(store) if one.id != DEFAULT_PROJECT]
            someone = store.add_labeler("somebody", "human")
            held = store.lease_many(someone, 99, project=project.id)
            assert len(held) > 1
            for lease, payload in zip(held, [skip("cannot tell")] + [tie()] * len(held), strict=False):
                store.submit(lease.token, f"key {lease.token}", Vote(lease.comparison.task_id, payload))
    go_on(recipe, trained)
    assert rows_of(trained, "probes.jsonl")[0]["of"] == 2


def rows_of(run: Path, name: str) -> list[dict[str, Any]]:
    file = run / POLICY / name
    return rows(file) if file.is_file() else []


def test_a_model_may_judge(
    trained: Path, finished: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replies "b" to everything: as each pair is shown in both orders, that is half for each, and bias shows."""
    judge = finished / "stages" / "02-sft" / "model"
    monkeypatch.setattr(AskedModel, "replies", lambda _self, questions: ["b"] * len(questions))
    go_on(town(tmp_path, **PROBING, monitor__judge=str(judge)), trained)
    found = rows(trained / POLICY / "probes.jsonl")
    assert {row["by"] for row in found} == {"judge"}
    assert {pair["value"] for row in found for pair in row["pairs"]} == {0.5}


def test_a_judge_without_a_verdict_makes_no_probe(
    trained: Path, finished: Path, tmp_path: Path, few: None
) -> None:
    """A model of the town's few words says neither A nor B."""
    judge = finished / "stages" / "02-sft" / "model"
    told = go_on(town(tmp_path, **PROBING, monitor__judge=str(judge)), trained)
    assert any("the judge gave no verdict on" in line for line in told.said)
    assert all(pair["value"] == 0.5 for row in rows_of(trained, "probes.jsonl") for pair in row["pairs"])


def test_a_judge_that_is_no_model_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "no-model").mkdir()
    recipe = town(tmp_path, monitor__judge=str(tmp_path / "no-model"))
    with pytest.raises(UserError, match="no-model") as refused:
        prepare(recipe, plan(recipe, tmp_path / "run"), Stopper(StopRequest()))
    assert "monitor.judge" in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"monitor__on_alarm": "pause", "monitor__probes": 0}, "nobody compares answers"),
        ({"monitor__on_alarm": "rollback", "monitor__probed_by": "people"}, "people answer later"),
        (
            {"monitor__on_alarm": "rollback", "policy__checkpoint__best": "objective/score"},
            "which checkpoint",
        ),
        ({"monitor__probed_by": "judge"}, "no model is named that judges"),
        ({"monitor__probed_by": "pol"}, "no simulated labeler is called 'pol'"),
    ],
)
def test_recipes_whose_alarms_could_do_nothing_are_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        check_recipe(town(tmp_path, **changes))


def test_without_a_world_only_people_can_compare(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    text = (
        f'name = "x"\n[model]\npath = "{tmp_path}"\n[data]\npreferences = "{pairs}"\n'
        "[reward]\n[policy]\n[monitor]\n"
    )
    for by, says in (("gold", "no world tells 'gold' what is true"), ("pool", "no world tells 'pool'")):
        with pytest.raises(UserError, match=says):
            check_recipe(load_recipe(town_file(tmp_path, text=f'{text}probed_by = "{by}"\n')))
    assert load_recipe(town_file(tmp_path, text=text)).probed_by == ""
    check_recipe(load_recipe(town_file(tmp_path, text=f'{text}probed_by = "people"\n')))
