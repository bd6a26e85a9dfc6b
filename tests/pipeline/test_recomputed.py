"""The figures of a run come from its records and from nothing else: they are computed again from the files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from concordant.evaluation.leaderboard import standings
from concordant.evaluation.win_rates import duels_of
from concordant.pipeline.duels import sampled_answers
from concordant.pipeline.folder import StageFolder
from concordant.pipeline.parts.measuring.files import recorded
from tiny_run import TOWN, concordant, results, rows, town_file


def folder_of(run: Path) -> StageFolder:
    return StageFolder(run / "stages" / "06-evaluate")


def test_every_figure_can_be_computed_again(finished: Path) -> None:
    found, again = results(finished), recorded(folder_of(finished), "sft").figures()
    assert set(again) == {
        "models",
        "gaps",
        "changes",
        "non_length_gain",
        "reward_model",
        "implicit_reward",
        "samples",
    }
    for name, figures in again.items():
        assert found[name] == figures, name
    board = standings(duels_of(sampled_answers(finished)), "sft")
    for name, computed in board.items():
        assert found[name] == computed, name


def test_a_policy_of_pairs_is_measured_by_its_implicit_reward(tmp_path: Path) -> None:
    before, _, after = TOWN.partition("[reward]")
    policy = '[policy]\nalgorithm = "dpo"\nbatch = 8\nsteps = 6\noptimizer = { lr = 1e-2 }\n'
    text = f"{before}{policy}[evaluate]{after.partition('[evaluate]')[2]}".replace(
        "best_of_prompts = 2\n", ""
    )
    done = concordant("run", town_file(tmp_path, text=text), "--run", tmp_path / "run")
    assert done.status == 0, done.err
    found, folder = results(tmp_path / "run"), StageFolder(tmp_path / "run" / "stages" / "06-evaluate")
    assert "reward_model" not in found
    implicit = found["implicit_reward"]
    assert implicit["n"] == sum(row["split"] == "held out" for row in rows(folder.pairs))
    assert implicit["displacement"]["chosen"]["mean"] != 0
    again = recorded(folder, "sft").figures()
    assert again["implicit_reward"] == implicit
    assert again["models"] == found["models"]
    steps = rows(tmp_path / "run" / "stages" / "05-policy" / "steps.jsonl")
    assert abs(steps[0]["policy/chosen_change"]) < 1e-6 > abs(steps[0]["policy/rejected_change"])
    assert steps[-1]["policy/chosen_change"] != steps[-1]["policy/rejected_change"]


def test_the_last_look_while_training_is_what_is_measured_afterwards(finished: Path) -> None:
    steps = rows(finished / "stages" / "04-reward" / "steps.jsonl")
    held_out = [row for row in rows(folder_of(finished).pairs) if row["split"] == "held out"]
    assert len({row["group"] for row in held_out}) <= 128, "all of them were looked at"
    measured = results(finished)["reward_model"]
    assert steps[-1]["validation/accuracy"] == pytest.approx(measured["accuracy"])
    centering = steps[-1]["validation/loss"] - measured["log_loss"]
    assert 0 <= centering < 0.01, "the loss has a small term that keeps scores near zero"
    fitted = rows(finished / "stages" / "02-sft" / "steps.jsonl")
    looks = [row["validation/loss"] for row in fitted if "validation/loss" in row]
    assert len(looks) == 5
    assert looks[-1] < looks[0]


def test_a_changed_row_changes_the_figures(finished: Path) -> None:
    record = recorded(folder_of(finished), "sft")
    samples, pairs, demonstrations, documents = record.rows()
    assert samples == rows(folder_of(finished).samples)
    louder: list[dict[str, Any]] = [dict(row) for row in pairs]
    louder[0]["chosen"] = {**louder[0]["chosen"], "score": louder[0]["chosen"]["score"] + 100}
    other = type(record).from_rows("sft", samples, louder, demonstrations, documents).figures()
    assert other["reward_model"]["log_loss"] != results(finished)["reward_model"]["log_loss"]
