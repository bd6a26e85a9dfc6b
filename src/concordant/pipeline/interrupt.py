"""Ctrl-C, SIGTERM and a terminal that is closed: the first asks for a checkpoint and an orderly stop, the second
leaves at once.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPING = b"\nstopping where nothing is lost; a second signal leaves at once\n"
SHOW_CURSOR = b"\x1b[?25h"


class Interrupted(Exception):  # noqa: N818 - not an error: the run stopped because it was asked to
    """The run stopped where it can be taken up again."""


class WaitingForPeople(Interrupted):
    """The run stopped because people have to answer first."""

    def __init__(self, answered: int, wanted: int) -> None:
        super().__init__(f"people have answered {answered:,} of {wanted:,} questions")


class PausedByMonitor(Interrupted):
    """The run stopped because what a monitor saw is for people to judge."""

    def __init__(self, alarm: str, pairs: int) -> None:
        super().__init__(f"paused at {alarm}. {pairs:,} pairs of the policy's answers wait for people")


class StopRequest:
    """Whether somebody asked this run to stop, and why; stages look at it between steps."""

    def __init__(self) -> None:
        self.requested = False
        self._why = Interrupted()

    def ask(self, why: Interrupted) -> None:
        """Stop at the next place where nothing is lost."""
        self.requested, self._why = True, why

    def check(self) -> None:
        """Raise `Interrupted`, or what was said in its place, if a stop was requested."""
        if self.requested:
            raise self._why

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listen to signals while the block runs (in the main thread; elsewhere nothing is installed)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        if before[signal.SIGHUP] == signal.SIG_IGN:
            del before[signal.SIGHUP]  # nohup: the run is to outlive its terminal

        def request(number: int, _frame: FrameType | None) -> None:
            if self.requested and number != signal.SIGHUP:  # both shell and system tell of a closed terminal
                _leave(number)
            self.requested = True
            if number == signal.SIGHUP:
                _leave_terminal()
            with suppress(OSError):  # whoever read it may be gone, as `tee` is with its terminal
                os.write(2, STOPPING)  # not print: the signal may have come in the middle of one

        for number in before:
            signal.signal(number, request)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave_terminal() -> None:
    """Write to nowhere from now on what goes to a terminal: it is gone, and a word to it would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _leave(number: int) -> None:
    """End the process as a signal would: what it is in the middle of writing has a temporary name."""
    if os.isatty(1):
        with suppress(OSError):
            os.write(1, SHOW_CURSOR)
    os._exit(128 + number)
