"""Options of the commands on the models of a run."""

from __future__ import annotations

import argparse
from pathlib import Path


def report_form(command: argparse.ArgumentParser) -> None:
    """How a report is written."""
    command.add_argument(
        "--format",
        choices=("html", "md", "json"),
        default="html",
        help="a page, Markdown, or JSON: the same sections and numbers",
    )


def chat(command: argparse.ArgumentParser) -> None:
    """Who talks, and how."""
    stages = ("base", "sft", "policy")
    command.add_argument("--stage", choices=stages, default="policy", help="whom to talk to")
    command.add_argument(
        "--compare", choices=stages, default=None, help="a second one, side by side (default: nobody)"
    )
    command.add_argument(
        "--temperature", type=float, default=1.0, help="sampling temperature; 0 = most likely"
    )
    command.add_argument("--tokens", type=int, default=128, help="most tokens of an answer")
    command.add_argument("--seed", type=int, default=0, help="fixes the answers")


def destination(command: argparse.ArgumentParser) -> None:
    """Where to."""
    command.add_argument("destination", type=Path, metavar="FOLDER", help="a new folder")


def card(command: argparse.ArgumentParser) -> None:
    """Which model, and under which licence."""
    command.add_argument(
        "--stage", choices=("base", "sft", "reward", "policy"), default="policy", help="which model"
    )
    command.add_argument(
        "--license",
        default="",
        metavar="ID",
        help="the licence its card states, as the hub calls it, e.g. apache-2.0 (default: unknown)",
    )
