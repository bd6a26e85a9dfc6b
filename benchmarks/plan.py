"""What `concordant plan --probe` foresees of a run, beside what the run then takes.

    python benchmarks/plan.py recipes/demo.toml machine.threads=1

Plans, runs into a temporary folder, plans once more, and prints all: seconds, peak memory and tokens of each stage, and
what lies on the disk in the end. The second plan shows how much the machine itself has changed meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COLUMNS = (
    "stage",
    "foreseen, s",
    "took, s",
    "ratios",
    "foreseen, MB",
    "peak, MB",
    "ratio",
    "tokens, foreseen / read",
)


def main() -> None:
    words = sys.argv[1:] or ["recipes/demo.toml"]
    with tempfile.TemporaryDirectory() as folder:
        run, elsewhere = str(Path(folder) / "runs" / "run"), str(Path(folder) / "none" / "run")
        ask = ("plan", *words, "--run", elsewhere, "--probe", "--json")
        before = json.loads(concordant(*ask))
        concordant("run", *words, "--run", run)
        after = json.loads(concordant(*ask))
        results = json.loads((Path(run) / "results.json").read_text())
        taken = sum(file.stat().st_size for file in Path(run).rglob("*") if file.is_file())
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for stage in before["probe"]:
        print(row(stage, before, after, results))
    totals = [sum(one["seconds"]["about"] for one in plan["probe"].values()) for plan in (before, after)]
    total = results["seconds"]["total"]
    print(f"| together | {totals[0]:.0f}, {totals[1]:.0f} | {total:.0f} | {ratios(totals, total)} | | | | |")
    kept = before["disk"]["models"] + before["disk"]["logs"]
    print(
        f"\nOn the disk in the end: {kept / 1e6:.1f} MB foreseen, {taken / 1e6:.1f} MB there. {before['machine']}."
    )


def ratios(foreseen: list[float], took: float) -> str:
    """Of both probes."""
    return ", ".join(f"{one / took:.2f}" for one in foreseen)


def concordant(*words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "concordant", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def row(stage: str, before: dict[str, Any], after: dict[str, Any], results: dict[str, Any]) -> str:
    """One stage."""
    seconds = [plan["probe"][stage]["seconds"] for plan in (before, after)]
    took, peak = results["seconds"]["stages"][stage], results["memory_mb"][stage]
    foreseen = before["probe"][stage]["memory"]["about"] / 2**20
    work = next(work for work in before["work"] if work["stage"] == stage)
    spent = results["throughput"][stage]
    tokens = ", ".join(
        f"{name} {amount['number']:,} / {spent[name]['tokens']:,}"
        for name, amount in work["tokens"].items()
        if amount and name in spent
    )
    told = ", ".join(f"{one['about']:.0f} ({one['low']:.0f} to {one['high']:.0f})" for one in seconds)
    middle = [one["about"] for one in seconds]
    return (
        f"| {stage} | {told} | {took:.0f} | {ratios(middle, took)} "
        f"| {foreseen:.0f} | {peak:.0f} | {foreseen / peak:.2f} | {tokens} |"
    )


if __name__ == "__main__":
    main()
