"""The feedback store of a run when its candidates are made anew: votes are put aside, never deleted."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from concordant.errors import UserError
from concordant.files import disk_errors


def copy_store(source: Path, target: Path) -> None:
    """A consistent copy of a store that others may be writing to."""
    with disk_errors(target):
        with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
            old.backup(new)
        old.close()
        new.close()


def set_aside(store: Path) -> Path | None:
    """Rename a store that was made for other candidates; returns where it lies now, None if there was none."""
    if not store.exists():
        return None
    name = f"feedback.{time.strftime('%Y%m%d-%H%M%S')}"
    taken = sum(1 for _ in store.parent.glob(f"{name}*.sqlite"))
    kept = store.with_name(f"{name}{f'-{taken + 1}' if taken else ''}.sqlite")
    store.rename(kept)
    for extra in ("-wal", "-shm"):  # after a crash the last votes may stand in the first of them
        if (beside := store.with_name(store.name + extra)).exists():
            beside.rename(kept.with_name(kept.name + extra))
    return kept


def refuse_used(address: str) -> None:
    """Raise for a database that holds candidates already: nothing in it is ever removed, so it cannot be put aside."""
    from concordant.feedback.store import Store

    with Store.open(address) as store:
        counts = store.counts()
    if counts["completions"]:
        raise UserError(
            f"this database holds {counts['completions']:,} completions of other candidates",
            where="feedback.url",
            expected="an empty database for candidates that are made anew",
            fix="make one with createdb; concordant db backup keeps a copy of the old one",
        )
