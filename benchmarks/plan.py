"""What `concordant plan --probe` foresees of a run, beside what the run then takes.

    python benchmarks/plan.py recipes/demo.toml machine.threads=1

Plans, runs into a temporary folder, and prints both: seconds, peak memory and trained tokens of each stage, and what
lies on the disk in the end. Whatever else the machine has to do meanwhile is in both figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COLUMNS = ("stage", "foreseen, s", "took, s", "ratio", "foreseen, MB", "peak, MB", "ratio", "tokens, foreseen / read")


def main() -> None:
    words = sys.argv[1:] or ["recipes/demo.toml"]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        plan = json.loads(concordant("plan", *words, "--run", str(run), "--probe", "--json"))
        concordant("run", *words, "--run", str(run))
        results = json.loads((run / "results.json").read_text())
        taken = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for stage, probe in plan["probe"].items():
        print(row(stage, probe, plan, results))
    about = sum(probe["seconds"]["about"] for probe in plan["probe"].values())
    total = results["seconds"]["total"]
    print(f"| together | {about:.0f} | {total:.0f} | {about / total:.2f} | | | | |")
    kept = plan["disk"]["models"] + plan["disk"]["logs"]
    print(f"\nOn the disk in the end: {kept / 1e6:.1f} MB foreseen, {taken / 1e6:.1f} MB there.\n{plan['machine']}")


def concordant(*words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "concordant", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def row(stage: str, probe: dict[str, Any], plan: dict[str, Any], results: dict[str, Any]) -> str:
    """One stage."""
    seconds, took = probe["seconds"], results["seconds"]["stages"][stage]
    foreseen, peak = probe["memory"]["about"] / 2**20, results["memory_mb"][stage]
    work = next(work for work in plan["work"] if work["stage"] == stage)
    spent = results["throughput"][stage]
    tokens = ", ".join(
        f"{name} {amount['number']:,} / {spent[name]['tokens']:,}"
        for name, amount in work["tokens"].items()
        if amount and name in spent
    )
    return (
        f"| {stage} | {seconds['about']:.0f} ({seconds['low']:.0f} to {seconds['high']:.0f}) | {took:.0f} "
        f"| {seconds['about'] / took:.2f} | {foreseen:.0f} | {peak:.0f} | {foreseen / peak:.2f} | {tokens} |"
    )


if __name__ == "__main__":
    main()
