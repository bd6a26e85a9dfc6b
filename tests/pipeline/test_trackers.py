"""Each tracker, told of a run by the command and read back with the package's own reader."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from concordant.pipeline.trackers import tensorboard
from logged_run import begin_run, log, marks, notice, results, stage
from tiny_run import Outcome, clone, concordant, rows, town_file

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
FIGURES = [
    {"loss": 2.0, "objective/kl": 0.5},
    {"loss": math.inf, "objective/kl": math.nan},
    {"loss": 1.0, "objective/kl": -math.inf},
    {"loss": 0.5, "objective/kl": 0.25},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that all trackers were told of: after three steps, and again when it had been resumed after the second."""
    run = begin_run(tmp_path_factory.mktemp("tracked") / "runs" / "first")
    policy = stage(run, "05-policy")
    os.utime(policy.path / "begun.json", (5_000, 5_000))
    log(policy, 1, FIGURES[:3])
    notice(policy, 2)
    told(run)
    policy.cut_steps(2)
    log(policy, 3, FIGURES[2:])
    policy.finish("one", {})
    results(run)
    told(run)
    return run


def told(run: Path, *options: str) -> Outcome:
    done = concordant("track", run, "--to", ",".join(TRACKERS), *options)
    assert done.status == 0, done.out + (run / "trackers" / "printed.txt").read_text()
    return done


def alike(found: dict[int, float], name: str, *, infinite: float = math.inf) -> bool:
    """Whether these are the values of a figure by step, each there once."""
    wanted = {step: row[name] for step, row in enumerate(FIGURES, start=1)}
    return found.keys() == wanted.keys() and all(
        math.isnan(found[step]) if math.isnan(value) else found[step] == max(min(value, infinite), -infinite)
        for step, value in wanted.items()
    )


def test_every_tracker_is_told_to_the_end(run: Path) -> None:
    for name in TRACKERS:
        trails = marks(run, name)
        assert {stage: mark["complete"] for stage, mark in trails.items()} == {
            "policy": True,
            "results": True,
        }
        assert trails["policy"]["rows"] == 4
    assert told(run).out.count("knows all there is") == 4


