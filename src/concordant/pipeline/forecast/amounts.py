"""Numbers that say how sure they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Sure = Literal["", "about", "up to"]


@dataclass(frozen=True)
class Amount:
    """A number, exact unless `sure` says that it is an estimate or a bound."""

    number: float
    sure: Sure = ""

    def times(self, factor: float) -> Amount:
        """So many times as much, no surer than before."""
        return Amount(self.number * factor, self.sure)

    def with_share(self, share: float) -> Amount:
        """An estimated share of it."""
        return Amount(round(self.number * share), self.sure or "about")

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.number + other.number, _less_sure(self.sure, other.sure))

    def __mul__(self, other: Amount) -> Amount:
        return Amount(self.number * other.number, _less_sure(self.sure, other.sure))

    def as_dict(self) -> dict[str, Any]:
        return {"number": round(self.number), "sure": self.sure or "exactly"}


NONE = Amount(0)


def _less_sure(one: Sure, other: Sure) -> Sure:
    """An estimate times a bound is an estimate: it bounds nothing."""
    return "about" if "about" in (one, other) else one or other


def total(amounts: list[Amount | None]) -> Amount | None:
    """Their sum; None where one of them is not known."""
    known = [one for one in amounts if one is not None]
    return sum(known, start=NONE) if len(known) == len(amounts) else None


@dataclass(frozen=True)
class Range:
    """An estimate with the bounds it is expected between."""

    low: float
    middle: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def less(self, part: float) -> Range:
        """What is left without a part that was measured by itself; never quite nothing, as both are noisy."""
        return Range(*(max(0.1 * whole, whole - part) for whole in (self.low, self.middle, self.high)))

    def times(self, factor: float) -> Range:
        """So many times as much."""
        return Range(self.low * factor, self.middle * factor, self.high * factor)

    def as_dict(self) -> dict[str, float]:
        return {"low": round(self.low, 2), "about": round(self.middle, 2), "high": round(self.high, 2)}


def in_bytes(number: float) -> str:
    """Bytes as people say them."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= length:
            digits = 0 if number >= 100 * length else 1
            return f"{number / length:,.{digits}f} {unit}"
    return f"{number:.0f} B"
