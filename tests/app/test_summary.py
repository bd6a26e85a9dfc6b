"""The few lines of a run's figures that stand on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from concordant.app.commands.reporting import summary
from concordant.evaluation.health import health
from concordant.files import write_json


def caption(folder: Path, **results: Any) -> str:
    write_json(folder / "results.json", {"name": "tiny", "seed": 0, "models": {}, **results})
    return str(summary(folder).caption or "")


def test_figures_out_of_bounds_are_told_with_what_is_behind_them(tmp_path: Path) -> None:
    figures = {"feedback": {"agreement": {"value": 0.5, "low": 0.45, "high": 0.55, "n": 400}}}
    figures["feedback"]["first_chosen"] = {"value": 0.6, "low": 0.58, "high": 0.62, "n": 900}
    figures["feedback"]["alpha"] = {"value": 0.8, "low": 0.7, "high": 0.9}
    lines = caption(tmp_path, health=health(figures, "sft")).splitlines()
    assert len(lines) == 2, "one of the three is as it should be"
    assert lines[0].startswith(
        "out of bounds: feedback.agreement is 0.5, should be at least 0.6: the question"
    )
    assert "should be at least 0.5 and at most 0.5" in lines[1]


def test_without_figures_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert caption(tmp_path) == ""
