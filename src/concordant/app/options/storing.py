"""Options of `concordant db`."""

from __future__ import annotations

import argparse


def db(command: argparse.ArgumentParser) -> None:
    """What is done with a store."""
    command.add_argument(
        "action",
        choices=("backup", "copy", "upgrade", "erase", "compact"),
        help="backup: one SQLite file, while others go on; copy: to a new store, SQLite or PostgreSQL; "
        "upgrade: to the layout of this version, after a backup; erase: forget a person, their votes stay "
        "without a name; compact: write the file anew, without what was erased or taken back",
    )
    command.add_argument(
        "--labeler", default="", metavar="NAME", help="erase: whom, by the name that the pages show"
    )
    command.add_argument("--yes", action="store_true", help="erase: for good; without it nothing is done")
    command.add_argument("store", metavar="STORE", help="a run directory, an SQLite file, or an address")
    command.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="backup, copy: a new file; copy: or an empty database",
    )
