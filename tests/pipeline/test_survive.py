"""The short form of benchmarks/survive.py: a run that is killed again and again ends as if nothing had happened."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tiny_run import clone


@pytest.fixture
def survive(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return import_module("survive")


@pytest.mark.acceptance  # about a minute on free cores, and several where others work
def test_a_run_survives_being_killed(survive: ModuleType, tmp_path: Path) -> None:
    tally = survive.survive(tmp_path, kills=2, seed=1)
    assert tally.failures == []
    assert tally.kills.total() == 2
    assert tally.ends > 0


def test_the_driver_sees_what_differs(survive: ModuleType, finished: Path, tmp_path: Path) -> None:
    other = clone(finished, tmp_path / "other")
    assert survive.differences(other, finished) == []
    log = other / "stages" / "04-reward" / "steps.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("".join(line + "\n" for line in lines[:-1]))
    assert survive.differences(other, finished) == ["stages/04-reward/steps.jsonl"]
    model = other / "stages" / "05-policy" / "model" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    results = json.loads((other / "results.json").read_text())
    (other / "results.json").write_text(json.dumps(results | {"seed": "another"}))
    assert survive.differences(other, finished) == [
        "weights of 05-policy",
        "stages/04-reward/steps.jsonl",
        "results.json",
    ]
