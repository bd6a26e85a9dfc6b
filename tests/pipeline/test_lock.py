"""One owner of a run directory: the living is named, the dead is replaced with a word."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event

import pytest

from concordant.errors import UserError
from concordant.pipeline import lock
from concordant.pipeline.interrupt import Interrupted
from concordant.pipeline.lock import LOCK, SILENT, Owner, locked


def left(run: Path, owner: Owner, silent: float = 0.0) -> None:
    """A lock file as a process leaves it that died, or that lives on a machine the lock does not reach."""
    run.mkdir(exist_ok=True)
    (run / LOCK).write_text(json.dumps(asdict(owner)))
    os.utime(run / LOCK, (time.time() - silent,) * 2)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def taken_over(run: Path) -> list[str]:
    said: list[str] = []
    with locked(run, said.append):
        assert Owner.of((run / LOCK).read_text()) is not None
    return said


def refused(run: Path) -> UserError:
    before = (run / LOCK).read_bytes()
    with pytest.raises(UserError, match="another process") as caught, locked(run):
        pass
    assert (run / LOCK).read_bytes() == before  # whoever is refused leaves the owner's words alone
    return caught.value


def test_an_owner_says_who_it_is_and_gives_the_run_back(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        owner = Owner.of((tmp_path / "run" / LOCK).read_text())
        assert owner is not None
        assert (owner.pid, owner.elsewhere, owner.lives_here) == (os.getpid(), False, True)
        assert f"process {os.getpid()} on {owner.host}" in refused(tmp_path / "run").expected
    assert (tmp_path / "run" / LOCK).read_text() == ""
    assert taken_over(tmp_path / "run") == []


def test_a_run_that_is_stopped_or_fails_is_given_back_too(tmp_path: Path) -> None:
    for error in (Interrupted(), UserError("full", where="here", expected="room", fix="make some")):
        with pytest.raises(type(error)), locked(tmp_path):
            raise error
        assert (tmp_path / LOCK).read_text() == ""


def test_a_disk_that_is_full_from_the_beginning_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match="the disk is full"), locked(tmp_path):
        pass


def test_the_name_of_an_owner_that_took_over_stays(tmp_path: Path) -> None:
    with locked(tmp_path):
        left(tmp_path, replace(Owner.this(), host="elsewhere"))
    assert "elsewhere" in (tmp_path / LOCK).read_text()


def test_a_killed_owner_is_replaced_with_a_word(tmp_path: Path) -> None:
    code = f"""
import pathlib, time
from concordant.pipeline.lock import locked
with locked(pathlib.Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert f"process {process.pid} on" in refused(tmp_path).expected
    process.kill()
    process.communicate()
    (said,) = taken_over(tmp_path)
    assert f"process {process.pid} on" in said
    assert "taken over" in said


def test_an_owner_of_another_boot_is_dead_whatever_runs_under_its_number(tmp_path: Path) -> None:
    owner = replace(Owner.this(), boot="another")
    assert not owner.lives_here
    left(tmp_path, owner)
    assert len(taken_over(tmp_path)) == 1


def test_an_owner_on_another_machine_is_named_with_its_last_sign_of_life(tmp_path: Path) -> None:
    left(tmp_path, replace(Owner.this(), host="elsewhere"), silent=42)
    error = refused(tmp_path)
    assert "on elsewhere" in error.expected
    assert "last seen 42 s ago" in error.expected
    assert f"{SILENT:.0f} s of silence" in error.fix
    left(tmp_path, replace(Owner.this(), host="elsewhere"), silent=-3600)  # a clock that was set back
    assert "last seen 0 s ago" in refused(tmp_path).expected
    left(tmp_path, replace(Owner.this(), host="elsewhere"), silent=SILENT + 1)
    assert "on elsewhere" in taken_over(tmp_path)[0]


def test_a_disk_without_locks_goes_by_what_stands_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    left(tmp_path, Owner.this())
    refused(tmp_path)
    left(tmp_path, replace(Owner.this(), pid=dead_pid()))
    assert len(taken_over(tmp_path)) == 1
    assert taken_over(tmp_path) == []


def test_words_of_no_use_stop_nobody(tmp_path: Path) -> None:
    for text in (
        "",
        "{",
        "[]",
        "[" * 4096,
        '{"pid": 1e999}',
        '{"pid": 1}',
        '{"pid": "a", "host": "", "boot": "", "since": 0}',
    ):
        (tmp_path / LOCK).write_text(text)
        assert taken_over(tmp_path) == []


def test_signs_of_life_and_the_end_of_an_owner_that_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    gone = Event()
    with locked(tmp_path, leave=gone.set):
        os.utime(tmp_path / LOCK, (0, 0))
        end = time.monotonic() + 20
        while (tmp_path / LOCK).stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.005)
        assert time.time() - (tmp_path / LOCK).stat().st_mtime < 60
        assert not gone.is_set()
        left(tmp_path, replace(Owner.this(), host="elsewhere"))
        assert gone.wait(20)
