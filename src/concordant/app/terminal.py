"""Progress on the terminal: bars with rate and time left, or plain lines where there is no terminal."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from concordant.pipeline.reporter import Progress

PLAIN_SECONDS = 5.0  # between two lines where there is no terminal

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # reverse what is read


def visible(text: str) -> str:
    """Text that cannot steer the terminal: control characters and changes of direction become a mark."""
    return "".join("\ufffd" if _steers(c) else c for c in text)


def _steers(c: str) -> bool:
    return c in _TURNING or (c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp"))


class Steadfast(Console):
    """A console whose reader may go away, as `tee` and `head` do: what is under way goes on, and speaks to nobody."""

    def on_broken_pipe(self) -> None:
        """Instead of ending the process, which rich would do."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())  # what is still in the buffer of the file has to go somewhere
        os.close(nowhere)


class Terminal:
    """The reporter of the command line; see `pipeline.reporter.Reporter`."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        self.console.print(visible(text), markup=False, highlight=False)

    @contextmanager
    def activity(self, title: str, total: int, unit: str) -> Iterator[Progress]:
        if not self.console.is_terminal:
            yield _Lines(self.console, title, total, unit)
            return
        with Bars(
            TextColumn("  {task.description:<20}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
        ) as bars:
            yield _Bar(bars, title, total, unit)


class _Bar:
    """One bar."""

    def __init__(self, bars: Bars, title: str, total: int, unit: str) -> None:
        self.bars, self.unit = bars, unit
        self.task = bars.add_task(title, total=total, rate="", note="")

    def to(self, done: int, note: str = "") -> None:
        speed = self.bars.tasks[0].speed
        rate = f"{speed:.1f} {self.unit}/s" if speed else ""
        self.bars.update(self.task, completed=done, note=note, rate=rate)


class _Lines:
    """A line now and then, for logs."""

    def __init__(self, console: Console, title: str, total: int, unit: str) -> None:
        self.console, self.title, self.total, self.unit = console, title, total, unit
        self.begin = self.last = time.monotonic()
        self.first: int | None = None

    def to(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = done
        if now - self.last < PLAIN_SECONDS and done < self.total:
            return
        self.last = now
        rate = (done - self.first) / (now - self.begin) if now > self.begin else 0.0
        left = f", {(self.total - done) / rate:.0f} s left" if rate and done < self.total else ""
        pace = f", {rate:.1f}/s{left}" if rate else ""
        line = f"  {self.title} {done}/{self.total} {self.unit}{pace}  {note}"
        self.console.print(line.rstrip(), markup=False, highlight=False)


def quiet_libraries() -> None:
    """Keep the libraries' own notices and bars off the terminal; errors still show.

    The settings are read when the libraries are first imported, which costs seconds and may not be needed.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
