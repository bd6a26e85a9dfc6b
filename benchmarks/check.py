"""Time and peak memory of `concordant check` on a generated file: `python benchmarks/check.py --rows 1000000`.

Each size is read in a process of its own, whose peak is that of the data doctor with Python and its libraries. Every
twentieth pair repeats an earlier one, every fiftieth turns one around, every thousandth line is broken.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = (
    "bridge",
    "river",
    "lantern",
    "harbour",
    "winter",
    "orchard",
    "signal",
    "copper",
    "meadow",
    "station",
)


def line(n: int) -> str:
    """Row `n` of the file; which words it has depends on the number alone."""
    if n % 1000 == 999:
        return '{"prompt": "cut off'
    turned = n % 50 == 49
    n -= 7 if n % 20 == 19 or turned else 0
    words = [WORDS[(n // 10**k) % 10] for k in range(7)]
    answers = [" ".join(words[k:] + words[:k]) + f" {n}" for k in (1, 3)]
    chosen, rejected = reversed(answers) if turned else answers
    return json.dumps(
        {"prompt": f"{' '.join(words)}: what about {n}?", "chosen": chosen, "rejected": rejected}
    )


def examine_one(path: str, clean: str) -> None:
    """What the command does, report and cleaned copy included; prints seconds, megabytes and counts."""
    from concordant.data.doctor.checkup import Origin, examine
    from concordant.data.doctor.cure import write_clean

    begin = time.monotonic()
    with examine(Origin(path)) as examination:
        listed = sum(1 for _ in examination.problems())
        report, checked = examination.report, time.monotonic()
        cure = write_clean(examination, Path(clean))
    assert listed == sum(report.counts.values())
    assert report.read == report.used + report.dropped == cure.used + cure.unusable.total()
    assert cure.rows == cure.written + cure.left_out.total()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {report.read:,} | {Path(path).stat().st_size / 2**20:,.0f} | {checked - begin:,.0f} | "
        f"{time.monotonic() - checked:,.0f} | {peak:,.0f} | {report.counts} |",
        flush=True,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    arguments.add_argument("--examine", nargs=2, metavar=("FILE", "CLEAN"), help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.examine:
        examine_one(*asked.examine)
        return
    print("| rows | MB | check, s | --fix, s | peak, MB | problems |\n|--:|--:|--:|--:|--:|---|", flush=True)
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pairs.jsonl"
            with path.open("w") as file:
                file.writelines(f"{line(n)}\n" for n in range(rows))
            words = [sys.executable, __file__, "--examine", str(path), str(Path(folder) / "clean.jsonl")]
            subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
