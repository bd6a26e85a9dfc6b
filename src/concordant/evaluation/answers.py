"""One record per answer: every figure about a model is computed from these, and can be again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from concordant.core.kl import k1
from concordant.core.logprobs import token_logprobs
from concordant.data.batches import MicroBatch
from concordant.data.types import Prompt
from concordant.evaluation.figures import PARTS
from concordant.evaluation.intervals import Mean, gap, mean_of, wilson
from concordant.evaluation.text_metrics import distinct_n, duplicate_bigrams
from concordant.models.forward import completion_logits
from concordant.models.hardware import Machine
from concordant.models.memory import Budget
from concordant.rollout.rollout import Rollout
from concordant.train.passes import in_passes


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
    kl: float  # sum over tokens of log pi - log reference, in nats
    score: float | None  # of the reward model
    gold: GoldParts | None

    @property
    def refused(self) -> bool | None:
        """Whether it declines to do what is asked; None where nobody knows."""
        return None if self.gold is None else self.gold.flags.get("act") == "refuse"

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
            "kl": self.kl,
            "score": self.score,
            "gold": gold,
        }


@torch.inference_mode()
def kl_to_reference(
    reference: Any, rollout: Rollout, *, pad_id: int, tokens: Budget, machine: Machine
) -> list[float]:
    """k1 of each completion, summed over its tokens: log-probability when sampled less that of the reference."""
    kl = torch.zeros(len(rollout.samples))
    examples = [sample.example for sample in rollout.samples]

    def read(batch: MicroBatch) -> None:
        logits, _ = completion_logits(reference, batch)
        ref_logprobs = token_logprobs(logits, batch.completion_BC, rollout.temperature).cpu()
        rows = batch.index_B.cpu()
        logprobs = _padded([rollout.samples[i].logprobs for i in rows.tolist()], ref_logprobs.shape)
        drift = torch.where(batch.loss_mask_BC.cpu(), k1(logprobs, ref_logprobs), torch.zeros(()))
        kl[rows] = drift.sum(1)

    in_passes(examples, read, tokens=tokens, pad_id=pad_id, machine=machine)
    values: list[float] = kl.tolist()
    return values


def _padded(rows: Sequence[Sequence[float]], shape: torch.Size) -> Tensor:
    padded = torch.zeros(shape)
    for b, row in enumerate(rows):
        padded[b, : len(row)] = torch.tensor(row)
    return padded


def describe(answers: Sequence[Answer]) -> dict[str, Any]:
    """The figures of one model on one set of prompts; gold and score where they are known.

    Errors are clustered by draw. A world's prompts are drawn independently, so the same question
    drawn twice is two draws; several completions of one draw would be one.
    """
    draws = [answer.draw for answer in answers]

    def mean(value: Callable[[Answer], float]) -> dict[str, Any]:
        return mean_of([value(answer) for answer in answers], draws).as_dict()

    figures = {
        "kl": mean(lambda a: a.kl),
        "length": mean(lambda a: a.length),
        "eos_rate": wilson(sum(a.ended for a in answers), len(answers)).as_dict(),
        "duplicate_bigrams": duplicate_bigrams([a.text for a in answers]).as_dict(),
        "distinct": {str(n): distinct_n([a.text for a in answers], n) for n in (1, 2)},
    }
    if all(answer.score is not None for answer in answers):
        figures["score"] = mean(lambda a: a.score or 0.0)
    if all(answer.gold is not None for answer in answers):
        figures["gold"] = gold_mean(answers).as_dict()
        figures["gold_parts"] = {
            part: mean_of([getattr(a.gold, part) for a in answers], draws).as_dict() for part in PARTS
        }
        figures["gold_by_family"] = {
            family: gold_mean(some).as_dict() for family, some in by_family(answers).items()
        }
        figures["refusals_by_family"] = {
            family: wilson(sum(bool(a.refused) for a in some), len(some)).as_dict()
            for family, some in by_family(answers).items()
        }
    return figures


def by_family(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """The answers to the prompts of each family, families sorted."""
    families: dict[str, list[Answer]] = {}
    for answer in sorted(answers, key=lambda one: one.prompt.family):
        families.setdefault(answer.prompt.family, []).append(answer)
    return families


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
