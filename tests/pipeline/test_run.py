"""A whole run: what it leaves behind, what a second one does, and what a change makes it do again."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from concordant.errors import UserError
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, prefer
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.lock import locked
from concordant.pipeline.plan import plan
from concordant.pipeline.reporter import Silent
from concordant.pipeline.run import execute, open_run
from tiny_run import (
    STAGES,
    clone,
    concordant,
    figures,
    fingerprints,
    results,
    rows,
    snapshot,
    town,
    town_file,
    weights,
)

MODELS = ("base", "sft", "policy", "ideal")
STEPS = {"01-base": 20, "02-sft": 10, "04-reward": 6, "05-policy": 3}


def actions(run: Path, **changes: object) -> dict[str, str]:
    return {stage.name: stage.action for stage in plan(town(run.parent / "recipes", **changes), run)}


def test_the_results_have_the_promised_figures(finished: Path) -> None:
    found = results(finished)
    assert found["schema"] == 1
    assert found["seconds"]["total"] == pytest.approx(sum(found["seconds"]["stages"].values()), abs=0.1)
    assert set(found["seconds"]["stages"]) == {"base", "sft", "feedback", "reward", "policy", "evaluate"}
    assert 100 < found["peak_rss_mb"] < 10_000
    for name in MODELS:
        model = found["models"][name]
        assert model["gold"]["n"] == 24
        assert model["gold"]["se"] > 0
        assert set(model["gold_parts"]) == {"helpful", "honest", "harmless", "concise"}
        parts = sum(part["mean"] for part in model["gold_parts"].values())
        assert model["gold"]["mean"] == pytest.approx(parts)
        families = model["gold_by_family"].values()
        whole = sum(family["mean"] * family["n"] for family in families) / sum(f["n"] for f in families)
        assert model["gold"]["mean"] == pytest.approx(whole)
        assert set(model["kl"]) == set(model["length"]) == {"mean", "se", "n"}
        assert 0 <= model["eos_rate"]["low"] <= model["eos_rate"]["rate"] <= model["eos_rate"]["high"] <= 1
        assert set(model["distinct"]) >= {"1", "2", "unique_of_16"}
    assert found["models"]["ideal"]["gold"]["mean"] > found["models"]["policy"]["gold"]["mean"]


def test_the_fine_tuned_model_does_not_differ_from_itself(finished: Path) -> None:
    models = results(finished)["models"]
    assert abs(models["sft"]["kl"]["mean"]) < 1e-4
    assert abs(models["base"]["kl"]["mean"]) > 1e-3


def test_the_reward_model_is_measured_with_n_and_an_interval(finished: Path) -> None:
    reward = results(finished)["reward_model"]
    low, high = reward["accuracy_ci"]
    assert 0 <= low <= reward["accuracy"] <= high <= 1
    assert reward["n"] > 0
    assert reward["chance_log_loss"] == pytest.approx(math.log(2))
    assert {"log_loss", "ece", "on_policy_accuracy"} <= set(reward)
    assert reward["on_policy_accuracy_n"] <= 4 * 8


def test_best_of_n_climbs_by_its_own_score(finished: Path) -> None:
    curve = results(finished)["best_of_n"]
    assert [row["n"] for row in curve] == [1, 2, 4, 8]
    proxies = [row["proxy"] if isinstance(row["proxy"], float) else row["proxy"]["mean"] for row in curve]
    assert proxies == sorted(proxies)
    assert all(row["gold"] is not None for row in curve)


def test_the_report_is_one_file(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "tiny" in page
    assert "<link" not in page
    assert 'src="http' not in page


def test_every_step_is_logged_once(finished: Path) -> None:
    for stage, total in STEPS.items():
        found = rows(finished / "stages" / stage / "steps.jsonl")
        assert [row["step"] for row in found] == list(range(1, total + 1)), stage


def test_nothing_half_done_is_left(finished: Path) -> None:
    names = [file.name for file in finished.rglob("*")]
    assert not [name for name in names if name.endswith((".partial", ".old", "-wal", "-shm"))]
    assert "state" not in names


def test_the_models_load_in_plain_transformers(finished: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    for stage in ("01-base", "02-sft", "05-policy"):
        folder = finished / "stages" / stage / "model"
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        chat = [{"role": "user", "content": "where is the bakery ?"}]
        given = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        assert model.generate(**given, max_new_tokens=4).shape[1] > given["input_ids"].shape[1]
    reward = AutoModelForSequenceClassification.from_pretrained(finished / "stages" / "04-reward" / "model")
    assert reward.num_labels == 1


def test_a_second_run_does_nothing_and_needs_no_torch(finished: Path) -> None:
    before = snapshot(finished / "stages")
    begin = time.monotonic()
    again = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "concordant", "run", "tiny.toml", "--runs", "runs"],
        cwd=finished.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - begin < 5
    assert again.returncode == 0, again.stderr[-2000:]
    assert "nothing was run" in again.stdout
    imported = {line.rpartition("|")[2].strip() for line in again.stderr.splitlines()}
    assert "concordant.pipeline.run" in imported
    assert not {"torch", "transformers", "datasets", "numpy"} & imported
    assert snapshot(finished / "stages") == before


def test_an_override_gets_a_directory_of_its_own_and_trains_only_what_it_changes(
    finished: Path, tmp_path: Path
) -> None:
    plain = clone(finished, tmp_path / "runs" / "tiny")
    before = snapshot(plain)
    done = concordant("run", town_file(tmp_path), "policy.kl_coef=0", "--runs", tmp_path / "runs")
    assert done.status == 0, done.err
    other = tmp_path / "runs" / "tiny-policy.kl_coef=0"
    for name in ("base", "sft", "feedback", "reward"):
        assert f"{name}: the same stage is done in {plain}" in done.out
    for title in ("pretraining", "fine-tuning", "sampling candidates", "reward model 6"):
        assert title not in done.out
    assert "PPO 3/3" in done.out
    mine, theirs = fingerprints(other), fingerprints(plain)
    assert {stage: mine[stage] == theirs[stage] for stage in STAGES} == {
        "01-base": True,
        "02-sft": True,
        "03-feedback": True,
        "04-reward": True,
        "05-policy": False,
        "06-evaluate": False,
    }
    assert weights(other, "05-policy") != weights(plain, "05-policy")
    assert {file: facts for file, facts in snapshot(plain).items() if file in before} == before
    page = (other / "report.html").read_text(encoding="utf-8")
    assert 'href="#comparison"' in page
    assert 'href="#comparison"' not in (plain / "report.html").read_text(encoding="utf-8")


def test_a_setting_that_changes_no_result_rebuilds_nothing(finished: Path) -> None:
    for changes in ({"policy__checkpoint": 1, "pretrain__checkpoint": 3}, {"machine__threads": 2}):
        assert set(actions(finished, **changes).values()) == {"skip"}


def test_a_change_rebuilds_what_depends_on_it_in_the_same_directory(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "runs" / "mine")
    before = snapshot(run / "stages")
    done = concordant("run", town_file(tmp_path), "reward.steps=4", "--run", run)
    assert done.status == 0, done.err
    for name in ("base", "sft", "feedback"):
        assert f"{name}: done" in done.out
    after = snapshot(run / "stages")
    kept = {file for file in before if file.startswith(("01", "02", "03"))}
    assert {file: after[file] for file in kept} == {file: before[file] for file in kept}
    for stage in ("04-reward", "05-policy", "06-evaluate"):
        assert fingerprints(run)[stage] != fingerprints(finished)[stage]
    assert [row["step"] for row in rows(run / "stages" / "04-reward" / "steps.jsonl")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "rebuilt"),
    [
        ({"seed": 1}, ["base", "sft", "feedback", "reward", "policy", "evaluate"]),
        ({"pretrain__optimizer__lr": 1e-3}, ["base", "sft", "feedback", "reward", "policy", "evaluate"]),
        ({"sft__steps": 3}, ["sft", "feedback", "reward", "policy", "evaluate"]),
        ({"feedback__labelers": "pleaser"}, ["feedback", "reward", "policy", "evaluate"]),
        ({"reward__epochs": 2}, ["reward", "policy", "evaluate"]),
        ({"policy__kl_coef": 0}, ["policy", "evaluate"]),
        ({"evaluate__prompts": 5}, ["evaluate"]),
    ],
)
def test_what_a_change_rebuilds(finished: Path, change: dict[str, object], rebuilt: list[str]) -> None:
    found = actions(finished, **change)
    assert [name for name, action in found.items() if action == "rebuild"] == rebuilt
    assert all(action == "skip" for name, action in found.items() if name not in rebuilt)


def vote_once_more(run: Path) -> None:
    """Somebody ranks one pair that the simulated labeler has ranked already."""
    with Store.open(run / "feedback.sqlite") as store:
        me = store.add_labeler("me", "human")
        with store.reading() as connection:
            row = connection.exec_driver_sql(
                "SELECT task, completion FROM task_completion ORDER BY task"
            ).all()
        first = [completion for task, completion in row if task == row[0][0]]
        store.create_tasks("pairwise", [first], need=2)
        lease = store.lease(me)
        assert lease is not None
        vote = Vote(lease.comparison.task_id, prefer(lease.comparison.completions[0].id))
        store.submit(lease.token, "mine", vote)


def test_new_votes_make_a_new_reward_model(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "runs" / "tiny")
    vote_once_more(run)
    found = actions(run)
    assert found == {
        "base": "skip",
        "sft": "skip",
        "feedback": "skip",
        "reward": "rebuild",
        "policy": "rebuild",
        "evaluate": "rebuild",
    }
    assert execute(town(tmp_path), run, Silent(), StopRequest())
    assert results(run)["feedback"]["live_votes"] == results(finished)["feedback"]["live_votes"] + 1
    assert set(actions(run).values()) == {"skip"}
    # A run beside it that takes the stage over takes the votes of today, and says so beforehand.
    beside = tmp_path / "runs" / "beside"
    assert actions(beside)["reward"] == "reuse"


def test_votes_are_kept_when_another_run_s_feedback_is_taken_over(finished: Path, tmp_path: Path) -> None:
    clone(finished, tmp_path / "runs" / "tiny")
    run = clone(finished, tmp_path / "runs" / "mine")
    vote_once_more(run)
    mine = digest_of(run / "feedback.sqlite")
    for name in ("stage.json", "begun.json"):
        file = run / "stages" / "03-feedback" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": "of other candidates"}))
    assert actions(run)["feedback"] == "reuse"
    execute(town(tmp_path), run, Silent(), StopRequest())
    (kept,) = run.glob("feedback.2*.sqlite")
    assert digest_of(kept) == mine
    assert digest_of(run / "feedback.sqlite") == digest_of(finished / "feedback.sqlite") != mine


def digest_of(file: Path) -> str:
    with Store.open(file) as store:
        return digest(store)


def test_candidates_are_made_again_where_their_store_is_gone(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "runs" / "tiny")
    (run / "feedback.sqlite").unlink()
    stage = next(stage for stage in plan(town(tmp_path), run) if stage.name == "feedback")
    assert (stage.action, stage.why) == ("rebuild", "feedback.sqlite is gone")
    assert not (run / "feedback.sqlite").exists()  # planning makes no empty one
    # Neither does another run take over a stage without its votes.
    assert actions(tmp_path / "runs" / "beside")["feedback"] == "run"


def test_a_seed_fixes_everything(finished: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        recipe, run = town(tmp_path, seed=seed), tmp_path / name / "tiny"
        open_run(recipe, run, "")
        execute(recipe, run, Silent(), StopRequest())
    same, other = tmp_path / "same" / "tiny", tmp_path / "other" / "tiny"
    assert figures(same) == figures(finished)
    for stage in ("01-base", "02-sft", "04-reward", "05-policy"):
        assert weights(same, stage) == weights(finished, stage), stage
        assert weights(other, stage) != weights(finished, stage), stage
    assert digest_of(same / "feedback.sqlite") == digest_of(finished / "feedback.sqlite")
    assert figures(other)["models"] != figures(finished)["models"]


def test_one_process_at_a_time(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    with locked(run), pytest.raises(UserError, match="another process"), locked(run):
        pass
    with locked(run):
        pass


def test_stages_that_are_all_taken_over_leave_a_whole_run(finished: Path, tmp_path: Path) -> None:
    clone(finished, tmp_path / "runs" / "tiny")
    done = concordant("run", town_file(tmp_path), "policy.checkpoint=7", "--runs", tmp_path / "runs")
    assert done.status == 0, done.err
    other = tmp_path / "runs" / "tiny-policy.checkpoint=7"
    assert {"results.json", "report.html", "resolved.toml", "recipe.toml"} <= {
        f.name for f in other.iterdir()
    }
    assert figures(other)["models"] == figures(finished)["models"]


def test_training_and_evaluation_stop_alike(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """same_stop_and_length_in_train_and_eval: https://github.com/NovaSky-AI/SkyRL/issues/1317"""
    from concordant.pipeline.parts import sampling
    from concordant.rollout.inline import InlineSampler

    made: list[InlineSampler] = []

    class Watched(InlineSampler):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            made.append(self)

    monkeypatch.setattr(sampling, "InlineSampler", Watched)
    run = clone(finished, tmp_path / "runs" / "tiny", stages=STAGES[:4])
    assert execute(town(tmp_path, policy__updates=1), run, Silent(), StopRequest())
    assert len(made) > 3
    assert len({(*s.stop_ids.tolist(), s.pad_id, s.limit, s.temperature) for s in made}) == 1
    assert len(made[0].stop_ids)
