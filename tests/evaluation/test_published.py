"""Figures that others have published come out of the same files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "published.py"


def test_published_figures_of_real_sets(shared_data: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, shared_data], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n| ") == 31
