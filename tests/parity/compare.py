"""Loss and gradient of the same tokens under the same weights, ours beside theirs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from concordant.data.batches import Example, Pair, Row, count, micro_batches
from concordant.train.learner import Objective
from tinies import PAD, ids

Makes = Callable[..., Any]  # the same model every time
LOSS, GRADIENT = 1e-6, 1e-5  # largest relative differences in fp32 on a CPU
BUDGET = 90  # columns times rows of one of our micro-batches: a batch is cut into several


@dataclass(frozen=True)
class Side:
    """What one implementation says."""

    loss: float
    gradient: Tensor

    def __add__(self, other: Side) -> Side:
        return Side(self.loss + other.loss, self.gradient + other.gradient)

    def __mul__(self, factor: float) -> Side:
        return Side(self.loss * factor, self.gradient * factor)


@dataclass(frozen=True)
class Difference:
    """One row of the table."""

    objective: str
    ours: float
    theirs: float
    loss: float  # |ours - theirs| / |theirs|
    gradient: float  # norm of the difference / norm of theirs

    @classmethod
    def between(cls, objective: str, ours: Side, theirs: Side) -> Difference:
        loss = abs(ours.loss - theirs.loss) / abs(theirs.loss)
        gradient = (ours.gradient - theirs.gradient).norm() / theirs.gradient.norm()
        return cls(objective, ours.loss, theirs.loss, loss, float(gradient))

    @property
    def within(self) -> bool:
        """Equal up to rounding."""
        return self.loss <= LOSS and self.gradient <= GRADIENT


@dataclass
class Table:
    """What the tests of a session have found."""

    equal: list[Difference] = field(default_factory=list)
    apart: list[Difference] = field(default_factory=list)

    def same(self, objective: str, ours: Side, theirs: Side) -> None:
        """Write down and insist that both agree."""
        found = Difference.between(objective, ours, theirs)
        self.equal.append(found)
        assert found.within, found

    def deviates(self, objective: str, ours: Side, theirs: Side) -> None:
        """Write down how far a deliberate deviation leads, and insist that it still is one, far above rounding."""
        found = Difference.between(objective, ours, theirs)
        self.apart.append(found)
        assert found.loss > 100 * LOSS or found.gradient > 100 * GRADIENT, f"no deviation any more: {found}"


def moved(model: Any, seed: int = 9, size: float = 0.02) -> Any:
    """The model with noise on its weights, as if it had learnt something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return model


def gradient_of(parameters: Iterable[Tensor]) -> Tensor:
    """The gradients of these parameters as one vector; they are cleared."""
    parts = []
    for parameter in parameters:
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parts.append(gradient.detach().flatten().clone())
        parameter.grad = None
    return torch.cat(parts)


def side(loss: Tensor, *modules: Any) -> Side:
    """A loss and its gradient by all parameters of some modules."""
    loss.backward()
    return Side(float(loss.detach()), gradient_of(p for module in modules for p in module.parameters()))


def ours(
    objective: Objective, examples: Sequence[Example], *modules: Any, tokens: int | None = BUDGET
) -> Side:
    """Our objective over micro-batches of `tokens`, or over one, with the denominators of the whole batch."""
    counts, total = count(examples), 0.0
    for batch in micro_batches(examples, tokens or 10_000, PAD):
        loss, _ = objective(batch, counts)
        loss.backward()
        total += float(loss.detach())
    return Side(total, gradient_of(p for module in modules for p in module.parameters()))


def random_pairs(n: int, seed: int = 0, *, prompt: int = 7, length: int | None = None) -> list[Example]:
    """Pairs of completions with prompts of up to `prompt` tokens; all completions of one `length` where given."""
    rng = random.Random(seed)
    examples = []
    for _ in range(n):
        asked = ids(rng, 1, prompt)
        rows = tuple(Row(asked, ids(rng, length or 1, length or 9)) for _ in range(2))
        examples.append(Example(rows, (Pair(0, 1),)))
    return examples
