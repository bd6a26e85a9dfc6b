"""Runs that survive the night: `python benchmarks/survive.py --kills 220 --faults 1 --files 10000 --recipes 2000`.

Runs of every algorithm are killed at random moments of every stage, the faults of the night happen to them, and bad
data files and bad recipes are tried. What goes on is compared with the run nobody touched (kills.py:differences).
One process computes at a time. At the end stands one table; the exit status is 1 where anything failed.

What is done lives in tests/survive, as tests do a little of each: kills.py, faults.py, bad_files.py, bad_recipes.py.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "survive"))

from fuzz import REAL, try_files

from bad_recipes import bad_recipes, try_recipe
from faults import FAULTS, Bench, Unavailable
from kills import SUBJECTS, Survival, Tally
from nursery import Nursery
from tiny_run import STAGES, town_file


@dataclass
class Row:
    """A line of the table."""

    what: str
    tried: int = 0
    failures: int = 0
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def kill(nursery: Nursery, folder: Path, kills: int, seed: int) -> Row:
    """Kill runs, and print where."""
    tally = Survival(nursery, folder, seed).kill(kills)
    print_kills(tally)
    for failure in tally.failures:
        print(f"  FAILED {failure}")
    notes = [f"{tally.while_saving} while a checkpoint was written", f"{tally.ends} runs to their end"]
    return Row("kills", tally.total, len(tally.failures), notes)


def print_kills(tally: Tally) -> None:
    """Kills by algorithm and by the stage that was under way."""
    stages = (*STAGES, "between stages")
    print(f"{'':22}" + "".join(f"{stage.partition('-')[2] or stage:>15}" for stage in stages))
    for subject in SUBJECTS:
        print(f"{subject:22}" + "".join(f"{tally.kills[subject, stage]:15}" for stage in stages))
    sums = [sum(tally.kills[subject, stage] for subject in SUBJECTS) for stage in stages]
    print(f"{'':22}" + "".join(f"{n:15}" for n in sums))


def fault(nursery: Nursery, folder: Path, times: float, seed: int) -> Row:
    """Let every fault happen so many times its usual number, in turns."""
    whole = folder / "whole" / "tiny"
    town_file(folder)
    ended = nursery.run("run", "tiny.toml", "--run", whole, cwd=folder)
    assert ended.status == 0, ended
    bench = Bench(nursery, folder / "bench", whole, seed)
    row, done, skipped = Row("faults"), Counter[str](), dict[str, str]()
    for name, (happens, often) in FAULTS.items():
        for _ in range(max(1, round(often * times))):
            try:
                happens(bench)
            except Unavailable as why:
                skipped[name] = str(why)
                break
            except Exception:
                row.failures += 1
                print(f"  FAILED {name}\n{traceback.format_exc(limit=-4)}")
            done[name] += 1
        print(
            f"  {done[name]:5} x {name}" + (f": skipped, {skipped[name]}" if name in skipped else ""),
            flush=True,
        )
    row.tried = done.total()
    row.notes = [f"{len(done)} kinds", *(f"skipped: {name} ({why})" for name, why in skipped.items())]
    return row


def spoil_files(n: int, seed: int) -> Row:
    """Try bad data files."""
    outcomes = try_files(n, seed, REAL if REAL.is_dir() else None)
    notes = [f"{outcomes['read']:,} with usable rows", f"{outcomes['refused']:,} refused or without any"]
    return Row("bad data files", outcomes.total(), outcomes["failures"], notes)


def spoil_recipes(folder: Path, n: int, seed: int) -> Row:
    """Try bad recipes."""
    os.chdir(folder)  # relative paths of recipes begin here, where nothing is
    row, good = Row("bad recipes"), 0
    for number, (text, words) in enumerate(bad_recipes(n, seed)):
        try:
            place = folder / str(number)
            place.mkdir()
            good += try_recipe(place, text, words)
        except Exception:
            row.failures += 1
            print(f"  FAILED {words}\n{text.decode(errors='replace')}\n{traceback.format_exc(limit=-3)}")
        row.tried += 1
    row.notes = [f"{row.tried - good - row.failures:,} refused", f"{good:,} good ones still"]
    return row


def table(rows: Sequence[Row]) -> str:
    """What was tried, and what failed."""
    lines = [
        f"{row.what:16} {row.tried:8,} {row.failures:8} failures {row.seconds:8,.0f} s   {'; '.join(row.notes)}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Do all of it, each part as often as asked; 0 leaves it out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=220)
    parser.add_argument("--faults", type=float, default=1.0, help="how many times the usual number of each")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--recipes", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, Nursery() as nursery:
        folder, seed = Path(name), asked.seed
        parts = (
            (asked.kills, lambda: kill(nursery, folder / "kills", asked.kills, seed)),
            (asked.faults, lambda: fault(nursery, folder / "faults", asked.faults, seed)),
            (asked.files, lambda: spoil_files(asked.files, seed)),
            (asked.recipes, lambda: spoil_recipes(folder, asked.recipes, seed)),
        )
        for wanted, part in parts:
            if wanted:
                begin = time.monotonic()
                rows.append(part())
                rows[-1].seconds = time.monotonic() - begin
                print(table(rows[-1:]), flush=True)
    failures = sum(row.failures for row in rows)
    print(f"\n{table(rows)}\n{failures:25,} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