def test_tensorboard_has_each_step_once(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = run.parent / "trackers" / "tensorboard" / "first"
    assert len(list((folder / "policy").iterdir())) == 2  # a file for each session
    read = EventAccumulator(str(folder / "policy"))
    read.Reload()
    for name in ("loss", "objective/kl"):
        events = read.Scalars(name)
        assert len(events) == 4
        assert alike({event.step: event.value for event in events}, name)
    assert [event.wall_time for event in read.Scalars("loss")] == [5_002, 5_004, 5_006, 5_008]
    (alert,) = read.Tensors("alerts/canary claims")
    assert (alert.step, "<b>you</b> are | right" in str(alert.tensor_proto)) == (2, True)
    whole = EventAccumulator(str(folder / "results"))
    whole.Reload()
    assert whole.Scalars("models/sft/score/mean")[0].value == 0.25
    (table,) = whole.Tensors("samples")
    text = table.tensor_proto.string_val[0].decode()
    assert text.splitlines()[2] == "| claims | is it so ? | sft | no \\| it ⏎ is not | 0.5 |  |"


def test_what_a_model_says_is_no_markup_in_tensorboard() -> None:
    from tensorboard.plugins.text.text_plugin import text_array_to_html

    said = "ok\r\r[log in again](https://evil.example)\r\r# GATE: GO"
    for text in (tensorboard._quoted(said), f"| a |\n|---|\n| {tensorboard._cell(said)} |"):
        html = text_array_to_html(np.array(text.encode()), enable_markdown=True)
        assert "<a " not in html
        assert "<h1" not in html
        assert "log in again" in html


def records(file: Path) -> Iterator[Any]:
    """The records of a file of W&B: those of LevelDB's log format, behind a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def test_wandb_has_each_step_once_and_stays_offline(run: Path) -> None:
    files = sorted((run.parent / "trackers" / "wandb").glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 3
    assert len({file.stem for file in files}) == 2  # the resumed trail goes on under its id
    found: dict[str, dict[int, float]] = {"loss": {}, "objective/kl": {}}
    alerts, artifacts, groups, seen = [], [], set(), 0
    for record in (record for file in files for record in records(file)):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            seen += "loss" in row
            for name in found:
                if name in row:
                    found[name][row["_step"]] = float(row[name])
        elif kind == "alert":
            alerts.append((record.alert.title, record.alert.text))
        elif kind == "artifact":
            artifacts.append(record.artifact.name)
        elif kind == "run":
            groups.add((record.run.project, record.run.run_group))
            assert record.run.telemetry.feature.offline
    assert seen == 4
    assert all(alike(found[name], name) for name in found)
    assert [title for title, _ in alerts] == ["step 2: canary claims", "step 0: release gate"]
    assert "<b>you</b> are | right" in alerts[0][1]
    assert {name.rpartition("-")[2] for name in artifacts} == {"samples", "results.json", "report.html"}
    assert groups == {("logged", "first")}


def test_mlflow_has_each_step_once(run: Path) -> None:
    from mlflow import MlflowClient

    folder = run.parent / "trackers" / "mlflow"
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.sqlite'}")
    experiment = client.get_experiment_by_name("logged")
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert {name: found.info.status for name, found in runs.items()} == {
        "first/policy": "FINISHED",
        "first/results": "FINISHED",
    }
    policy = runs["first/policy"]
    for name in ("loss", "objective/kl"):
        history = client.get_metric_history(policy.info.run_id, name)
        assert len(history) == 4
        assert alike({one.step: one.value for one in history}, name, infinite=sys.float_info.max)
        assert {one.step: one.timestamp for one in history}[1] == 5_002_000
    assert "<b>you</b> are | right" in policy.data.tags["alert/step 2 canary claims"]
    assert policy.data.params["name"] == "logged"
    whole = runs["first/results"]
    assert whole.data.metrics["models/sft/score/mean"] == 0.25
    kept = {file.path for file in client.list_artifacts(whole.info.run_id)}
    assert kept == {"samples.json", "results.json", "report.html"}


READ_TRACKIO = """
import json
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps({
    "logs": {run: SQLiteStorage.get_logs("logged", run) for run in SQLiteStorage.get_runs("logged")},
    "alerts": SQLiteStorage.get_alerts("logged"),
    "config": SQLiteStorage.get_run_config("logged", "first/policy"),
}, default=str))
"""


def test_trackio_has_each_step_once(run: Path) -> None:
    folder = run.parent / "trackers" / "trackio"
    # It finds out where its data are when it is imported.
    done = subprocess.run(
        [sys.executable, "-c", READ_TRACKIO],
        env={**os.environ, "TRACKIO_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert set(found["logs"]) == {"first/policy", "first/results"}
    policy = found["logs"]["first/policy"]
    assert len(policy) == 4
    for name in ("loss", "objective/kl"):
        assert alike({row["step"]: float(row[name]) for row in policy}, name)
    assert {(one["title"], one["step"]) for one in found["alerts"]} == {
        ("canary claims", 2),
        ("release gate", 0),
    }
    assert found["config"]["_Group"] == "first"
    assert any("samples" in row for row in found["logs"]["first/results"])
    assert sqlite3.connect(folder / "logged.db").execute("pragma integrity_check").fetchone() == ("ok",)


def test_no_secret_of_an_address_reaches_a_tracker(run: Path) -> None:
    kept = [file for file in (run.parent / "trackers").rglob("*") if file.is_file()]
    assert len(kept) > 10
    assert not [file for file in kept if b"hunter" in file.read_bytes()]


def test_a_run_tells_its_trackers_while_it_trains(finished: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = tmp_path / "runs"
    clone(finished, runs / "tiny", stages=("01-base", "02-sft", "03-feedback", "04-reward"))
    done = concordant("run", town_file(tmp_path), 'track.to=["tensorboard"]', "--runs", runs)
    assert done.status == 0, done.err
    assert "tensorboard has been told" in done.out
    logged = rows(runs / "tiny" / "stages" / "05-policy" / "steps.jsonl")
    assert logged == rows(finished / "stages" / "05-policy" / "steps.jsonl")
    folder = runs / "trackers" / "tensorboard" / "tiny"
    assert {place.name for place in folder.iterdir()} == {"base", "sft", "reward", "policy", "results"}
    read = EventAccumulator(str(folder / "policy"))
    read.Reload()
    scores = [event.value for event in read.Scalars("objective/score")]
    assert scores == pytest.approx([row["objective/score"] for row in logged])
    whole = EventAccumulator(str(folder / "results"))
    whole.Reload()
    assert "files/report.html" in whole.Tags()["tensors"]
