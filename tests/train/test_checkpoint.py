"""Checkpoints: whole or not at all, tensors as safetensors, the rest as JSON."""

from __future__ import annotations

import errno
import json
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import sleep

import pytest
import torch
from pydantic import ValidationError

from concordant.errors import UserError
from concordant.files import write_json
from concordant.train import checkpoint
from concordant.train.checkpoint import (
    FACTS,
    MANIFEST,
    TENSORS,
    Cadence,
    Checkpoint,
    Checkpoints,
    CheckpointWriter,
    DamagedCheckpoint,
    load_checkpoint,
    save_checkpoint,
)
from concordant.train.config import CheckpointConfig, FitConfig, PPOConfig


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "a": shared,
        "the same storage": shared.T,
        "step": torch.tensor(7.0),
        "half": torch.tensor([0.1], dtype=torch.bfloat16),
        "none": torch.empty(0),
        "trained": torch.nn.Parameter(torch.ones(2)),
    }
    facts = {"step": 3, "controller": {"coef": 0.1 + 0.2}, "none": None, "list": [1, 2]}
    save_checkpoint(tmp_path / "state", Checkpoint(tensors, facts))
    found = load_checkpoint(tmp_path / "state")
    assert found is not None
    assert found.facts == facts
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensors[name].detach()) for name in tensors)
    assert all(found.tensors[name].dtype == tensors[name].dtype for name in tensors)
    names = sorted(file.name for file in (tmp_path / "state").iterdir())
    assert names == ["facts.json", "manifest.json", "tensors.safetensors"]


def test_a_checkpoint_replaces_the_former_as_a_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "state", Checkpoint({"old": torch.ones(1)}, {"step": 1, "old": True}))
    (tmp_path / "state" / "left over").write_text("from before")
    save_checkpoint(tmp_path / "state", Checkpoint({"new": torch.zeros(1)}, {"step": 2}))
    found = load_checkpoint(tmp_path / "state")
    assert found is not None
    assert (set(found.tensors), found.facts) == ({"new"}, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert len(list((tmp_path / "state").iterdir())) == 3


def test_a_checkpoint_that_fails_leaves_the_former_as_it_was(tmp_path: Path) -> None:
    """old_checkpoint_deleted_after_new_is_complete: https://github.com/verl-project/verl/issues/4873"""
    save_checkpoint(tmp_path / "state", Checkpoint({"a": torch.ones(1)}, {"step": 1}))
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "state", Checkpoint({"a": torch.zeros(1)}, {"step": object()}))
    found = load_checkpoint(tmp_path / "state")
    assert found is not None
    assert found.facts == {"step": 1}
    assert found.tensors["a"].item() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "state") is None
    (tmp_path / "state.partial").mkdir()  # a run killed while it wrote its first checkpoint
    (tmp_path / "state.partial" / "facts.json").write_text("{")
    assert load_checkpoint(tmp_path / "state") is None
    save_checkpoint(tmp_path / "state", Checkpoint({"a": torch.ones(1)}, {"step": 1}))
    assert load_checkpoint(tmp_path / "state") is not None


# Damage


def truncated(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 2)  # a manifest ends in a line end, which says nothing


def bit_flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


def missing(file: Path) -> None:
    file.unlink()


def said_to_be(value: object) -> Callable[[Path], None]:
    return lambda file: write_json(file, value)


DAMAGES = [
    *((name, damage, name) for name in (TENSORS, FACTS, MANIFEST) for damage in (truncated, missing)),
    (TENSORS, bit_flipped, "SHA-256"),
    (FACTS, bit_flipped, "SHA-256"),
    (MANIFEST, said_to_be([1]), MANIFEST),
    (MANIFEST, said_to_be({FACTS: {"bytes": 1, "sha256": ""}}), MANIFEST),
]


