"""Options of `concordant check`."""

from __future__ import annotations

import argparse
from pathlib import Path


def data(command: argparse.ArgumentParser) -> None:
    """What is looked over, by what measure, and what is written."""
    command.add_argument(
        "data",
        metavar="DATA",
        help="a file, a folder written by datasets, a hub name; or a recipe (.toml), for all files it names",
    )
    command.add_argument(
        "--kind",
        choices=("auto", "demonstrations", "preferences", "judgements", "prompts"),
        default="auto",
        help="what the rows are; auto = recognise it from the columns",
    )
    command.add_argument(
        "--columns",
        nargs="*",
        default=[],
        metavar="OURS=YOURS",
        help="names of your columns, e.g. chosen=good (default: as they are)",
    )
    command.add_argument(
        "--split", default=None, help="split of a data set with several (default: train, or the only one)"
    )
    command.add_argument(
        "--tokenizer", default=None, metavar="MODEL", help="count tokens with this tokenizer"
    )
    command.add_argument(
        "--max-length",
        type=int,
        default=None,
        metavar="N",
        help="tokens that a prompt and its answer may have",
    )
    command.add_argument(
        "--overlong",
        choices=("trim_prompt_left", "drop", "error"),
        default="trim_prompt_left",
        help="what becomes of longer rows, as data.overlong in a recipe",
    )
    command.add_argument(
        "--against",
        default=None,
        metavar="HELD_OUT",
        help="data that is held out: rows of DATA with one of its prompts are leaks",
    )
    command.add_argument("--samples", type=int, default=3, metavar="N", help="rows to show")
    command.add_argument(
        "--format",
        choices=("full", "lines"),
        default="full",
        help="lines: nothing but path:line:column: what, for editors",
    )
    command.add_argument(
        "--report",
        type=Path,
        default=None,
        metavar="FILE",
        help="write every problem to this file, as JSON lines",
    )
    command.add_argument(
        "--fix", type=Path, default=None, metavar="OUT", help="write a cleaned copy to this new file (.jsonl)"
    )
