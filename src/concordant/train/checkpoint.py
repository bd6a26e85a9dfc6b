"""Checkpoints: tensors as safetensors, everything else as JSON, and a manifest by which damage is seen.

A stage keeps its last ones, a folder each. A folder is written under a temporary name, flushed to the disk and
renamed; an older one goes only after that. One thread writes while training goes on with the next step.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from torch import Tensor

from concordant.errors import UserError
from concordant.files import disk_errors, fresh_folder, remove, sha256_of_file, write_json
from concordant.train.config import CheckpointConfig

TENSORS, FACTS, MANIFEST = "tensors.safetensors", "facts.json", "manifest.json"
RANK = "rank"  # fact of a checkpoint: how good its step is, higher is better
FIGURES = "figures"  # and the metrics of that step
MARGIN = 1 << 20  # bytes of a checkpoint that are not tensors, and of the logs beside it


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stage after some step."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]  # step, controller, score normalisation: JSON-able

    def copied(self) -> Checkpoint:
        """The same in memory of its own, on the CPU, so that training may change what it was taken from."""
        tensors = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in self.tensors.items()}
        return Checkpoint(tensors, json.loads(json.dumps(self.facts)))

    @property
    def bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())


class DamagedCheckpoint(Exception):  # noqa: N818 - not an error by itself: there may be another one
    """A checkpoint is not what was written; says what is wrong with it."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in `folder`; the old one goes when the new one is complete."""
    _write(folder, checkpoint.copied())


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whose tensors lie on the CPU and share no memory."""
    from safetensors.torch import save_file

    with fresh_folder(folder) as fresh, disk_errors(folder):
        save_file(dict(checkpoint.tensors), fresh / TENSORS)
        (fresh / FACTS).write_text(json.dumps(checkpoint.facts))
        files = {
            name: {"bytes": (fresh / name).stat().st_size, "sha256": sha256_of_file(fresh / name)}
            for name in (TENSORS, FACTS)
        }
        write_json(fresh / MANIFEST, files)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is no such folder. Raises `DamagedCheckpoint`."""
    from safetensors.torch import load_file

    if not folder.is_dir():
        return None
    _verify(folder)
    return Checkpoint(load_file(folder / TENSORS), json.loads((folder / FACTS).read_text()))