@pytest.mark.parametrize(("name", "damage", "told"), DAMAGES)
def test_a_damaged_one_is_named_and_the_one_before_it_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None], told: str
) -> None:
    kept = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        kept.add(step, state(step))
    damage(tmp_path / "step-2" / name)
    said: list[str] = []
    found = kept.newest(said.append)
    assert found is not None
    assert (found.facts["step"], found.tensors["a"].item()) == (1, 1.0)
    assert len(said) == 1
    assert str(tmp_path / "step-2") in said[0]
    assert told in said[0]
    # It is not tried again, nor does it count as one of those that are kept; the next one clears it away.
    said.clear()
    assert kept.newest(said.append) is not None
    assert said == []
    kept.add(2, state(2))
    assert folders(tmp_path) == ["step-1", "step-2"]
    assert newest(kept) == 2


def test_every_single_bit_of_a_checkpoint_is_looked_at(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "state", Checkpoint({"a": torch.ones(2)}, {"step": 1}))
    whole = load_checkpoint(tmp_path / "state")
    assert whole is not None
    for file in sorted((tmp_path / "state").iterdir()):
        content = file.read_bytes()
        for bit in range(8 * len(content)):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            file.write_bytes(changed)
            if file.name != MANIFEST or json.loads(content) != reread(changed):
                with pytest.raises(DamagedCheckpoint):
                    load_checkpoint(tmp_path / "state")
        file.write_bytes(content)


