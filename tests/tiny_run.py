"""A recipe of a second or two, and the command line in this process, for the tests of pipeline and app."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concordant.app.cli import main
from concordant.pipeline.folder import read_json, read_jsonl
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.recipe import Recipe, load_recipe
from concordant.pipeline.reporter import Silent

TOWN = """\
name = "tiny"

[machine]
threads = 1

[world]
corpus = 400
demonstrations = 200
prompts = 60

[model.embedded]
layers = 1
width = 32
heads = 2

[pretrain]
batch = 16
steps = 20
optimizer = { lr = 4e-3 }

[sft]
batch = 16
steps = 10
optimizer = { lr = 1e-3 }

[feedback]
prompts = 48
completions = 2
completion = 12

[reward]
batch = 8
steps = 6
optimizer = { lr = 1e-3 }

[policy]
updates = 3
batch = 16
minibatches = 2
completion = 12
optimizer = { lr = 1e-3 }

[evaluate]
prompts = 24
completion = 12
diversity_prompts = 4
best_of_prompts = 2
best_of = 8
"""

STAGES = ("01-base", "02-sft", "03-feedback", "04-reward", "05-policy", "06-evaluate")
TIMES = (
    "seconds",
    "throughput",
    "memory_mb",
    "device_memory_mb",
    "peak_rss_mb",
    "command",
    "machine",
)  # of results.json: not the same twice


@dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str


def concordant(*words: object, given: str = "") -> Outcome:
    """Run a command in this process; `given` is typed into it."""
    out, err, typed = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(given)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main([str(word) for word in words])
            except SystemExit as stop:  # argparse
                status = int(stop.code or 0)
    finally:
        sys.stdin = typed
    return Outcome(status, out.getvalue(), err.getvalue())


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """Begin a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "concordant", *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait for something a process is to bring about."""
    end = time.monotonic() + seconds
    while not there():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"it did not come: {process.communicate()}")
        time.sleep(0.005)


class Stopper(Silent):
    """A reporter that asks for a stop when an activity has got so far, and remembers what was said."""

    def __init__(self, stop: StopRequest, title: str = "", at: int = 0) -> None:
        self.stop, self.title, self.at = stop, title, at
        self.said: list[str] = []
        self.progress: list[tuple[str, int]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def activity(self, title: str, total: int, unit: str) -> Iterator[Any]:
        yield _Watch(self, title)


class _Watch:
    def __init__(self, reporter: Stopper, title: str) -> None:
        self.reporter, self.title = reporter, title

    def to(self, done: int, note: str = "") -> None:
        self.reporter.progress.append((self.title, done))
        if (self.title, done) == (self.reporter.title, self.reporter.at):
            self.reporter.stop.requested = True


def town(folder: Path, **changes: Any) -> Recipe:
    """The tiny recipe with some dotted keys changed (`policy__updates=3`)."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return load_recipe(town_file(folder), dotted)


def town_file(folder: Path, name: str = "tiny.toml", text: str = TOWN) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def clone(run: Path, target: Path, *, stages: tuple[str, ...] = STAGES) -> Path:
    """A copy of a run directory, or of its first stages, that shares nothing with it."""
    shutil.copytree(run, target)
    for stage in STAGES:
        if stage not in stages:
            shutil.rmtree(target / "stages" / stage)
    return target


def rows(file: Path) -> list[dict[str, Any]]:
    """A JSON-lines file that has to be there, without its times."""
    assert file.is_file(), f"no {file}"
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_jsonl(file)]


def written(file: Path) -> dict[str, Any]:
    """The object in a JSON file that has to be there."""
    value = read_json(file)
    assert value is not None, f"no {file}"
    return value


def results(run: Path) -> dict[str, Any]:
    return written(run / "results.json")


def figures(run: Path) -> dict[str, Any]:
    """The results without times and memory; the numbers of tokens stay."""
    found = results(run)
    tokens = {
        stage: {activity: facts["tokens"] for activity, facts in activities.items()}
        for stage, activities in found["throughput"].items()
    }
    return {key: value for key, value in found.items() if key not in TIMES} | {"tokens": tokens}


def weights(run: Path, stage: str) -> bytes:
    """The model of a stage as it stands on the disk."""
    return (run / "stages" / stage / "model" / "model.safetensors").read_bytes()


def fingerprints(run: Path) -> dict[str, str]:
    return {
        marker.parent.name: written(marker)["fingerprint"]
        for marker in sorted(run.glob("stages/*/stage.json"))
    }


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a folder with the time it was written and its content."""
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.stat().st_ino, file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
