"""What `concordant plan` says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from concordant.app.commands.planning import duration
from concordant.app.runs import demo_recipe
from concordant.pipeline.forecast.amounts import in_bytes
from tiny_run import concordant, snapshot, town_file


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def told(*words: object) -> str:
    shown = concordant("plan", *words)
    assert shown.status == 0, shown.err
    return shown.out


def test_values_that_are_no_defaults_come_with_their_origin(tmp_path: Path) -> None:
    out = told(town_file(tmp_path), "policy.kl_coef=0", "--run", tmp_path / "run")
    assert re.search(r"policy\.kl_coef +0\.0 +the command line", out)
    assert re.search(r"pretrain\.steps +20 +tiny\.toml:\d+", out)
    assert re.search(r'policy\.checkpoint\.every +"10 steps" +default of ppo', out)
    assert not re.search(r"policy\.clip ", out)
    (others,) = re.findall(r"\((\d+) others are: --values\)", out)
    every = told(town_file(tmp_path), "policy.kl_coef=0", "--run", tmp_path / "run", "--values")
    assert len(re.findall(r" default *$", every, re.MULTILINE)) == int(others)
    assert re.search(r"policy\.clip +0\.2 +default *$", every, re.MULTILINE)


def test_the_batch_table_is_worked_out(tmp_path: Path) -> None:
    out = told(town_file(tmp_path), "reward.steps=0", "--run", tmp_path / "run")
    (policy,) = re.findall(r"^policy: ppo.*$", out, re.MULTILINE)
    assert "12 (3 rollouts of 16 completions, 4 on each)" in policy
    assert "8 completions" in policy
    assert "0.001 constant" in policy
    (reward,) = re.findall(r"^reward: reward model.*$", out, re.MULTILINE)
    assert "up to" in reward
    assert "train about" in reward
    assert "completions are taken to be as long as the answers of the data" in out


def test_what_stays_unknown_without_the_model_is_said(tmp_path: Path) -> None:
    out = told(demo_recipe().with_name("qwen-hh.toml"), "--runs", tmp_path / "runs", "--probe")
    assert "cannot be known without the configuration of Qwen/Qwen2.5-0.5B" in out
    assert "depends on data that would be downloaded first" in out
    assert re.search(r"sft: fine-tuning +up to 312 ", out)


def test_memory_and_disk_are_told(tmp_path: Path) -> None:
    out = told(town_file(tmp_path), "--run", tmp_path / "run")
    assert re.search(r"policy: [\d.]+ [kM]B \(weights .*reference .*reward model .*critic ", out)
    assert re.search(r"Disk: models .*, checkpoints up to .* are free at", out)
    assert "WARNING" not in out
    assert "measured in some seconds by --probe" in out


def test_everything_is_one_json_object(tmp_path: Path) -> None:
    found = json.loads(told(town_file(tmp_path), "seed=5", "--run", tmp_path / "run", "--json"))
    values = {value["key"]: value for value in found["values"]}
    assert values["seed"] == {"key": "seed", "value": 5, "origin": "override", "line": None}
    assert values["policy.clip"]["origin"] == "default"
    assert [stage["action"] for stage in found["stages"]] == ["run"] * 6
    policy = next(work for work in found["work"] if work["stage"] == "policy")
    assert policy["steps"] == {"number": 12, "sure": "exactly"}
    assert policy["updates_per_rollout"] == 4
    assert found["disk"]["too_little"] is False
    assert found["memory"]["policy"]["moments"] > 0
    assert found["downloads"] == []
    assert found["probe"] == {}


def test_a_probe_measures_every_stage_and_writes_nothing(tmp_path: Path) -> None:
    recipe = town_file(tmp_path)
    before = snapshot(tmp_path)
    out = told(recipe, "--run", tmp_path / "run", "--probe")
    assert snapshot(tmp_path) == before
    for stage in ("base", "sft", "feedback", "reward", "policy", "evaluate"):
        assert re.search(rf"^{stage} +about \S+ \S+ \(.+ to .+\) +about \S+ [MG]B", out, re.MULTILINE), stage
    assert re.search(r"^together +about", out, re.MULTILINE)
    assert "votes of labelers" in out  # what is not covered
    assert re.search(r'machine\.device +"cpu" +this machine', out)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2.0 min"), (7_199, "120.0 min"), (7_200, "2.0 h")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"), [(12, "12 B"), (1_500, "1.5 kB"), (250_000_000, "250 MB"), (2.04e9, "2.0 GB")]
)
def test_sizes(number: float, said: str) -> None:
    assert in_bytes(number) == said
