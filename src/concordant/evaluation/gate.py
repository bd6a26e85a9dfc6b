"""The release gate: what a recipe demanded before the run, and whether the figures of the run show it.

The policy has to be better than the model that its training started from in one figure, by more than a margin, and
not worse by more than theirs in others. Each demand is met or broken where the 95 % interval of the change lies wholly
on one side of the margin, and open where it holds the margin. All have to be met together, so that nothing has to
be corrected for their number: a release that breaks one of them passes with probability 2.5 % at most (Berger,
Technometrics 24, 1982: intersection-union tests).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from concordant.evaluation.config import GateConfig, Rule
from concordant.evaluation.figures import WIN_RATE
from concordant.evaluation.intervals import Change

Verdict = Literal["GO", "NO-GO", "NOT ENOUGH DATA"]
GO: Final = "GO"
NO_GO: Final = "NO-GO"
NOT_ENOUGH: Final = "NOT ENOUGH DATA"

MANY_TIMES = (
    100  # a change this many half widths nearer to its margin than now is as good as the margin itself
)
GROWING = ("people",)  # whose duels become more while they are looked at: their intervals hold at all times


@dataclass(frozen=True, slots=True)
class Reason:
    """One demand, and what the figures say of it.

    `needed`: about how many prompts would decide it if the change stayed as it is.
    """

    figure: str
    rule: Rule
    margin: float
    change: Change | None  # None: it was not measured
    verdict: Verdict
    needed: int | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"change": self.change and self.change.as_dict()}


@dataclass(frozen=True)
class Decision:
    """What the gate says, and why: the target first."""

    verdict: Verdict
    reasons: tuple[Reason, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"verdict": self.verdict, "reasons": [one.as_dict() for one in self.reasons]}


def decide(gate: GateConfig, results: Mapping[str, Any]) -> Decision:
    """What the figures of a run, as `results.json` has them, say of the demands. Reads nothing else."""
    reasons = tuple(_reason(*demand, _change(results, demand[0])) for demand in gate.demands())
    said = {one.verdict for one in reasons}
    verdict: Verdict = NO_GO if NO_GO in said else NOT_ENOUGH if NOT_ENOUGH in said else GO
    return Decision(verdict, reasons)


def _reason(figure: str, rule: Rule, margin: float, change: Change | None) -> Reason:
    if change is None:
        return Reason(figure, rule, margin, None, NOT_ENOUGH, None)
    bound = -margin if rule == "no_less" else margin
    above, below = change.low > bound, change.high < bound
    met, broken = (below, above) if rule == "no_more" else (above, below)
    if met or broken:
        return Reason(figure, rule, margin, change, GO if met else NO_GO, None)
    return Reason(figure, rule, margin, change, NOT_ENOUGH, _needed(change, bound))


def _needed(change: Change, bound: float) -> int | None:
    """Intervals shrink with the root of n. None where no number would do: the change is about the margin itself."""
    away, half = abs(change.mean - bound), (change.high - change.low) / 2
    if not math.isfinite(half) or away <= half / MANY_TIMES:
        return None
    return max(change.n + 1, math.ceil(change.n * (half / away) ** 2))


def _change(results: Mapping[str, Any], figure: str) -> Change | None:
    """Of the policy over what it started from; of a win rate over one half. None where it was not measured."""
    if figure.startswith(WIN_RATE):
        return _won(results, figure.removeprefix(WIN_RATE))
    row = results.get("changes", {}).get(f"policy_minus_{start_of(results)}", {}).get(figure)
    return None if row is None else Change.from_dict(row)


def _won(results: Mapping[str, Any], by: str) -> Change | None:
    for row in results.get("win_rates", ()):
        if (row["by"], row["first"], row["second"]) == (by, start_of(results), "policy"):
            low, high = row["always"] if by in GROWING else (row["low"], row["high"])
            return Change(row["rate"] - 0.5, low - 0.5, high - 0.5, row["n"])
    return None


def start_of(results: Mapping[str, Any]) -> str:
    """The model that the training of the policy started from."""
    return "sft" if "sft" in results.get("models", {}) else "base"
