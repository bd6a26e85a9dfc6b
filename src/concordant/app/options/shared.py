"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path


def recipe(command: argparse.ArgumentParser) -> None:
    """A recipe file."""
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe file (TOML)")


def run(command: argparse.ArgumentParser) -> None:
    """A run directory."""
    command.add_argument("run_folder", type=Path, metavar="RUN", help="a run directory, such as runs/demo")


def run_folders(command: argparse.ArgumentParser) -> None:
    """One run directory or more."""
    command.add_argument(
        "run_folders", type=Path, nargs="+", metavar="RUN", help="run directories, such as runs/demo"
    )


def seed(command: argparse.ArgumentParser) -> None:
    """The seed of a run."""
    command.add_argument("--seed", type=int, default=0, help="fixes world, weights, data order and samples")


def where(command: argparse.ArgumentParser) -> None:
    """Where run directories are."""
    command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all run directories")
    command.add_argument(
        "--run",
        type=Path,
        default=None,
        metavar="DIR",
        help="this run's directory (default: the recipe's name and its overrides, below --runs)",
    )


def overrides(command: argparse.ArgumentParser) -> None:
    """Values that replace those of the recipe."""
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="values that replace those of the recipe, dotted"
    )


def rubric(command: argparse.ArgumentParser) -> None:
    """A file with what labelers are asked."""
    command.add_argument(
        "--rubric",
        type=Path,
        default=None,
        metavar="FILE",
        help="ask what this file says (default: as `concordant feedback rubric` prints)",
    )


def door(command: argparse.ArgumentParser) -> None:
    """Where a page is served, and to whom."""
    command.add_argument("--port", type=int, default=0, help="port to listen on; 0 = a free one")
    command.add_argument(
        "--share",
        action="store_true",
        help="listen on all addresses, for people with a password (default: on this machine alone)",
    )
    command.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="with --share: a name this server answers to (all)",
    )


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Words between commas."""
    return text.split(",")
