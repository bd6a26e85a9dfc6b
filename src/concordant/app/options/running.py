"""Options of the commands that run recipes."""

from __future__ import annotations

import argparse
from pathlib import Path

from concordant.app.options.shared import names, numbers


def plan(command: argparse.ArgumentParser) -> None:
    """What `plan` says."""
    command.add_argument("--values", action="store_true", help="every value in force, defaults among them")
    command.add_argument(
        "--probe",
        action="store_true",
        help="measure some steps of every stage (ten seconds, and the start of torch)",
    )
    command.add_argument("--json", action="store_true", help="everything as one JSON object, for scripts")


def compare(command: argparse.ArgumentParser) -> None:
    """Which runs are compared."""
    command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all run directories")
    command.add_argument("--seeds", type=numbers, default="0,1,2", help="seeds, as in 0,1,2")
    command.add_argument(
        "--only", type=names, default=[], metavar="NAMES", help="sections of [compare], as in dpo,ppo (all)"
    )
