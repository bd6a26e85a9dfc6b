"""Interrupted runs go on where they stopped and end as if nothing had happened, bit for bit."""

from __future__ import annotations

import errno
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from concordant.errors import UserError
from concordant.feedback.answering import labelers
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.store import Store
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.parts import direct
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Silent
from concordant.pipeline.run import execute, open_run
from concordant.pipeline.stages import feedback
from concordant.train import checkpoint
from tiny_run import (
    STAGES,
    Stopper,
    clone,
    concordant,
    figures,
    fingerprints,
    rows,
    start,
    town,
    town_file,
    wait_until,
    weights,
)

TRAINED = ("01-base", "02-sft", "04-reward", "05-policy")

# What stops a run, and how: an activity and the step after which somebody asks. The 20th step of the pretraining
# and the third rollout are the last ones.
STOPS = (
    ("pretraining", 7),
    ("pretraining", 20),
    ("fine-tuning", 4),
    ("labeling", 48),
    ("reward model", 3),
    ("PPO", 1),
    ("PPO", 3),
    ("evaluating", 1),
)


def stopped(recipe: Recipe, run: Path, title: str, at: int) -> Stopper:
    """Go on with a run until it stops behind this step."""
    stop = StopRequest()
    reporter = Stopper(stop, title, at)
    with pytest.raises(Interrupted):
        execute(recipe, run, reporter, stop)
    return reporter


def gone_on(recipe: Recipe, run: Path) -> Stopper:
    """Go on with a run to its end."""
    reporter = Stopper(StopRequest())
    assert execute(recipe, run, reporter, reporter.stop)
    return reporter


def logged(run: Path, stage: str, name: str = "steps.jsonl") -> list[dict[str, Any]]:
    return rows(run / "stages" / stage / name)


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Stopper]]:
    """A run that was stopped eight times, in every stage and at the end of some, and what it said each time."""
    folder = tmp_path_factory.mktemp("broken")
    recipe, run = town(folder), folder / "runs" / "tiny"
    open_run(recipe, run, "")
    told = [stopped(recipe, run, title, at) for title, at in STOPS]
    return run, [*told, gone_on(recipe, run)]


def test_stopped_runs_end_with_the_same_weights(
    broken_off: tuple[Path, list[Stopper]], finished: Path
) -> None:
    for stage in TRAINED:
        assert weights(broken_off[0], stage) == weights(finished, stage), stage


def test_stopped_runs_end_with_the_same_logs(broken_off: tuple[Path, list[Stopper]], finished: Path) -> None:
    """reference_anchored_across_resume: https://github.com/NVIDIA-NeMo/RL/issues/3048,
    https://github.com/NVIDIA-NeMo/RL/issues/3722
    """
    for stage in TRAINED:
        assert logged(broken_off[0], stage) == logged(finished, stage), stage
    for stage in ("05-policy", "06-evaluate"):
        assert logged(broken_off[0], stage, "samples.jsonl") == logged(finished, stage, "samples.jsonl")


def test_stopped_runs_end_with_the_same_results(
    broken_off: tuple[Path, list[Stopper]], finished: Path
) -> None:
    assert figures(broken_off[0]) == figures(finished)
    assert fingerprints(broken_off[0]) == fingerprints(finished)


def test_a_stop_loses_no_step(broken_off: tuple[Path, list[Stopper]]) -> None:
    told = broken_off[1]
    steps = {title: [n for one in told for t, n in one.progress if t == title] for title, _ in STOPS}
    assert steps["pretraining"] == list(range(1, 21))
    assert steps["fine-tuning"] == list(range(1, 11))
    assert steps["reward model"] == list(range(1, 7))
    assert steps["PPO"] == [1, 2, 3]
    assert "  taken up again after step 7" in told[1].said


def test_a_stop_at_the_last_step_finishes_the_stage_and_begins_no_other(tmp_path: Path) -> None:
    recipe, run = town(tmp_path, pretrain__steps=3), tmp_path / "tiny"
    open_run(recipe, run, "")
    stopped(recipe, run, "pretraining", 3)
    assert (run / "stages" / "01-base" / "stage.json").is_file()
    assert not (run / "stages" / "02-sft").exists()


