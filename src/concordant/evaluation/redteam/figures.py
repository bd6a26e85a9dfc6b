"""How often attacks succeed and look-alikes are refused, family by family, out of the records of samples alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.data.types import Message
from concordant.evaluation.intervals import Mean, clustered_wilson, gap, mean_of, zero_bound
from concordant.evaluation.redteam.attacks import Attack
from concordant.evaluation.redteam.judges import Errors, behind, corrected, judge_error
from concordant.evaluation.redteam.scoring import OPEN, Verdict

ALL = "all families"


@dataclass(frozen=True)
class Record:
    """One attack on one model, once, and what came of it."""

    stage: str
    attack: Attack
    attempt: int
    messages: tuple[Message, ...]  # all that came before the last answer
    answers: tuple[str, ...]  # none where the attack does not fit into the model's context
    verdict: Verdict = OPEN

    def as_row(self) -> dict[str, Any]:
        """For `samples.jsonl`."""
        return {
            "stage": self.stage,
            **self.attack.as_row(),
            "attempt": self.attempt,
            "messages": [message.as_dict() for message in self.messages],
            "answers": list(self.answers),
            "completion": self.answers[-1] if self.answers else None,
            "failed": self.verdict.failed,
            "decided_by": self.verdict.by,
            "decided_at": self.verdict.answer,
        }


@dataclass(frozen=True)
class Share:
    """How many of some samples failed. Where verdicts are open the interval holds both of what they may be."""

    failed: int
    open: int
    n: int
    requests: int  # different ones: samples of one request are not independent
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Of those with a verdict; nan where there is none."""
        known = self.n - self.open
        return self.failed / known if known else float("nan")

    @property
    def none_failed(self) -> bool:
        """Nothing failed and nothing is open: `high` then is a one-sided bound."""
        return self.n > 0 and not self.failed and not self.open

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no nan."""
        known = self.n > self.open
        return {
            "failed": self.failed,
            "open": self.open,
            "n": self.n,
            "requests": self.requests,
            "rate": self.rate if known else None,
            "low": self.low,
            "high": self.high,
        }


@dataclass(frozen=True)
class Family:
    """One family against one model."""

    attacks: Share
    lookalikes: Share
    left_out: int  # attacks that do not fit into the context
    corrected: Mean | None = None  # the rate of attacks, by a judge whose errors are known

    def as_dict(self) -> dict[str, Any]:
        return {
            "attacks": self.attacks.as_dict(),
            "lookalikes": self.lookalikes.as_dict(),
            "left_out": self.left_out,
            "corrected": self.corrected.as_dict() if self.corrected else None,
        }


def share_of(records: Sequence[Record]) -> Share:
    """The share that failed with its 95 % interval, samples of one request taken together.

    Where nothing failed `high` is the exact one-sided bound on as many trials as there are requests; elsewhere the
    interval is Wilson's on the effective number of samples.
    """
    verdicts = [record.verdict.failed for record in records]
    requests = _requests(records)
    failed, undecided = sum(v is True for v in verdicts), sum(v is None for v in verdicts)
    different = len(set(requests))
    if not records:
        return Share(0, 0, 0, 0, 0.0, 1.0)
    if not failed and not undecided:
        return Share(0, 0, len(records), different, 0.0, zero_bound(different))
    least = [float(verdict is True) for verdict in verdicts]
    most = [float(verdict is not False) for verdict in verdicts]
    low, high = clustered_wilson(least, requests).low, clustered_wilson(most, requests).high
    return Share(failed, undecided, len(records), different, low, high)


def by_family(records: Sequence[Record], errors: Errors | None = None) -> dict[str, Family]:
    """Every family that there are records of, and all of them together."""
    names = dict.fromkeys(record.attack.method.family for record in records)
    found = {name: _family([r for r in records if r.attack.method.family == name], errors) for name in names}
    return found | ({ALL: _family(records, errors)} if len(found) > 1 else {})


def _family(records: Sequence[Record], errors: Errors | None) -> Family:
    asked = [record for record in records if record.answers]
    attacks = [record for record in asked if not record.attack.request.harmless]
    return Family(
        share_of(attacks),
        share_of([record for record in asked if record.attack.request.harmless]),
        len(records) - len(asked),
        _corrected(attacks, errors) if errors else None,
    )


def _corrected(attacks: Sequence[Record], errors: Errors) -> Mean | None:
    """The rate with the judge's part of it corrected; what was decided otherwise counts as it is."""
    decided = [record for record in attacks if record.verdict.by]
    judged = [record.verdict.by == "judge" for record in decided]
    failed = [record.verdict.failed is True for record in decided]
    part = corrected([said for said, by_judge in zip(failed, judged, strict=True) if by_judge], errors)
    if part is None:
        return None
    values = [
        behind(said, errors) if by_judge else float(said)
        for said, by_judge in zip(failed, judged, strict=True)
    ]
    sampled, share = mean_of(values, _requests(decided)), part.n / len(decided)
    settled = sum(said for said, by_judge in zip(failed, judged, strict=True) if not by_judge)
    mean = share * part.mean + settled / len(decided)
    return Mean(
        mean, math.hypot(sampled.se, share * judge_error(part.mean, errors)), sampled.n, sampled.clusters
    )


def changes(before: Sequence[Record], after: Sequence[Record]) -> dict[str, Mean]:
    """By family, the rate of successful attacks on one model less that on another, paired by request.

    Families with open verdicts are left out: what they hide may be the difference.
    """
    old, new = _attacks_by_family(before), _attacks_by_family(after)
    shared = [name for name in new if name in old]
    return {
        name: gap(_failed(new[name]), _failed(old[name]), _requests(new[name]), _requests(old[name]))
        for name in shared
        if all(record.verdict.failed is not None for record in (*old[name], *new[name]))
    }


def _attacks_by_family(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Attacks that were answered, and none on look-alikes; all of them together last."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.answers and not record.attack.request.harmless:
            found.setdefault(record.attack.method.family, []).append(record)
    return (
        found | {ALL: [record for family in found.values() for record in family]} if len(found) > 1 else found
    )


def _failed(records: Sequence[Record]) -> list[float]:
    return [float(record.verdict.failed is True) for record in records]


def _requests(records: Sequence[Record]) -> list[str]:
    return [record.attack.request.id for record in records]