def _verify(folder: Path) -> None:
    """Raise `DamagedCheckpoint` unless the files are those of the manifest, to the bit."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())
        listed = {name: (files[name]["bytes"], files[name]["sha256"]) for name in (TENSORS, FACTS)}
    except FileNotFoundError:
        raise DamagedCheckpoint(f"{MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError):
        raise DamagedCheckpoint(f"{MANIFEST} cannot be read") from None
    for name, (size, digest) in listed.items():
        file = folder / name
        if not file.is_file():
            raise DamagedCheckpoint(f"{name} is missing")
        if file.stat().st_size != size:
            raise DamagedCheckpoint(f"{name} has {file.stat().st_size:,} bytes and not {size:,}")
        if sha256_of_file(file) != digest:
            raise DamagedCheckpoint(f"{name} is not what was written: its SHA-256 is another")


class Checkpoints:
    """The last `keep` checkpoints of a stage, in `folder/step-N`, and the best one of those that have a rank."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder = folder
        self.keep = keep

    @property
    def empty(self) -> bool:
        """Whether there is none yet."""
        return not self._steps()

    def newest(self, say: Callable[[str], None]) -> Checkpoint | None:
        """The newest one that is whole; `say` hears of each that is not, which is never tried again."""
        steps = sorted(self._steps(), reverse=True)
        for step in steps:
            folder = self.at(step)
            try:
                return load_checkpoint(folder)
            except DamagedCheckpoint as damage:
                say(f"  the checkpoint {folder} is damaged ({damage}) and left out")
                _set_aside(folder)
        if self.folder.is_dir() and any(self.folder.iterdir()):
            say(f"  no checkpoint in {self.folder} is whole: the stage begins anew")
        return None

    def best(self, say: Callable[[str], None]) -> Checkpoint | None:
        """The best one that is whole; None where none has a rank."""
        for step in self._ranked():
            try:
                return load_checkpoint(self.at(step))
            except DamagedCheckpoint as damage:
                say(f"  the checkpoint {self.at(step)} is damaged ({damage}); the next best is taken")
        return None

    def add(self, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove what is older than the last `keep` and not the best, or no checkpoint."""
        _write(self.at(step), checkpoint)
        kept = {self.at(number) for number in (*sorted(self._steps())[-self.keep :], *self._ranked()[:1])}
        for entry in set(self.folder.iterdir()) - kept:
            remove(entry)

    def at(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step}"

    def check_room(self, checkpoint: Checkpoint) -> None:
        """Raise a `UserError` unless the disk has room for a checkpoint beside those that are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        needed, free = checkpoint.bytes + MARGIN, shutil.disk_usage(self.folder).free
        if free < needed:
            last = self._last_words()
            raise UserError(
                f"too little disk space for a checkpoint: {free / 1e6:,.0f} MB are free",
                where=str(self.folder),
                expected=f"{needed / 1e6:,.0f} MB; {last}",
                fix="free some space and run the same command again, or set checkpoint.keep = 1",
            )

    def _ranked(self) -> list[int]:
        """Steps with a rank, best first; of equals the later one."""
        ranks = {}
        for step in self._steps():
            with suppress(OSError, ValueError):  # a damaged one has none
                ranks[step] = json.loads((self.at(step) / FACTS).read_text()).get(RANK)
        known = [(rank, step) for step, rank in ranks.items() if rank is not None]
        return [step for _, step in sorted(known, reverse=True)]

    def _last_words(self) -> str:
        steps = self._steps()
        return f"the checkpoint of step {max(steps)} is untouched" if steps else "there is no checkpoint yet"

    def _steps(self) -> list[int]:
        names = (path.name.removeprefix("step-") for path in self.folder.glob("step-*") if path.is_dir())
        return [int(name) for name in names if name.isdecimal()]


def _set_aside(folder: Path) -> None:
    """Take a damaged checkpoint out of the row; it goes when the next one is complete."""
    damaged = folder.with_name(folder.name + ".damaged")
    remove(damaged)
    folder.rename(damaged)


class CheckpointWriter:
    """Copies a stage's state at once and has one thread write it, which the end of the block waits for.

    What stops the thread, such as a full disk, is raised by whatever is asked of the writer next.
    `before` is called in the thread ahead of each checkpoint, for what has to be on the disk before it.
    """

    def __init__(self, checkpoints: Checkpoints, before: Callable[[], None] = lambda: None) -> None:
        self.checkpoints = checkpoints
        self.before = before
        self._thread: Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._join()
        if kind is None:  # a failure of its own hides no other one
            self.check()

    @property
    def busy(self) -> bool:
        """Whether the last checkpoint is still being written."""
        return self._thread is not None and self._thread.is_alive()

    def check(self) -> None:
        """Raise what went wrong with a checkpoint since the last time."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Copy the state and let it be written; waits for the one before, so that there is one copy at most."""
        self.finish()
        self.checkpoints.check_room(checkpoint)
        copy = checkpoint.copied()
        # A daemon: when a process is told to leave at once, half a checkpoint is no reason to stay.
        self._thread = Thread(target=self._write, args=(step, copy), name="checkpoint", daemon=True)
        self._thread.start()

    def _write(self, step: int, checkpoint: Checkpoint) -> None:
        try:
            self.before()
            self.checkpoints.add(step, checkpoint)
        except Exception as error:
            self._failure = error

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        self._join()
        self.check()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()


class Cadence:
    """When a checkpoint is due: at every n-th step, or when so many minutes have passed since the last one."""

    def __init__(self, config: CheckpointConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps, self.seconds = config.steps, config.minutes * 60
        self.clock = clock
        self.saved()

    def due(self, step: int) -> bool:
        """Whether to save at this step; once due it stays so until `saved`."""
        if self.steps:
            self._due |= step % self.steps == 0
        if self.seconds:
            self._due |= self.clock() - self._last >= self.seconds
        return self._due

    def saved(self) -> None:
        """The state was saved just now."""
        self._due, self._last = False, self.clock()
