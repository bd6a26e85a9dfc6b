"""Token rows, and how they are padded, sorted by length and cut to a token budget.

Nothing outside this file and the learner knows about padding. A row stands in a batch as

    [ pad ... prompt | completion ... pad ]
                     ^ start

so that all completions begin in the same column: a forward pass computes the vocabulary
logits for the completion columns only. A batch may be marked as packed: it goes through the model without its
padding (`models.forward`), and stands padded before and after.

Legend: B rows, T all columns, C completion columns, M pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from concordant.data.types import check_strength
from concordant.seeds import derive


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of tokens: a prompt and what follows it."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    loss_mask: tuple[bool, ...] = ()  # over the completion, True = counts; empty = all of it
    ref_logprobs: tuple[float, ...] = ()  # of the reference, over the completion; empty = not computed

    def __post_init__(self) -> None:
        if not self.prompt or not self.completion:
            raise ValueError("a row needs at least one prompt token and one completion token")
        for name in ("loss_mask", "ref_logprobs"):
            given = getattr(self, name)
            if given and len(given) != len(self.completion):
                raise ValueError(f"{name} of a row needs one entry per completion token")

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.completion)

    @property
    def counted(self) -> int:
        """How many of its tokens count in a loss."""
        return sum(self.loss_mask) if self.loss_mask else len(self.completion)


@dataclass(frozen=True, slots=True)
class Pair:
    """Row `chosen` of an example is preferred to row `rejected` with probability `p_chosen`."""

    chosen: int
    rejected: int
    p_chosen: float = 1.0
    weight: float = 1.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        check_strength(self.p_chosen, self.margin, "a pair of a batch")


@dataclass(frozen=True, slots=True)
class Example:
    """The unit that is never split over micro-batches: one row, or the rows compared with each other."""

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...] = ()
    desirable: bool | None = None  # a verdict on the one row there is, where it was judged by itself
    weight: float = 1.0  # of that verdict
    mismatched: Row | None = None  # the prompt with a completion of another prompt; see `objectives.kto`

    @property
    def length(self) -> int:
        """Columns the longest prompt and the longest completion take side by side."""
        return max(len(r.prompt) for r in self.rows) + max(len(r.completion) for r in self.rows)


@dataclass(frozen=True, slots=True)
class Counts:
    """Denominators of one optimiser batch, counted over all of its micro-batches (and processes)."""

    tokens: float
    sequences: float
    pairs: float  # sum of their weights
    wanted_tokens: float = (
        0.0  # of the better side of each pair, as far as it is the better one, times its weight
    )
    desirable: float = 0.0  # weight of the rows judged good by themselves
    row_weight: float = 0.0  # weight of all rows judged by themselves


def count(examples: Iterable[Example]) -> Counts:
    """Count what the losses of one optimiser batch are divided by."""
    tokens = sequences = 0
    weight = wanted_tokens = row_weight = desirable = 0.0
    for example in examples:
        sequences += len(example.rows)
        tokens += sum(row.counted for row in example.rows)
        desirable += example.weight * (example.desirable is True)
        weight += sum(pair.weight for pair in example.pairs)
        row_weight += example.weight * (example.desirable is not None)
        for pair in example.pairs:
            chosen, rejected = example.rows[pair.chosen].counted, example.rows[pair.rejected].counted
            wanted_tokens += pair.weight * (pair.p_chosen * chosen + (1 - pair.p_chosen) * rejected)
    return Counts(tokens, sequences, weight, wanted_tokens, desirable, row_weight)


@dataclass(frozen=True, slots=True)
class Padded:
    """Rows padded around the common start of their completions."""

    ids_BT: Tensor
    attention_BT: Tensor
    start: int  # first completion column
    loss_mask_BC: Tensor
    ref_logprobs_BC: Tensor | None  # None where they were not computed for every row
    last_B: Tensor  # column of the last completion token
    packed: bool = False  # goes through the model without its padding


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch(Padded):
    """The tensors of one forward pass."""

    index_B: Tensor  # which row of the optimiser batch, rows counted through its examples
    chosen_M: Tensor  # rows of this micro-batch
    rejected_M: Tensor
    p_chosen_M: Tensor
    weight_M: Tensor
    margin_M: Tensor
    desirable_B: Tensor  # verdicts on rows judged by themselves; False where there is none
    row_weight_B: Tensor  # of those verdicts; 0 where there is none

    @property
    def completion_BC(self) -> Tensor:
        return self.ids_BT[:, self.start :]

    @property
    def attended(self) -> int:
        """Tokens that are not padding."""
        return int(self.attention_BT.sum())

    def to(self, device: torch.device) -> MicroBatch:
        if device.type == "cpu":
            return self
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            name: tensor.to(device, non_blocking=True)
            for name, tensor in tensors.items()
            if isinstance(tensor, Tensor)
        }
        return replace(self, **moved)


def collate(rows: Sequence[Row], pad_id: int, *, packed: bool = False) -> Padded:
    """Pad rows around their common completion start."""
    start = max(len(row.prompt) for row in rows)
    width = max(len(row.completion) for row in rows)
    ids = torch.full((len(rows), start + width), pad_id)
    attention = torch.zeros((len(rows), start + width), dtype=torch.bool)
    loss_mask = torch.zeros((len(rows), width), dtype=torch.bool)
    known = all(row.ref_logprobs for row in rows)
    ref_logprobs = torch.zeros((len(rows), width))
    for b, row in enumerate(rows):
        first, end = start - len(row.prompt), start + len(row.completion)
        ids[b, first:end] = torch.tensor(row.prompt + row.completion)
        attention[b, first:end] = True
        mask = torch.tensor(row.loss_mask) if row.loss_mask else True
        loss_mask[b, : len(row.completion)] = mask
        ref_logprobs[b, : len(row.ref_logprobs)] = torch.tensor(row.ref_logprobs)
    last = torch.tensor([start + len(row.completion) - 1 for row in rows])
    return Padded(ids, attention, start, loss_mask, ref_logprobs if known else None, last, packed)


def _micro_batch(numbered: Sequence[tuple[int, Example]], pad_id: int, *, packed: bool) -> MicroBatch:
    """Collate examples given with the number of their first row."""
    rows: list[Row] = []
    index: list[int] = []
    pairs: list[tuple[int, int, float, float, float]] = []
    verdicts: list[tuple[bool, float]] = []
    for first, example in numbered:
        offset = len(rows)
        rows += example.rows
        judged = example.desirable is not None
        verdicts += [(bool(example.desirable), example.weight * judged)] * len(example.rows)
        index += range(first, first + len(example.rows))
        pairs += [
            (offset + c.chosen, offset + c.rejected, c.p_chosen, c.weight, c.margin) for c in example.pairs
        ]
    chosen, rejected, p, weight, margin = zip(*pairs, strict=True) if pairs else ((),) * 5
    desirable, row_weight = zip(*verdicts, strict=True)
    padded = collate(rows, pad_id, packed=packed)
    return MicroBatch(
        **{f.name: getattr(padded, f.name) for f in fields(padded)},
        index_B=torch.tensor(index),
        chosen_M=torch.tensor(chosen, dtype=torch.long),
        rejected_M=torch.tensor(rejected, dtype=torch.long),
        p_chosen_M=torch.tensor(p, dtype=torch.float32),
        weight_M=torch.tensor(weight, dtype=torch.float32),
        margin_M=torch.tensor(margin, dtype=torch.float32),
        desirable_B=torch.tensor(desirable),
        row_weight_B=torch.tensor(row_weight, dtype=torch.float32),
    )


def micro_batches(
    examples: Sequence[Example], tokens: int, pad_id: int, *, packed: bool = False
) -> Iterator[MicroBatch]:
    """Cut an optimiser batch into forward passes of at most `tokens` columns times rows, padding included.

    Packed, they are passes of at most `tokens` tokens.

    Examples are sorted by length, so that a long one costs padding only to its neighbours. An
    example longer than the budget gets a micro-batch of its own. Losses do not depend on the
    split because their denominators are counted over the whole batch (`count`).
    """
    firsts, total = [], 0
    for example in examples:
        firsts.append(total)
        total += len(example.rows)
    order = sorted(range(len(examples)), key=lambda i: (examples[i].length, i), reverse=True)
    part: list[tuple[int, Example]] = []
    size = Size()
    for i in order:
        grown = size.with_rows(examples[i].rows)
        if part and grown.tokens(packed) > tokens:
            yield _micro_batch(part, pad_id, packed=packed)
            part, grown = [], Size().with_rows(examples[i].rows)
        part.append((firsts[i], examples[i]))
        size = grown
    if part:
        yield _micro_batch(part, pad_id, packed=packed)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a batch is: its rows, its longest prompt and completion, and its tokens without padding."""

    rows: int = 0
    prompt: int = 0
    completion: int = 0
    filled: int = 0

    def with_rows(self, rows: Sequence[Row]) -> Size:
        return Size(
            self.rows + len(rows),
            max(self.prompt, *(len(row.prompt) for row in rows)),
            max(self.completion, *(len(row.completion) for row in rows)),
            self.filled + sum(row.length for row in rows),
        )

    def tokens(self, packed: bool) -> int:
        """Tokens of a forward pass over it."""
        return self.filled if packed else self.rows * (self.prompt + self.completion)


def epochs(n: int, batch: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Yield `steps` batches of row numbers, reshuffled every epoch by (seed, epoch) alone.

    The k-th batch is a function of the arguments, so a resumed run needs no cursor but k. The last
    batch of an epoch is filled up from the next one: no row is left out and no batch is short.
    """
    if n == 0:
        raise ValueError("no rows to draw batches from")
    pending: list[int] = []
    epoch = 0
    for _ in range(steps):
        while len(pending) < batch:
            generator = torch.Generator().manual_seed(derive(seed, epoch))
            pending += torch.randperm(n, generator=generator).tolist()
            epoch += 1
        yield pending[:batch]
        pending = pending[batch:]
