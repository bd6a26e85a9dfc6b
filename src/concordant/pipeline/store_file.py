"""The file of a run's feedback store: votes are copied and put aside, never deleted."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

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
