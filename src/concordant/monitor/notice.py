"""What a detector has to say, and what may be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Action = Literal["warn", "brake", "pause", "rollback"]
ACTIONS: tuple[Action, ...] = (
    "warn",
    "brake",
    "pause",
    "rollback",
)  # each one goes further than the one before

SHOWN = 3  # samples that a notice shows

OPTIMIZER, DISTANCE, BEHAVIOR, PROBE = 0, 1, 2, 3
"""Tiers: how training does; how far the policy is, and how healthy; how it answers canaries; whether it is liked."""


@dataclass(frozen=True)
class Notice:
    """A step out of bounds. `tier` says how much it proves, `action` what came of it."""

    step: int
    detector: str
    saw: str
    causes: str
    examples: tuple[Mapping[str, str], ...] = ()  # what it was seen in, for people
    tier: int = OPTIMIZER
    action: Action = "warn"

    def __str__(self) -> str:
        return f"step {self.step}, {self.detector}: {self.saw}. Likely: {self.causes}"

    def as_row(self) -> dict[str, Any]:
        """For a JSON-lines file."""
        return asdict(self)


def response(notice: Notice, signals: int, most: Action) -> Action:
    """What a recipe that goes as far as `most` does about a new notice, with so many signals of distance out of bounds.

    Distance by itself proves nothing: it takes two signals of it at once, or a canary, to brake. Pausing and going back
    cost so much that somebody must have preferred other answers first.
    """
    if notice.tier == PROBE:
        return most
    slower = notice.tier == BEHAVIOR or (notice.tier == DISTANCE and signals > 1)
    return "brake" if slower and most != "warn" else "warn"
