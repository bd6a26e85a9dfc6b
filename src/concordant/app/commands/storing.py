"""db: back up a feedback store, copy it to another engine, bring it up to date."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from concordant.app.runs import store_at
from concordant.errors import UserError
from concordant.feedback.maintenance import backup, bring_up_to_date, copy


def keep(arguments: argparse.Namespace, console: Console) -> int:
    """Do what `arguments.action` says with a store."""
    if arguments.action == "copy" and arguments.target is None:
        raise UserError(
            "a copy needs a place to go to",
            where="the command line",
            expected="a new file, or the address of an empty database",
            fix=f"concordant db copy {arguments.store} postgresql+psycopg://user@host/database",
        )
    address = store_at(arguments.store)
    if arguments.action == "copy":
        copied = copy(address, arguments.target, progress=lambda table, n: console.print(f"  {table}: {n:,}"))
        console.print(f"copied, digest {copied.digest}: the same on both sides", highlight=False)
    elif arguments.action == "backup":
        stamp = time.strftime("%Y%m%d-%H%M%S")
        kept = backup(address, Path(arguments.target or f"feedback.{stamp}.backup.sqlite"))
        console.print(f"backup: {kept}", markup=False, highlight=False)
    else:
        before = bring_up_to_date(address)
        said = f"upgraded; the backup from before: {before}" if before else "up to date: nothing to do"
        console.print(said, markup=False, highlight=False)
    return 0