def reread(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_with_none_left_the_stage_begins_anew_and_says_so(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "state", keep=2)
    said: list[str] = []
    assert kept.newest(said.append) is None
    assert said == []  # a stage that never saved anything has nothing to say
    for step in (1, 2):
        kept.add(step, state(step))
        missing(kept.at(step) / MANIFEST)
    assert kept.newest(said.append) is None
    assert [line.split()[-1] for line in said] == ["out", "out", "anew"]
    assert "step-2" in said[0]
    assert "step-1" in said[1]


# The last ones


def state(step: int) -> Checkpoint:
    return Checkpoint({"a": torch.tensor([float(step)])}, {"step": step})


def folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest(kept: Checkpoints) -> int:
    found = kept.newest(lambda said: pytest.fail(said))
    assert found is not None
    return int(found.facts["step"])


def test_the_last_k_stay_by_number_and_not_by_name(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=2)
    for step in (8, 9, 10, 11):
        kept.add(step, state(step))
    assert folders(tmp_path) == ["step-10", "step-11"]
    assert newest(kept) == 11


def test_an_older_one_goes_only_after_the_new_one_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """old_checkpoint_deleted_after_new_is_complete: https://github.com/verl-project/verl/issues/4873"""
    kept = Checkpoints(tmp_path, keep=1)
    kept.add(1, state(1))

    def dies(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_json", dies)  # the manifest, which is written last
        with pytest.raises(UserError, match="the disk is full"):
            kept.add(2, state(2))
    assert folders(tmp_path) == ["step-1"]
    assert newest(kept) == 1


def ranked(step: int, rank: float) -> Checkpoint:
    return Checkpoint(state(step).tensors, {"step": step, "rank": rank})


def test_the_best_one_stays_beside_the_last_ones(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=1)
    for step, rank in enumerate((0.1, 0.7, 0.2, 0.7, -math.inf), start=1):
        kept.add(step, ranked(step, rank))
    assert folders(tmp_path) == ["step-4", "step-5"], "of equals the later one"
    best = kept.best(pytest.fail)
    assert best is not None
    assert best.facts["step"] == 4
    assert newest(kept) == 5


def test_where_the_best_one_is_damaged_the_next_best_is_taken(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=3)
    for step, rank in enumerate((0.1, 0.7, 0.2), start=1):
        kept.add(step, ranked(step, rank))
    (kept.at(2) / "tensors.safetensors").write_bytes(b"")
    said: list[str] = []
    best = kept.best(said.append)
    assert best is not None
    assert best.facts["step"] == 3
    assert "step-2 is damaged" in said[0]


def test_without_ranks_there_is_no_best(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.add(1, state(1))
    assert kept.best(pytest.fail) is None


def test_ranks() -> None:
    metrics = {"loss": 0.5, "objective/score": 2.0, "broken": math.nan}
    assert CheckpointConfig(best="objective/score").rank(metrics) == 2.0
    assert CheckpointConfig(best="-loss").rank(metrics) == -0.5
    for name in ("broken", "-broken", "lost", "-lost"):
        assert CheckpointConfig(best=name).rank(metrics) == -math.inf


def test_a_figure_that_no_step_has_is_refused() -> None:
    metrics = {"loss": 0.5}
    for name in ("", "loss", "-loss"):
        CheckpointConfig(best=name).check_best(metrics)
    with pytest.raises(UserError, match="no figure 'lost'"):
        CheckpointConfig(best="-lost").check_best(metrics)


def test_what_a_crash_left_is_cleared_away(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    for name in ("step-3.partial", "step-3.old", "step-2.damaged"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "facts.json").write_text("{}")
    kept.add(4, state(4))
    assert folders(tmp_path) == ["step-4"]


# The thread that writes


class Gate:
    """Stands in for the writing of a checkpoint: waits until it is let go, then fails or writes."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.open = Event()
        self.failure = failure
        self.write = checkpoint._write

    def __call__(self, folder: Path, given: Checkpoint) -> None:
        assert self.open.wait(20)
        if self.failure:
            raise self.failure
        self.write(folder, given)


def test_training_goes_on_while_a_checkpoint_is_written_and_does_not_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(checkpoint, "_write", gate)
    weights, facts = torch.ones(3), {"step": 1, "seconds": {"train": 1.0}}
    kept = Checkpoints(tmp_path)
    with CheckpointWriter(kept) as writer:
        assert not writer.busy
        writer.save(1, Checkpoint({"a": weights}, facts))
        assert writer.busy
        assert folders(tmp_path) == []
        weights += 1  # the next step
        facts["seconds"]["train"] = 2.0  # type: ignore[index]
        gate.open.set()
    assert not writer.busy  # the end of the block has waited
    found = kept.newest(pytest.fail)
    assert found is not None
    assert found.tensors["a"].tolist() == [1.0, 1.0, 1.0]
    assert found.facts == {"step": 1, "seconds": {"train": 1.0}}


def written(kept: Checkpoints, step: int, given: Checkpoint) -> None:
    """Write one as a stage does."""
    with CheckpointWriter(kept) as writer:
        writer.save(step, given)


def asked_again(writer: CheckpointWriter) -> None:
    while writer.busy:
        sleep(0.001)
    writer.check()


@pytest.mark.parametrize(
    "ask", [asked_again, CheckpointWriter.finish, lambda writer: writer.save(3, state(3))]
)
def test_a_failure_of_the_writer_reaches_training_and_the_last_good_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[CheckpointWriter], None]
) -> None:
    kept = Checkpoints(tmp_path)
    kept.add(1, state(1))
    gate = Gate(UserError("the disk is full"))
    monkeypatch.setattr(checkpoint, "_write", gate)
    with CheckpointWriter(kept) as writer:
        writer.save(2, state(2))
        writer.check()  # nothing is known yet
        gate.open.set()
        with pytest.raises(UserError, match="the disk is full"):
            ask(writer)
    assert newest(kept) == 1


def test_the_end_of_the_block_hears_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(UserError("the disk is full"))
    gate.open.set()
    monkeypatch.setattr(checkpoint, "_write", gate)
    with pytest.raises(UserError, match="the disk is full"):
        written(Checkpoints(tmp_path), 1, state(1))


def test_another_error_is_not_hidden_by_one_of_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(UserError("the disk is full"))
    gate.open.set()
    monkeypatch.setattr(checkpoint, "_write", gate)
    with suppress(ZeroDivisionError), CheckpointWriter(Checkpoints(tmp_path)) as writer:
        writer.save(2, state(2))
        _ = 1 / 0
    assert not writer.busy


def test_the_log_is_on_the_disk_before_the_state_that_follows_from_it(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "state")
    seen: list[bool] = []
    with CheckpointWriter(kept, before=lambda: seen.append(kept.at(1).exists())) as writer:
        writer.save(1, state(1))
    assert seen == [False]
    assert newest(kept) == 1


def test_too_little_room_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(tmp_path)
    kept.add(1, state(1))
    large = Checkpoint({"a": torch.zeros(1000, 250)}, {"step": 2})  # 1 MB, and 1 MiB beside the tensors
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_048_575))
    with pytest.raises(UserError, match="2 MB are free") as caught:
        written(kept, 2, large)
    assert "the checkpoint of step 1 is untouched" in caught.value.expected
    assert folders(tmp_path) == ["step-1"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_048_576))
    written(kept, 2, large)
    assert newest(kept) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("looked", [True, False])
def test_a_disk_that_is_full_in_earnest(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, looked: bool
) -> None:
    """Seen beforehand; or filled by somebody else while the checkpoint is written."""
    kept = Checkpoints(small_disk / "state", keep=1)
    tensors = {"a": torch.zeros(300_000)}  # 1.2 MB
    kept.add(1, Checkpoint(tensors, {"step": 1}))
    given = Checkpoint(tensors, {"step": 2})
    (small_disk / "of somebody else").write_bytes(b"x" * 2_000_000)
    if not looked:
        monkeypatch.setattr(kept, "check_room", lambda _: None)
    said = "too little disk space" if looked else "the disk is full"
    with pytest.raises(UserError, match=said):
        written(kept, 2, given)
    assert newest(kept) == 1
    assert folders(small_disk / "state") == ["step-1"]  # half a checkpoint takes up no room
    (small_disk / "of somebody else").unlink()
    written(kept, 2, given)
    assert newest(kept) == 2


# When


def test_steps_decide() -> None:
    cadence = Cadence(CheckpointConfig(every="3 steps"))
    due = []
    for step in range(1, 10):
        due.append(cadence.due(step))
        if due[-1] and step != 3:  # at step 3 the writer is busy: it stays due
            cadence.saved()
    assert due == [False, False, True, True, False, True, False, False, True]


def test_minutes_decide() -> None:
    clock = Clock()
    cadence = Cadence(CheckpointConfig(every="10 min"), clock)
    assert not cadence.due(100)
    clock.now += 599
    assert not cadence.due(101)
    clock.now += 1
    assert cadence.due(102)
    clock.now += 100
    cadence.saved()
    clock.now += 599
    assert not cadence.due(103)
    clock.now += 1
    assert cadence.due(104)


def test_nothing_decides() -> None:
    clock = Clock()
    for every in (0, "0 steps", "0 min"):
        cadence = Cadence(CheckpointConfig.model_validate(every), clock)
        clock.now += 1e9
        assert not any(cadence.due(step) for step in range(1, 200))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_how_it_is_said_in_a_recipe() -> None:
    for given in (50, "50 steps", {"every": 50}, {"every": "50 steps"}, {"every": "50 steps", "keep": 2}):
        config = FitConfig.model_validate({"checkpoint": given}).checkpoint
        assert (config.steps, config.minutes, config.keep) == (50, 0, 2)
    config = FitConfig.model_validate({"checkpoint": "10 min"}).checkpoint
    assert (config.steps, config.minutes) == (0, 10)
    assert PPOConfig.model_validate({"checkpoint": {"keep": 3}}).checkpoint == CheckpointConfig(
        every="10 steps", keep=3
    )
    for wrong in (True, -1, 2.5, "soon", "5 minutes", "steps", {"keep": 0}, {"often": 3}, None):
        with pytest.raises(ValidationError):
            FitConfig.model_validate({"checkpoint": wrong})
