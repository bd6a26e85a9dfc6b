"""Kill a tiny run at random moments, resume it, and compare what it leaves with the run that nobody touched.

    python benchmarks/survive.py --kills 200

A process is killed (SIGKILL) a random time after it has begun; the next one goes on where it stood. A run that
reaches its end is compared to the byte (times aside) and another one is begun, until there were enough kills.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tiny_run import STAGES, figures, rows, start, town_file, weights

TRAINED = ("01-base", "02-sft", "04-reward", "05-policy")
EVERY = [f"{stage}.checkpoint=2" for stage in ("pretrain", "sft", "reward", "policy")]
STUCK = 60  # processes after which a run that has not come to its end is taken for one that never will


@dataclass
class Tally:
    """What came of it."""

    kills: Counter[str] = field(default_factory=Counter)  # by the stage that was under way
    ends: int = 0
    failures: list[str] = field(default_factory=list)


def survive(folder: Path, kills: int, seed: int = 0) -> Tally:
    """Kill as often as told, in as many runs as that takes."""
    draw, tally = random.Random(seed), Tally()
    town_file(folder)
    whole = folder / "whole" / "tiny"  # not beside the others, which would take its stages over
    begin = time.monotonic()
    if error := _run(folder, whole):
        raise RuntimeError(error)
    seconds = time.monotonic() - begin
    while tally.kills.total() < kills:
        run = folder / str(tally.ends) / "tiny"
        tally.failures += _to_its_end(folder, run, whole, draw, seconds, kills, tally)
        tally.ends += 1
        shutil.rmtree(run.parent)
    return tally


def _to_its_end(
    folder: Path, run: Path, whole: Path, draw: random.Random, seconds: float, kills: int, tally: Tally
) -> list[str]:
    """Start a run, kill it, and so on until it ends; returns how it differs from the whole one."""
    for _ in range(STUCK):
        patience = draw.uniform(0, seconds) if tally.kills.total() < kills else None
        error = _run(folder, run, patience)
        if error is None:
            return differences(run, whole)
        if error:
            return [error]
        tally.kills[_under_way(run)] += 1
    return [f"{run} never came to its end"]


def _run(folder: Path, run: Path, patience: float | None = None) -> str | None:
    """Run to the end (None), until it is killed (an empty text), or until it fails (what it said)."""
    process = start("run", "tiny.toml", *EVERY, "--run", run, cwd=folder)
    try:
        _, said = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ""
    return None if process.returncode == 0 else f"status {process.returncode}: {said}"


def _under_way(run: Path) -> str:
    """The stage a killed run was in."""
    begun = [stage for stage in STAGES if (run / "stages" / stage / "begun.json").exists()]
    done = [stage for stage in STAGES if (run / "stages" / stage / "stage.json").exists()]
    return next((stage for stage in begun if stage not in done), "between stages")


def differences(run: Path, whole: Path) -> list[str]:
    """How two runs differ, times aside."""
    found = [f"weights of {stage}" for stage in TRAINED if weights(run, stage) != weights(whole, stage)]
    for name in ("steps.jsonl", "samples.jsonl"):
        for file in sorted(whole.glob(f"stages/*/{name}")):
            other = run / file.relative_to(whole)
            if not other.is_file() or rows(other) != rows(file):
                found.append(str(file.relative_to(whole)))
    if figures(run) != figures(whole):
        found.append("results.json")
    return found


def main() -> int:
    """Print how many kills, where, and what differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = survive(Path(folder), given.kills, given.seed)
    for stage, count in sorted(tally.kills.items()):
        print(f"{stage:16} {count:5} kills")
    print(f"{tally.kills.total()} kills, {tally.ends} runs to their end, {len(tally.failures)} failures")
    for failure in tally.failures:
        print(f"  {failure}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
