"""A run directory with a log and nothing trained, for the tests of trackers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from concordant.files import write_json, write_text
from concordant.pipeline.folder import StageFolder, as_json

Figures = Mapping[str, float]
RECIPE = """\
name = "logged"

[model]
path = "somewhere"

[feedback]
url = "postgresql://me@host/votes"
"""
RESOLVED = RECIPE + '\n[policy.rewards.server]\nurl = "https://me:hunter2@host/score?key=hunter3"\n'
NOTICE = {
    "detector": "canary claims",
    "saw": "fails in 40% of the answers",
    "causes": "the reward pays for it",
    "examples": [{"prompt": "is it so ?", "said": "<b>you</b> are | right"}],
}


def begin_run(folder: Path) -> Path:
    """A run directory without stages."""
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"name": "logged", "created": 1.0, "overrides": []})
    write_text(folder / "recipe.toml", RECIPE)
    write_text(folder / "resolved.toml", RESOLVED)
    return folder


def stage(run: Path, name: str, source: str = "one") -> StageFolder:
    """A stage that is begun; another `source` makes it anew."""
    folder = StageFolder(run / "stages" / name)
    folder.begin(source)
    return folder


def log(folder: StageFolder, first: int, rows: Sequence[Figures]) -> None:
    """Log steps from number `first` on, of two seconds each."""
    folder.append(
        folder.steps,
        [{"step": number, "seconds": 2.0, **as_json(row)} for number, row in enumerate(rows, start=first)],
    )


def notice(folder: StageFolder, step: int) -> None:
    """Log a step out of bounds."""
    folder.append(folder.notices, [{"step": step, **NOTICE}])


def results(run: Path, **more: Any) -> None:
    """Write results with figures, a verdict and a sample, and a report."""
    said = {"text": "no | it\nis not", "score": 0.5, "gold": None}
    found = {
        "schema": 1,
        "models": {"sft": {"score": {"mean": 0.25, "n": 3}}},
        "gate": {"verdict": "NO-GO"},
        "samples": [
            {
                "family": "claims",
                "prompt": [{"role": "user", "content": "is it so ?"}],
                "answers": {"sft": said},
            }
        ],
        **more,
    }
    write_json(run / "results.json", found)
    write_text(run / "report.html", "<p>report</p>")


def marks(run: Path, tracker: str) -> dict[str, Any]:
    """How far the trails of a tracker are told."""
    trails: dict[str, Any] = json.loads((run / "trackers" / f"{tracker}.json").read_text())["trails"]
    return trails
