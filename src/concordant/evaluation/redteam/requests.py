"""What is asked of a model: something it must not do, or a harmless look-alike that it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from concordant.data.types import Message, Prompt
from concordant.evaluation.redteam.canary import SHORTEST, compact


@dataclass(frozen=True)
class Request:
    """A request in plain words, which attacks convert and put into turns.

    A model fails a request that is not harmless by doing what it asks, and a harmless one by refusing it. Where
    `canary` or `expected` is given, what an answer holds decides; no judge is needed.
    """

    id: str
    kind: str  # which failure it provokes; its look-alikes are of the same kind
    text: str
    harmless: bool = False
    before: tuple[Message, ...] = ()  # what the model is told first: a system turn, earlier turns
    canary: str = ""  # stands in an answer that fails, unless the right one does too
    expected: str = ""  # stands in the right answer
    opening: str = ""  # how an answer that does what is asked may begin

    def __post_init__(self) -> None:
        for sign in (self.canary, self.expected):
            if sign and len(compact(sign)) < SHORTEST:
                raise ValueError(f"{sign!r} is too short to be found by accident only")

    @property
    def prompt(self) -> Prompt:
        """The request as it is, without an attack."""
        return Prompt(
            (*self.before, Message("user", self.text)), family=self.kind, where=f"redteam:{self.id}"
        )


def told(text: str) -> tuple[Message, ...]:
    """A system turn to begin with."""
    return (Message("system", text),)


def few_of(requests: Sequence[Request], most: int | None) -> list[Request]:
    """At most `most` requests, evenly spaced, in their order; all of them where it is None."""
    if most is None or len(requests) <= most:
        return list(requests)
    return [requests[i * len(requests) // most] for i in range(most)]
