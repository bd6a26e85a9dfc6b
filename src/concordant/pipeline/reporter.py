"""How a run talks to whoever started it, without knowing who that is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """One activity under way."""

    def to(self, done: int, note: str = "") -> None:
        """`done` of the total are done; `note` is a few words such as the current loss."""
        ...


class Reporter(Protocol):
    """The terminal, a log, or nobody."""

    def say(self, text: str) -> None:
        """One line for the user."""
        ...

    def activity(self, title: str, total: int, unit: str) -> AbstractContextManager[Progress]:
        """Show an activity of `total` units while the block runs."""
        ...


class Silent:
    """Nobody is listening."""

    def say(self, text: str) -> None:
        """See `Reporter`."""

    @contextmanager
    def activity(self, title: str, total: int, unit: str) -> Iterator[Progress]:
        """See `Reporter`."""
        yield self

    def to(self, done: int, note: str = "") -> None:
        """See `Progress`."""
