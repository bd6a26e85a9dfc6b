"""db: back up a feedback store, copy it to another engine, bring it up to date, erase a person from it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from concordant.app.runs import store_at
from concordant.app.terminal import visible
from concordant.errors import UserError
from concordant.feedback.database.erasure import erase, find
from concordant.feedback.database.maintenance import backup, bring_up_to_date, copy
from concordant.feedback.store import Store


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
    if arguments.action == "erase":
        forget(address, arguments, console)
    elif arguments.action == "copy":
        copied = copy(address, arguments.target, progress=lambda table, n: console.print(f"  {table}: {n:,}"))
        console.print(f"copied, digest {copied.digest}: the same on both sides", highlight=False)
    elif arguments.action == "backup":
        stamp = time.strftime("%Y%m%d-%H%M%S")
        kept = backup(address, Path(arguments.target or f"feedback.{stamp}.backup.sqlite"))
        console.print(f"backup: {kept}", markup=False, highlight=False)
    elif arguments.action == "compact":
        with Store.open(address) as store:
            done = store.compact()
        console.print("written anew" if done else "in use just now: nothing was done", highlight=False)
    else:
        before = bring_up_to_date(address)
        said = f"upgraded; the backup from before: {before}" if before else "up to date: nothing to do"
        console.print(said, markup=False, highlight=False)
    return 0


def forget(address: str | Path, arguments: argparse.Namespace, console: Console) -> None:
    """Erase a person from a store, once it is said twice."""
    name = arguments.labeler
    if not name:
        raise UserError(
            "nobody is named",
            where="the command line",
            expected="the name of a labeler or an account, as the pages show it",
            fix="add --labeler NAME",
        )
    with Store.open(address) as store:
        found = find(store, name)
        held = f"{found.votes:,} votes, {found.texts:,} texts and {len(found.accounts)} accounts"
        if not arguments.yes:
            raise UserError(
                f"erasing {visible(name)} cannot be undone",
                where=f"{arguments.store}: {held}",
                expected="--yes, after a look at what there is",
                fix="add --yes; votes stay, without a name and without a word",
            )
        erase(store, name)
        clean = store.compact()
    console.print(f"erased: of {held} the votes are left, without a name and without a word", highlight=False)
    console.print("Backups, exports and copies made before still have all of it.", highlight=False)
    if not clean:
        console.print(
            "The file is in use: stop what holds it and say `concordant db compact`.", highlight=False
        )
