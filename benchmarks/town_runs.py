"""Runs of the demo that differ in a few settings, for the benchmarks that read what became of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "demo.toml"
MEASURED = (
    "evaluate.prompts=1000",
    "evaluate.best_of_prompts=0",
    "evaluate.compared=20",
    "evaluate.diversity_prompts=4",
)
POLICY = Path("stages", "05-policy")


def town_run(folder: Path, seed: int, *words: str) -> Path:
    """Make a run of the demo on one thread, or find it; returns its directory, named by what is changed.

    Runs in one folder share the stages that they have in common.
    """
    name = "-".join([f"s{seed}", *(word.rpartition(".")[2].replace("=", "-") for word in words)])
    place = folder / name
    command = [sys.executable, "-m", "concordant", "run", str(RECIPE), f"seed={seed}", *words, *MEASURED]
    subprocess.run(
        [*command, "machine.threads=1", "--run", str(place)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return place
