"""A stage's folder: its outputs, its log of steps, its checkpoint, and the marker that says it is done."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concordant.errors import UserError
from concordant.files import disk_errors, fresh_folder, sync, write_json, write_text


@dataclass
class Spent:
    """Seconds a stage took, over all its attempts."""

    wall: float


class StageFolder:
    """`stages/NN-name`. The marker `stage.json` is written last, so a folder with one is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def model(self) -> Path:
        """The stage's model, a transformers folder."""
        return self.path / "model"

    @property
    def held_out(self) -> StageFolder:
        """The second reward model, of the votes that the first did not see, in a folder like that of a stage."""
        return StageFolder(self.path / "held-out")

    @property
    def checkpoints(self) -> Path:
        """Where the states of a half-done stage lie."""
        return self.path / "state"

    @property
    def rollouts(self) -> Path:
        """Rollouts that were sampled and not yet learnt from."""
        return self.path / "rollouts"

    @property
    def skipped(self) -> Path:
        """What the optimiser steps that were not taken were computed from."""
        return self.path / "skipped"

    @property
    def steps(self) -> Path:
        """One JSON line per step."""
        return self.path / "steps.jsonl"

    @property
    def samples(self) -> Path:
        """One JSON line per sample."""
        return self.path / "samples.jsonl"

    @property
    def pairs(self) -> Path:
        """One JSON line per labelled pair that was measured on."""
        return self.path / "pairs.jsonl"

    @property
    def demonstrations(self) -> Path:
        """One JSON line per model and held-out demonstration."""
        return self.path / "demonstrations.jsonl"

    @property
    def duels(self) -> Path:
        """One JSON line per comparison of two answers by a labeler that is a program."""
        return self.path / "duels.jsonl"

    @property
    def documents(self) -> Path:
        """One JSON line per held-out document and model that read it."""
        return self.path / "documents.jsonl"

    @property
    def probes(self) -> Path:
        """One JSON line per blind comparison of the policy with the model that its training began with."""
        return self.path / "probes.jsonl"

    @property
    def notices(self) -> Path:
        """One JSON line per step out of bounds."""
        return self.path / "notices.jsonl"

    def finished(self) -> dict[str, Any] | None:
        """What `finish` wrote, or None for a stage that is not complete."""
        return self._read("stage.json")

    def begun(self) -> str | None:
        """Fingerprint of the stage that was begun here, or None."""
        begun = self._read("begun.json")
        return None if begun is None else str(begun["fingerprint"])

    def half_done(self, fingerprint: str) -> bool:
        """Whether a stage of this fingerprint was begun here and not finished."""
        return self.begun() == fingerprint and self.finished() is None

    @contextmanager
    def spending(self) -> Iterator[Spent]:
        """Measure a block; what it took is kept even where it fails, and counts on from earlier attempts."""
        file = self.path / "spent.json"
        spent = Spent(float((read_json(file) or {}).get("wall", 0.0)))
        begin = time.perf_counter()
        try:
            yield spent
        finally:
            spent.wall += time.perf_counter() - begin
            with suppress(UserError):  # on a full disk this must not hide what went wrong before
                write_json(file, {"wall": spent.wall})

    def begin(self, fingerprint: str) -> None:
        """Prepare the folder: empty, unless a half-done stage of the same fingerprint is taken up again."""
        if self.half_done(fingerprint):
            return
        with disk_errors(self.path):
            if self.path.exists():
                # First what says that the stage is complete: a crash in between must not leave it on half a folder.
                (self.path / "stage.json").unlink(missing_ok=True)
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
        write_json(self.path / "begun.json", {"fingerprint": fingerprint})

    def finish(self, fingerprint: str, facts: Mapping[str, Any]) -> None:
        """Mark the stage as complete."""
        self.sync_logs()
        write_json(self.path / "stage.json", {"fingerprint": fingerprint, **facts})
        for folder in (self.checkpoints, self.rollouts):
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, donor: Path) -> None:
        """Take over a finished stage of another run: hard links where the disk allows, copies elsewhere."""
        with fresh_folder(self.path) as fresh:
            shutil.copytree(donor, fresh, copy_function=_link_or_copy, dirs_exist_ok=True)

    def append(self, file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a JSON-lines file."""
        with disk_errors(file), file.open("a", encoding="utf-8") as out:
            out.writelines(json_line(row) for row in rows)

    def sync_logs(self) -> None:
        """Flush what was appended to the disk: no state that is saved may be ahead of its log."""
        for file in self._logs:
            if file.is_file():
                sync(file)

    def cut_steps(self, last: int) -> None:
        """Forget logged steps after `last`: a resumed stage takes them again."""
        for file in self._logs:
            if file.is_file():
                kept = [row for row in read_jsonl(file) if row.get("step", 0) <= last]
                write_text(file, "".join(map(json_line, kept)))

    @property
    def _logs(self) -> tuple[Path, ...]:
        return (self.steps, self.samples, self.notices, self.probes)

    def _read(self, name: str) -> dict[str, Any] | None:
        return read_json(self.path / name)


def as_json(figures: Mapping[str, float]) -> dict[str, Any]:
    """Figures for a row of `steps.jsonl`; see `figures_of`.

    JSON has no infinite numbers and no NaN, and other programs refuse a line with one: there null stands, and what it
    was in `not_finite`.
    """
    strange = {name: str(value) for name, value in figures.items() if not math.isfinite(value)}
    plain = {name: None if name in strange else value for name, value in figures.items()}
    return plain | ({"not_finite": strange} if strange else {})


def figures_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a row of `steps.jsonl`, the seconds among them, and those for which JSON has no numbers."""
    strange = row.get("not_finite", {})
    named = {name: value for name, value in row.items() if name not in ("step", "not_finite")}
    return {
        name: float(strange.get(name, "nan") if value is None else value) for name, value in named.items()
    }


def json_line(row: Mapping[str, Any]) -> str:
    """A row of a JSON-lines file."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file of ours, or None where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _damaged(str(path), "a JSON object")
    return value


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file of ours; a last line cut short by a crash is left out.

    Raises a `UserError` for any other line that cannot be read.
    """
    rows = []
    if path.is_file():
        # Not splitlines: model text may hold U+2028 and other signs that it takes for the end of a line.
        lines = path.read_bytes().rstrip(b"\n").split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):  # no JSON, or the first half of a character
                if number < len(lines):
                    raise _damaged(f"{path}:{number}", "a JSON object in each line") from None
    return rows


def _damaged(where: str, expected: str) -> UserError:
    return UserError(
        "this file is damaged",
        where=where,
        expected=f"{expected}, as concordant writes it",
        fix="restore the file, or move its folder away and run again",
    )


def _link_or_copy(source: str, target: str) -> None:
    # Files of a finished stage are only ever replaced as a whole, so sharing them is safe.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
