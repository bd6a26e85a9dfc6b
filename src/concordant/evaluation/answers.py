"""One record per answer: every figure about a model is computed from these, and can be again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

from concordant.data.types import Prompt, messages_from
from concordant.evaluation.figures import PARTS
from concordant.evaluation.intervals import Mean, gap, mean_of

REPEATED = "repeated"  # the split of the few prompts that are answered many times
IDEAL = "ideal"  # in place of a model: the best answers that a world knows


class GoldParts(Protocol):
    """An exact reward by its parts; see `worlds.world.Gold`."""

    @property
    def total(self) -> float: ...
    @property
    def helpful(self) -> float: ...
    @property
    def honest(self) -> float: ...
    @property
    def harmless(self) -> float: ...
    @property
    def concise(self) -> float: ...
    @property
    def flags(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class KnownGold:
    """A gold reward as a row has it."""

    total: float
    helpful: float
    honest: float
    harmless: float
    concise: float
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drift:
    """How probable an answer is: sums over its tokens at the temperature at which it was sampled, in nats."""

    logprob: float  # as it was sampled
    ref_logprob: float  # of the model that training started from
    k3: float  # an estimate of the KL that is never negative; see `core.kl`


@dataclass(frozen=True)
class Answer:
    """What a model said to a prompt, and what is known about it."""

    model: str
    split: str
    draw: int  # which draw of a prompt this answers; answers to one draw are not independent
    prompt: Prompt
    text: str
    length: int  # tokens, end-of-sequence included
    ended: bool
    drift: Drift
    score: float | None  # of the reward model
    gold: GoldParts | None
    failures: Mapping[str, bool] = field(default_factory=dict)  # by behaviour that the prompt provokes
    held_out: float | None = None  # score of a second reward model, which no policy was trained on

    @property
    def kl(self) -> float:
        """The sum over tokens of log pi - log reference, in nats."""
        return self.drift.logprob - self.drift.ref_logprob

    @property
    def refused(self) -> bool | None:
        """Whether it declines to do what is asked; None where nobody knows."""
        return None if self.gold is None else self.gold.flags.get("act") == "refuse"

    @property
    def yields(self) -> bool | None:
        """Whether it grants what the user claims, or gives up when doubted; None where nobody knows."""
        if self.gold is None:
            return None
        return bool(self.gold.flags.get("agrees_with_claim") or self.gold.flags.get("backed_down"))

    def as_row(self) -> dict[str, Any]:
        """For `samples.jsonl`."""
        gold = None
        if self.gold is not None:
            gold = {"total": self.gold.total, **{part: getattr(self.gold, part) for part in PARTS}}
        return {
            "model": self.model,
            "split": self.split,
            "draw": self.draw,
            "prompt_id": self.prompt.id,
            "family": self.prompt.family,
            "prompt": [message.as_dict() for message in self.prompt.messages],
            "text": self.text,
            "length": self.length,
            "ended": self.ended,
            "refused": self.refused,
            "yields": self.yields,
            "logprob": self.drift.logprob,
            "ref_logprob": self.drift.ref_logprob,
            "k3": self.drift.k3,
            "kl": self.kl,
            "score": self.score,
            "held_out": self.held_out,
            "gold": gold,
            "failures": dict(self.failures),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Answer:
        """The inverse of `as_row`, as far as figures go: of what gold saw, refusing and yielding are kept."""
        gold = None
        if row["gold"] is not None:
            flags = {"act": "refuse" if row["refused"] else "", "agrees_with_claim": row["yields"]}
            gold = KnownGold(**row["gold"], flags=flags)
        return cls(
            row["model"],
            row["split"],
            row["draw"],
            Prompt(messages_from(row["prompt"]), family=row["family"]),
            row["text"],
            row["length"],
            row["ended"],
            Drift(row["logprob"], row["ref_logprob"], row["k3"]),
            row["score"],
            gold,
            row["failures"],
            row["held_out"],
        )


def by_family(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """The answers to the prompts of each family, families sorted."""
    families: dict[str, list[Answer]] = {}
    for answer in sorted(answers, key=lambda one: one.prompt.family):
        families.setdefault(answer.prompt.family, []).append(answer)
    return families


def by_behavior(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """The answers to the prompts that provoke each behaviour, names sorted."""
    found: dict[str, list[Answer]] = {}
    for answer in answers:
        for name in answer.failures:
            found.setdefault(name, []).append(answer)
    return dict(sorted(found.items()))


def gold_mean(answers: Sequence[Answer]) -> Mean:
    """Mean gold with its standard error, clustered by draw."""
    return mean_of([_total(a) for a in answers], [a.draw for a in answers])


def gold_gap(better: Sequence[Answer], worse: Sequence[Answer]) -> Mean:
    """Mean gold of one model less that of another, paired by draw: both answered the same list of prompts."""
    return gap(
        [_total(a) for a in better],
        [_total(a) for a in worse],
        [a.draw for a in better],
        [a.draw for a in worse],
    )


def gold_gaps(answers: Mapping[str, Sequence[Answer]]) -> dict[str, Mean]:
    """Differences in gold between consecutive models, which are given by name; none where gold is not known."""
    return {
        f"{after}_minus_{before}": gold_gap(answers[after], answers[before])
        for before, after in pairwise(answers)
        if answers[after][0].gold is not None
    }


def differences(groups: Iterable[Sequence[Answer]]) -> Iterator[tuple[float, float]]:
    """Score and gold of one answer less those of another to the same prompt.

    No two pairs share an answer, so they are nearly independent.
    """
    for group in groups:
        for one, other in zip(group[::2], group[1::2], strict=True):
            yield (one.score or 0.0) - (other.score or 0.0), _total(one) - _total(other)


def _total(answer: Answer) -> float:
    assert answer.gold is not None
    return answer.gold.total
