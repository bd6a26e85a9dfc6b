"""The second reward model: of votes that the first did not see, made once, and asked about every answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from concordant.app.gaming import gaming
from concordant.data.types import Completion, Preference, Prompt
from concordant.errors import UserError
from concordant.pipeline.afterwards import context_after
from concordant.pipeline.folder import StageFolder
from concordant.pipeline.forecast.disk import model_bytes
from concordant.pipeline.forecast.look import look_at
from concordant.pipeline.forecast.size import size_of
from concordant.pipeline.forecast.work import work_of
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.parts.measuring.files import recorded
from concordant.pipeline.parts.preferences import learnt_and_kept, voted_preferences
from concordant.pipeline.plan import plan
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Silent
from concordant.pipeline.run import execute
from tiny_run import TOWN, Stopper, clone, concordant, figures, results, rows, town, town_file, weights

HALF = "reward.held_out=0.5"
SECOND = Path("stages") / "04-reward" / "held-out"


@pytest.fixture(scope="module")
def checked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a second reward model, whose stages before it are those of another."""
    run = clone(finished, tmp_path_factory.mktemp("held-out") / "runs" / "tiny")
    go(run)
    return run


def go(run: Path, *words: str) -> str:
    done = concordant("run", town_file(run.parent.parent, text=TOWN), "--run", run, HALF, *words)
    assert done.status == 0, done.err
    return done.out


def halves(recipe: Recipe, run: Path) -> tuple[list[Preference], list[Preference]]:
    context = context_after(recipe, run, {}, Silent(), purpose="test")
    return learnt_and_kept(context, voted_preferences(context)[0])


def test_the_two_models_learn_from_different_prompts(checked: Path, tmp_path: Path) -> None:
    learnt, kept = halves(town(tmp_path, reward__held_out=0.5), checked)
    assert not {row.prompt.id for row in learnt} & {row.prompt.id for row in kept}
    facts = results(checked)["stages"]["reward"]
    assert (facts["pairs"], facts["held_out"]["pairs"]) == (len(learnt), len(kept))
    assert 0 < len(kept) < len(learnt) + len(kept)
    second = checked / SECOND / "model" / "model.safetensors"
    assert second.read_bytes() != weights(checked, "04-reward")
    assert len(rows(checked / SECOND / "steps.jsonl")) == 6


def test_every_answer_is_scored_by_both(checked: Path) -> None:
    samples = rows(checked / "stages" / "06-evaluate" / "samples.jsonl")
    assert all(isinstance(row["held_out"], float) for row in samples)
    assert any(row["held_out"] != row["score"] for row in samples)
    found = results(checked)
    for model in ("base", "sft", "policy", "ideal"):
        assert found["models"][model]["held_out"]["n"] == 24
    assert {"mean", "low", "high", "n"} == set(found["changes"]["policy_minus_sft"]["held_out"])
    assert 0 <= found["reward_model"]["held_out"]["accuracy"] <= 1
    assert found["reward_model"]["held_out"] != {
        key: found["reward_model"][key] for key in found["reward_model"]["held_out"]
    }
    assert all(isinstance(row["held_out"], float) for row in found["best_of_n"])
    assert found["best_of_n_fit"]["truth"] == "gold"


def test_the_gap_is_the_difference_of_both_rises(checked: Path) -> None:
    policy = results(checked)["models"]["policy"]
    gap = policy["score_z"]["mean"] - policy["held_out_z"]["mean"]
    assert policy["held_out_gap"]["mean"] == pytest.approx(gap)
    assert any(line.startswith("held-out reward model: ") for line in gaming(results(checked)))
    assert "held_out_gap" not in results(checked)["models"]["sft"]


def test_the_figures_are_computed_again_from_the_files(checked: Path) -> None:
    again = recorded(StageFolder(checked / "stages" / "06-evaluate"), "sft").figures()
    assert all(results(checked)[name] == found for name, found in again.items())


def test_measuring_anew_makes_no_reward_model_anew(checked: Path, tmp_path: Path) -> None:
    run = clone(checked, tmp_path / "tiny")
    done = concordant("evaluate", run, "evaluate.prompts=20")
    assert done.status == 0, done.err
    assert results(run)["models"]["policy"]["held_out"]["n"] == 20


def test_a_gate_may_ask_for_it_only_where_there_is_one(tmp_path: Path) -> None:
    gate = '\n[gate]\ntarget = "held_out"\n'
    recipe = town_file(tmp_path, text=TOWN + gate)
    assert concordant("plan", recipe, HALF).status == 0
    refused = concordant("plan", recipe)
    assert refused.status == 2
    assert "held_out" in refused.err


def test_without_one_fingerprints_are_what_they_were(finished: Path, tmp_path: Path) -> None:
    assert {stage.action for stage in plan(town(tmp_path), finished)} == {"skip"}
    assert "held_out" not in results(finished)["models"]["policy"]
    other = [
        stage.name for stage in plan(town(tmp_path, reward__held_out=0.3), finished) if stage.action != "skip"
    ]
    assert other == ["reward", "policy", "evaluate"]


@pytest.mark.parametrize("title", ["held-out reward", "reward model"])
def test_a_run_stopped_in_either_of_them_ends_as_one_that_was_not(
    checked: Path, finished: Path, tmp_path: Path, title: str
) -> None:
    run = clone(finished, tmp_path / "runs" / "tiny")
    shutil.rmtree(run / "stages" / "04-reward")
    recipe = town(tmp_path, reward__held_out=0.5)
    stop = StopRequest()
    with pytest.raises(Interrupted):
        execute(recipe, run, Stopper(stop, title, at=3), stop)
    assert not (run / "stages" / "04-reward" / "stage.json").exists()
    execute(recipe, run, Silent(), StopRequest())
    for where in ("04-reward", "04-reward/held-out", "05-policy"):
        assert weights(run, where) == weights(checked, where)
    assert figures(run)["models"] == figures(checked)["models"]
    tokens = figures(run)["tokens"]["reward"]
    assert tokens == figures(checked)["tokens"]["reward"]


def test_one_prompt_is_too_little_for_two_models(checked: Path, tmp_path: Path) -> None:
    context = context_after(town(tmp_path, reward__held_out=0.5), checked, {}, Silent(), purpose="test")
    prompt = Prompt.user("who ?")
    pair = Preference(prompt, Completion("a"), Completion("b"))
    with pytest.raises(UserError, match="nothing to learn from"):
        learnt_and_kept(context, [pair, pair])


def test_a_plan_counts_both(tmp_path: Path) -> None:
    def planned(**changes: Any) -> Any:
        recipe = town(tmp_path, **changes)
        work = next(w for w in work_of(recipe, look_at(recipe, 128)) if w.stage == "reward")
        size = size_of(recipe)
        return work, model_bytes(recipe, size, {"reward"}), size

    one, one_bytes, _ = planned()
    two, two_bytes, _ = planned(reward__held_out=0.5)
    assert two.steps.number == 2 * one.steps.number  # `steps` is of each model
    assert two_bytes == 2 * one_bytes
    epochs = planned(reward__held_out=0.5, reward__steps=0, reward__epochs=2)[0]
    whole = planned(reward__steps=0, reward__epochs=2)[0]
    assert epochs.steps.number == pytest.approx(whole.steps.number, abs=2)
