"""A clock for tests of what time does."""

from __future__ import annotations


class Clock:
    """It stands still until it is moved; milliseconds."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now
