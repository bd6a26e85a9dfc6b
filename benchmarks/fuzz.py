"""Bad data files against the data doctor: `python benchmarks/fuzz.py --cases 10000 [--data FOLDER]`.

Half of the cases are good files with mistakes in their bytes (real ones where FOLDER has data sets), half are rows of
hostile values. A case fails where there is another exception than the one meant for people, where a row is dropped in
silence, where counts do not add up to the rows read, or where the cleaned copy is not clean.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "tests" / "survive"))

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402

from bad_files import hostile_file, hostile_rows, mutated, originals, try_file  # noqa: E402


def damaged_files(n: int, data: Path | None, seed: int) -> Iterator[tuple[str, bytes, bool]]:
    draw = random.Random(seed)
    good = list(originals(data))
    for case in range(n):
        suffix, content = draw.choice(good)
        yield suffix, mutated(content, draw), suffix == ".jsonl" and case % 10 == 0


def hostile_files(n: int) -> list[bytes]:
    """What hypothesis thinks of."""
    found: list[bytes] = []

    @settings(
        max_examples=n, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(hostile_rows)
    def draw(rows: list[dict[str, Any]]) -> None:
        found.append(hostile_file(rows))

    draw()
    return found[:n]


def try_files(n: int, seed: int, data: Path | None, keep: Path | None = None) -> Counter[str]:
    """Try `n` files, half of them damaged originals (real ones where `data` has some); `keep` gets those that fail."""
    outcomes = Counter[str]()
    cases = [(".jsonl", content, False) for content in hostile_files(n // 2)]
    damaged = damaged_files(n - len(cases), data, seed)
    with TemporaryDirectory() as folder:
        for source in (cases, damaged):
            for suffix, content, packed in source:
                try:
                    usable = try_file(Path(folder), suffix, content, packed=packed)
                    outcomes["read" if usable else "refused"] += 1
                except Exception:
                    outcomes["failures"] += 1
                    print(traceback.format_exc(limit=-3))
                    if keep:
                        keep.mkdir(parents=True, exist_ok=True)
                        name = f"{outcomes['failures']}{suffix}{'.gz' if packed else ''}"
                        (keep / name).write_bytes(content)
    return outcomes


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cases", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--data", type=Path, default=REAL, help="real data sets")
    arguments.add_argument(
        "--failures", type=Path, default=None, metavar="FOLDER", help="keep files that fail here"
    )
    asked = arguments.parse_args()
    begin = time.monotonic()
    outcomes = try_files(asked.cases, asked.seed, asked.data if asked.data.is_dir() else None, asked.failures)
    seconds = time.monotonic() - begin
    print(
        f"{outcomes.total():,} files in {seconds:,.0f} s: {outcomes['read']:,} with usable rows, "
        f"{outcomes['refused']:,} refused or without any, {outcomes['failures']} failures"
    )
    return 1 if outcomes["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
