"""The figures of a run come from its records and from nothing else: they are computed again from the files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from concordant.evaluation.leaderboard import standings
from concordant.evaluation.win_rates import duels_of
from concordant.pipeline.duels import sampled_answers
from concordant.pipeline.folder import StageFolder
from concordant.pipeline.parts.measuring.files import recorded
from tiny_run import results, rows


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


def test_a_changed_row_changes_the_figures(finished: Path) -> None:
    record = recorded(folder_of(finished), "sft")
    samples, pairs, demonstrations = record.rows()
    assert samples == rows(folder_of(finished).samples)
    louder: list[dict[str, Any]] = [dict(row) for row in pairs]
    louder[0]["chosen"] = {**louder[0]["chosen"], "score": louder[0]["chosen"]["score"] + 100}
    other = type(record).from_rows("sft", samples, louder, demonstrations).figures()
    assert other["reward_model"]["log_loss"] != results(finished)["reward_model"]["log_loss"]
