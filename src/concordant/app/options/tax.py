"""Options of `concordant tax`, and of `inspect`: what other frameworks of evaluation are given."""

from __future__ import annotations

import argparse
from pathlib import Path

from concordant.app.options.shared import names


def tax(command: argparse.ArgumentParser) -> None:
    """Which tasks, of whom, and what counts as not worse."""
    command.add_argument(
        "--tasks",
        type=names,
        required=True,
        metavar="NAMES",
        help="tasks or groups of lm-evaluation-harness, as in arc_easy,gsm8k",
    )
    command.add_argument(
        "--include",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="a folder with tasks of your own (default: none)",
    )
    command.add_argument(
        "--stages",
        type=names,
        default=[],
        metavar="NAMES",
        help="whom to ask, as in sft,policy (default: all)",
    )
    command.add_argument(
        "--limit",
        type=int,
        default=None,
        metavar="N",
        help="the first N documents of each task (default: all)",
    )
    command.add_argument("--chat", action="store_true", help="ask behind the chat template of the model")
    command.add_argument(
        "--margin", type=float, default=0.02, help="a fall of less than this is called not worse"
    )


def inspect(command: argparse.ArgumentParser) -> None:
    """Where logs go."""
    command.add_argument(
        "--to",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="folder of the logs (default: inspect/ of the run)",
    )
