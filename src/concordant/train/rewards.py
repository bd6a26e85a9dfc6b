"""Where scores come from. A new source is one class with a `score` method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from concordant.data.batches import Example, MicroBatch, Row
from concordant.data.types import Prompt
from concordant.errors import UserError
from concordant.models.forward import sequence_scores
from concordant.models.hardware import Machine
from concordant.models.memory import Budget
from concordant.rollout.rollout import Rollout
from concordant.train.passes import in_passes


@dataclass(frozen=True)
class Scores:
    """Scores with what is known about them, all (N,) in fp32 on the CPU."""

    values: Tensor
    known: Tensor  # bool; False where the reward has no opinion, and the value means nothing
    parts: Mapping[str, Tensor] = field(default_factory=dict)  # what they were put together from

    @classmethod
    def of(cls, scores: Tensor | Sequence[float] | Scores) -> Scores:
        """Plain numbers: all of them known."""
        if isinstance(scores, Scores):
            return scores
        values = torch.as_tensor(scores, dtype=torch.float32)
        return cls(values, torch.ones_like(values, dtype=torch.bool))


class Reward(Protocol):
    """Anything that judges completions."""

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor | Scores:
        """One score per completion of the rollout, (N,) in fp32 on the CPU; higher is better."""
        ...


def checked(found: Tensor | Scores, prompts: Sequence[Prompt], rollout: Rollout) -> Scores:
    """The scores, after making sure that a reward gave one finite number per completion."""
    n = len(rollout.samples)
    judged = Scores.of(found)
    scores = judged.values
    if scores.shape != (n,):
        raise UserError(
            f"the reward gave scores of shape {tuple(scores.shape)}",
            where="Reward.score",
            expected=f"one score for each of the {n} completions, of shape ({n},)",
            fix="return a tensor of one dimension, in the order of rollout.samples",
        )
    broken = (~torch.isfinite(scores)).nonzero().flatten().tolist()
    if broken:
        raise UserError(
            f"{len(broken)} of {n} scores are not finite; the first is {float(scores[broken[0]])}",
            where=f"the prompt {prompts[rollout.samples[broken[0]].prompt].text[:80]!r}",
            expected="a finite number for every completion",
            fix="mend the reward, or train its model again with a lower learning rate",
        )
    return judged


def flat_groups(rollout: Rollout, scores: Scores) -> list[int]:
    """Numbers of the prompts whose completions all have the same score: nothing can be learnt from them."""
    groups = torch.tensor(rollout.groups)
    flat = []
    for group in torch.unique(groups).tolist():
        members = scores.values[(groups == group) & scores.known]
        if len(torch.unique(members)) <= 1:
            flat.append(group)
    return flat


def zero_variance(rollout: Rollout, scores: Scores) -> dict[str, float]:
    """The share of groups that are flat, as a figure; nothing where each prompt has one completion."""
    groups = len(set(rollout.groups))
    if groups == len(rollout.groups):
        return {}
    return {"rollout/zero_variance": len(flat_groups(rollout, scores)) / groups}


@dataclass
class RewardModel:
    """Scores token ids with a reward model that shares the policy's tokenizer."""

    model: Any
    pad_id: int
    tokens: int  # most tokens in one forward pass
    machine: Machine
    say: Callable[[str], None] | None = None  # hears of memory that gives out

    def __post_init__(self) -> None:
        self.budget = Budget(self.tokens, "tokens", self.say)

    def score(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        """See `Reward`."""
        return self.score_rows([sample.row for sample in rollout.samples])

    @torch.inference_mode()
    def score_rows(self, rows: Sequence[Row]) -> Tensor:
        """One score per row, read at its last token, (N,)."""
        scores = torch.zeros(len(rows))

        def read(batch: MicroBatch) -> None:
            scores[batch.index_B.cpu()] = sequence_scores(self.model, batch).float().cpu()

        examples = [Example((row,)) for row in rows]
        in_passes(examples, read, tokens=self.budget, pad_id=self.pad_id, machine=self.machine)
        return scores


@dataclass(frozen=True, slots=True)
class ScoreNorm:
    """Shift and scale of raw scores, frozen for a whole run."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, scores: Tensor) -> ScoreNorm:
        """Mean and deviation of the scores of the reference's own completions.

        Where they do not vary, as with a rule that it never meets, there is no scale to learn from: it stays 1.
        """
        if not len(scores):
            return cls()
        std = float(scores.std()) if len(scores) > 1 else 0.0
        return cls(float(scores.mean()), std if std > 1e-6 else 1.0)

    def __call__(self, scores: Tensor) -> Tensor:
        return (scores - self.mean) / self.std
