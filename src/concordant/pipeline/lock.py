"""One process at a time in a run directory.

The system's lock on the file decides wherever it works: it ends with its process, however that ends. What stands
in the file says who holds it, and stands in for the lock on network disks where that reaches one machine only.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from concordant.errors import UserError
from concordant.files import disk_errors

LOCK = "run.lock"
BEAT = 10.0  # seconds between two signs of life
SILENT = 120.0  # seconds without one after which an owner on another machine is taken for dead
DISOWNED = 3  # exit status of a process that finds another owner in its run directory

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Owner:
    """A process that holds a run directory, or held it."""

    pid: int
    host: str
    boot: str  # of the machine: after another one no process is left
    since: float  # Unix time

    @classmethod
    def this(cls) -> Owner:
        """This process."""
        return cls(os.getpid(), platform.node(), _boot(), time.time())

    @classmethod
    def of(cls, text: str) -> Owner | None:
        """What a lock file says; None for one that was given back, or that says nothing of use."""
        try:
            said: dict[str, Any] = json.loads(text)
            return cls(int(said["pid"]), str(said["host"]), str(said["boot"]), float(said["since"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since}"

    @property
    def elsewhere(self) -> bool:
        """Whether it ran on another machine."""
        return self.host != platform.node()

    @property
    def lives_here(self) -> bool:
        """Whether such a process runs on this machine, in the same boot."""
        if self.elsewhere or self.boot != _boot():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # somebody else's, and alive
        return True


@contextmanager
def locked(
    run_folder: Path, say: Callable[[str], None] = lambda _: None, leave: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the run directory while the block runs; the system lets go of it even when the process is killed.

    `say` hears of a dead owner whose place is taken; `leave` is called, in a thread, if another owner is found later.
    """
    file = run_folder / LOCK
    with disk_errors(run_folder):
        run_folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        exclusive = _lock(descriptor, file)
        before = Owner.of(_read(descriptor))
        if before is not None:
            _refuse_living(before, file, exclusive)
            say(f"the last owner of this run is gone ({before}); taken over")
        mine = json.dumps(asdict(Owner.this()))
        with disk_errors(run_folder):
            _write(descriptor, mine)
        try:
            with _beating(mine, file, leave or (lambda: _leave(file))):
                yield
        finally:
            # Given back, however the block ended: only a killed owner leaves its name.
            with suppress(OSError):  # a disk that is gone must not hide what went wrong before
                if _read(descriptor) == mine:
                    _write(descriptor, "")
    finally:
        os.close(descriptor)


def _lock(descriptor: int, file: Path) -> bool:
    """Take the system's lock; False where the disk has none. Raises for one that another process holds."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _under_way(Owner.of(_read(descriptor)), file) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _refuse_living(owner: Owner, file: Path, exclusive: bool) -> None:
    """Raise for an owner that lives although the lock was to be had: the lock may not reach its machine, or not be."""
    alive = _silence(file) < SILENT if owner.elsewhere else owner.lives_here and not exclusive
    if alive:
        raise _under_way(owner, file)


def _under_way(owner: Owner | None, file: Path) -> UserError:
    who = (
        f"{owner}, last seen {_silence(file):.0f} s ago" if owner else "a process that has not said who it is"
    )
    fix = "wait for the other one or stop it, or use --run with another directory"
    if owner and owner.elsewhere:
        fix += f"; if its machine is gone, it is taken for dead after {SILENT:.0f} s of silence"
    return UserError(
        "this run is under way in another process",
        where=str(file.parent),
        expected=f"one process at a time in a run directory; this one is held by {who}",
        fix=fix,
    )


def _silence(file: Path) -> float:
    """Seconds since an owner gave a sign of life; a clock that was set back makes none of them negative."""
    return max(0.0, time.time() - file.stat().st_mtime)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 4096, 0).decode(errors="replace")


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


@contextmanager
def _beating(mine: str, file: Path, leave: Callable[[], None]) -> Iterator[None]:
    """Give signs of life while the block runs, and look whether the lock still says what we wrote."""
    over = Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                if file.read_text(encoding="utf-8") != mine:
                    leave()
                    return
                os.utime(file)
            except OSError:
                continue  # the disk is away for a moment, or the file: nobody has taken our place

    thread = Thread(target=beat, name="owner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _leave(file: Path) -> None:
    """End the process at once: another one writes here now, since this one was silent for too long."""
    sys.stderr.write(f"error: another process has taken over {file.parent}; this one leaves it alone\n")
    sys.stderr.flush()
    os._exit(DISOWNED)


def _boot() -> str:
    """What tells one start of this machine from the next; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
