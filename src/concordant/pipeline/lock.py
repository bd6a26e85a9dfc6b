"""One process at a time in a run directory."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from concordant.errors import UserError
from concordant.files import disk_errors

LOCK = "run.lock"


@contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """Hold the run directory while the block runs; the system lets go of it even when the process is killed."""
    with disk_errors(run_folder):
        run_folder.mkdir(parents=True, exist_ok=True)
        file = (run_folder / LOCK).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "this run is under way in another process",
                where=str(run_folder),
                expected="one process at a time in a run directory",
                fix="wait for the other one or stop it, or use --run with another directory",
            ) from None
        yield