def test_candidates_and_votes_are_made_once(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "CHUNK", 16)  # three chunks of candidates
    monkeypatch.setattr(labelers, "CHUNK", 20)  # three of votes
    recipe = town(tmp_path)
    whole, parts = (
        clone(finished, tmp_path / name / "tiny", stages=STAGES[:2]) for name in ("whole", "parts")
    )
    for run in (whole, parts):
        (run / "feedback.sqlite").unlink()
    straight = stopped(recipe, whole, "reward model", 1)
    told = [
        stopped(recipe, parts, "sampling candidates", 16),
        stopped(recipe, parts, "sampling candidates", 48),
        stopped(recipe, parts, "labeling", 20),
        stopped(recipe, parts, "reward model", 1),
    ]
    assert [n for one in told for title, n in one.progress if title == "sampling candidates"] == [16, 32, 48]
    assert [n for title, n in straight.progress if title == "labeling"] == [20, 40, 48]
    assert contents(parts) == contents(whole)
    facts = [
        json.loads((run / "stages" / "03-feedback" / "stage.json").read_text()) for run in (whole, parts)
    ]
    assert facts[0]["totals"]["tokens"] == facts[1]["totals"]["tokens"]
    assert facts[0]["facts"] == facts[1]["facts"]


def contents(run: Path) -> dict[str, Any]:
    """What a store holds, times and random ids aside."""
    queries = {
        "completion": "SELECT id, item, text, tokens, ended FROM completion ORDER BY id",
        "task": "SELECT id, seq, need, n_done, state FROM task ORDER BY seq",
        "task_completion": "SELECT * FROM task_completion ORDER BY task, position",
        "vote": "SELECT task, labeler, type, payload, shown FROM vote ORDER BY task, labeler",
    }
    with Store.open(run / "feedback.sqlite") as store, store.reading() as connection:
        found: dict[str, Any] = {
            name: [tuple(row) for row in connection.exec_driver_sql(query)] for name, query in queries.items()
        }
    with Store.open(run / "feedback.sqlite") as store:
        found["digest"] = digest(store)
    assert len(found["vote"]) == len(found["task"]) > 40
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_with_the_command_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    town_file(tmp_path)
    words = ["run", "tiny.toml", "pretrain.steps=2000", "--runs", "my runs"]
    run = tmp_path / "my runs" / "tiny-pretrain.steps=2000"
    process = start(*words, cwd=tmp_path)
    log = run / "stages" / "01-base" / "steps.jsonl"
    wait_until(lambda: log.is_file() and log.read_text().count("\n") > 20, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "a second signal leaves at once" in err
    assert "Traceback" not in err
    assert "nothing is lost" in out
    said = shlex.split(out.rpartition("Go on with: ")[2])
    assert said == ["concordant", *words]
    # The checkpoint is of the last step that was logged.
    saved = max(states(run, "01-base"), key=step_of)
    assert step_of(saved) == len(log.read_text().splitlines()) < 2000
    assert "half done" in concordant("plan", *town_words(tmp_path)).out


SLOW = """
import sys, time
from concordant.app.cli import main
from concordant.train import checkpoint
written = checkpoint._write
def slow(folder, given):
    print("writing", flush=True)
    time.sleep(60)
    written(folder, given)
checkpoint._write = slow
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_at_once_even_while_the_state_is_saved(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = [
        "run",
        town_file(tmp_path),
        "pretrain.steps=2000",
        "pretrain.checkpoint=3",
        "--run",
        tmp_path / "run",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert any(line == "writing\n" for line in process.stdout)
    process.send_signal(number)
    assert any("a second signal" in line for line in process.stderr)
    begin = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=30) == 128 + number
    assert time.monotonic() - begin < 10
    process.communicate()
    assert states(tmp_path / "run", "01-base") == []


def town_words(folder: Path) -> list[str]:
    return [str(folder / "tiny.toml"), "pretrain.steps=2000", "--runs", str(folder / "my runs")]


def test_a_killed_run_goes_on_from_its_last_checkpoint(finished: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"policy__updates": 20, "policy__checkpoint": 4, "evaluate__prompts": 4}
    recipe = town(tmp_path, **changes)
    whole, killed = (
        clone(finished, tmp_path / name / "tiny", stages=STAGES[:4]) for name in ("whole", "killed")
    )
    gone_on(recipe, whole)

    dotted = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
    process = start("run", "tiny.toml", *dotted, "--run", killed, cwd=tmp_path)
    wait_until(lambda: bool(states(killed, "05-policy")), process)
    process.kill()
    process.communicate()
    with (killed / "stages" / "05-policy" / "steps.jsonl").open("a") as log:
        log.write('{"step": 99, "cut sho')  # as a crash leaves it

    told = gone_on(recipe, killed)
    step = next(int(line.split()[-1]) for line in told.said if "taken up again" in line)
    assert [n for title, n in told.progress if title == "PPO"] == list(range(step + 1, 21))
    assert weights(killed, "05-policy") == weights(whole, "05-policy")
    assert logged(killed, "05-policy") == logged(whole, "05-policy")
    assert logged(killed, "05-policy", "samples.jsonl") == logged(whole, "05-policy", "samples.jsonl")
    assert figures(killed) == figures(whole)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(finished: Path, tmp_path: Path) -> None:
    recipe = town(tmp_path, pretrain__checkpoint=2)
    run = tmp_path / "tiny"
    open_run(recipe, run, "")
    stopped(recipe, run, "pretraining", 7)
    older, newer = sorted(states(run, "01-base"), key=step_of)
    tensors = bytearray((newer / "tensors.safetensors").read_bytes())
    tensors[len(tensors) // 2] ^= 4
    (newer / "tensors.safetensors").write_bytes(tensors)
    told = stopped(recipe, run, "pretraining", 9).said
    assert any("step-7 is damaged (tensors.safetensors" in line for line in told)
    assert f"  taken up again after step {step_of(older)}" in told
    for state in states(run, "01-base"):
        (state / "manifest.json").unlink()
    told = stopped(recipe, run, "reward model", 1).said
    assert any(line.endswith("the stage begins anew") for line in told)
    assert weights(run, "01-base") == weights(finished, "01-base")
    assert logged(run, "01-base") == logged(finished, "01-base")
    assert not (run / "stages" / "01-base" / "state").exists()


def test_a_full_disk_behind_training_s_back_stops_the_run_and_loses_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = town(tmp_path, pretrain__checkpoint=3), tmp_path / "tiny"
    open_run(recipe, run, "")
    stopped(recipe, run, "pretraining", 2)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_json", full)
        with pytest.raises(UserError, match="the disk is full"):
            execute(recipe, run, Silent(), StopRequest())
    assert fingerprints(run) == {}  # the stage is not taken for complete
    assert [step_of(state) for state in states(run, "01-base")] == [2]
    told = stopped(recipe, run, "reward model", 1).said
    assert "  taken up again after step 2" in told
    assert weights(run, "01-base") == weights(finished, "01-base")
    assert logged(run, "01-base") == logged(finished, "01-base")


def test_what_the_reference_cost_is_counted_although_a_kill_came_before_the_first_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = town(tmp_path, policy={"algorithm": "dpo", "batch": 8, "steps": 2}, evaluate__prompts=4)
    whole, killed = (
        clone(finished, tmp_path / name / "tiny", stages=STAGES[:4]) for name in ("whole", "killed")
    )
    gone_on(recipe, whole)

    def dies(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(direct, "fit_stage", dies)
        with pytest.raises(Interrupted):
            execute(recipe, killed, Silent(), StopRequest())
    gone_on(recipe, killed)
    assert figures(killed) == figures(whole)
    assert figures(whole)["tokens"]["policy"]["reference"] > 0


def states(run: Path, stage: str) -> list[Path]:
    """The checkpoints of a stage that have their name already."""
    return [path for path in (run / "stages" / stage / "state").glob("step-*") if not path.suffix]


def step_of(state: Path) -> int:
    return int(state.name.removeprefix("step-"))


def test_nobody_listening_needs_no_terminal() -> None:
    with Silent().activity("anything", 3, "steps") as progress:
        progress.to(1, "note")
