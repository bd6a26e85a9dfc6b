"""What a run directory has to tell a tracker: rows as they are logged, and the results once they are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concordant.pipeline.recipe import read_toml

# Keys of results.json that are no figures.
NO_FIGURES = ("schema", "seed", "threads", "versions", "stages", "gate")
PLACES = (
    "data_root",
    "feedback.url",
    "track",
)  # settings that say where things are, and nothing of what is learnt
COLUMNS = ("family", "prompt", "model", "answer", "score", "gold")
SECRET = re.compile(r"(?<=://)[^/@\s]+@|\?\S+")  # of an address: who asks for it, and with what key


@dataclass
class Tail:
    """The rows of a JSON-lines file that grows, each once; all of them again where another file takes its place."""

    file: Path
    rows: int = 0  # read so far
    _at: int = 0  # bytes
    _inode: int = 0

    def new(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Numbers, from 0, and rows that were complete since the last time."""
        try:
            with self.file.open("rb") as opened:
                found = self.file.stat()
                if found.st_ino != self._inode or found.st_size < self._at:
                    self.rows, self._at, self._inode = 0, 0, found.st_ino
                opened.seek(self._at)
                read = opened.read()
        except FileNotFoundError:
            return
        whole = read[: read.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            yield self.rows, json.loads(line)
            self.rows += 1


@dataclass
class Clock:
    """When the steps of a stage were over: its log has how long each took, its folder when the first one began."""

    begin: float
    times: dict[int, float] = field(default_factory=dict)  # Unix time by step

    def after(self, row: Mapping[str, Any]) -> float:
        """The time at which a row was logged, without pauses; rows come in order, and may come again."""
        step = row["step"]
        self.times[step] = self.times.get(step - 1, self.begin) + row["seconds"]
        return self.times[step]


def numbers(values: Mapping[str, Any], path: str = "") -> dict[str, float]:
    """The numbers of nested mappings by their path; lists are left out."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{path}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{path}{key}"] = value
    return found


def result_figures(results: Mapping[str, Any]) -> dict[str, float]:
    """The figures of `results.json`."""
    return numbers({key: value for key, value in results.items() if key not in NO_FIGURES})


def sample_rows(results: Mapping[str, Any]) -> list[tuple[str | float | None, ...]]:
    """What the models answered to the prompts that `results.json` shows, a row of `COLUMNS` for each answer."""
    return [
        (sample["family"], sample["prompt"][-1]["content"], model, said["text"], said["score"], said["gold"])
        for sample in results.get("samples", ())
        for model, said in sample["answers"].items()
    ]


def settings_of(run_folder: Path) -> dict[str, str | int | float | bool]:
    """The values in force, dotted, without what says where things are and without keys in addresses."""
    file = run_folder / "resolved.toml"
    values = read_toml(file) if file.is_file() else {}
    return {key: _public(value) for key, value in _flat(values, "") if not key.startswith(PLACES)}


def _flat(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _public(value: Any) -> str | int | float | bool:
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return SECRET.sub("", text) if "://" in text else text
