"""Rows into micro-batches: nothing lost, nothing doubled, nothing over the budget."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice

import pytest
import torch

from concordant.data.batches import Example, MicroBatch, Pair, Row, collate, count, epochs, micro_batches
from concordant.errors import UserError
from tinies import random_rows

PAD = 0
BUDGETS = (1, 20, 60, 200, 100_000)


def mixed_examples(seed: int) -> list[Example]:
    """Single rows, pairs and rankings with all their comparisons, in mixed order."""
    rng = random.Random(seed)
    examples = []
    for number in range(12):
        k = rng.choice((1, 2, 4))
        rows = tuple(random_rows(k, seed * 100 + number, masked=rng.random() < 0.5))
        pairs = tuple(
            Pair(i, j, p_chosen=rng.randrange(9) / 8, weight=rng.randrange(9) / 8)
            for i in range(k)
            for j in range(i + 1, k)
        )
        examples.append(Example(rows, pairs))
    return examples


def row_of(batch: MicroBatch, b: int) -> Row:
    """A row of a micro-batch, read back from its tensors."""
    kept, tokens = batch.attention_BT[b], batch.ids_BT[b]
    prompt = tokens[: batch.start][kept[: batch.start]]
    completion = tokens[batch.start :][kept[batch.start :]]
    mask = batch.loss_mask_BC[b]
    assert not mask[len(completion) :].any(), "padding never counts"
    return Row(*(tuple(t.tolist()) for t in (prompt, completion, mask[: len(completion)])))


def with_mask(row: Row) -> Row:
    return Row(row.prompt, row.completion, row.loss_mask or (True,) * len(row.completion))


@pytest.mark.parametrize("tokens", BUDGETS)
@pytest.mark.parametrize("seed", range(3))
def test_every_row_stands_exactly_once_and_index_says_which(tokens: int, seed: int) -> None:
    examples = mixed_examples(seed)
    rows = [row for example in examples for row in example.rows]
    seen = []
    for batch in micro_batches(examples, tokens, PAD):
        for b, index in enumerate(batch.index_B.tolist()):
            assert row_of(batch, b) == with_mask(rows[index])
            assert batch.last_B[b] == batch.start + len(rows[index].completion) - 1
            seen.append(index)
    assert sorted(seen) == list(range(len(rows)))


@pytest.mark.parametrize("tokens", BUDGETS)
@pytest.mark.parametrize("seed", range(3))
def test_comparisons_follow_their_rows(tokens: int, seed: int) -> None:
    examples = mixed_examples(seed)
    expected, first = set(), 0
    for example in examples:
        expected |= {(first + p.chosen, first + p.rejected, p.p_chosen, p.weight) for p in example.pairs}
        first += len(example.rows)
    found = []
    for batch in micro_batches(examples, tokens, PAD):
        columns = (batch.index_B[batch.chosen_M], batch.index_B[batch.rejected_M])
        values = (batch.p_chosen_M, batch.weight_M)
        found += zip(*(t.tolist() for t in (*columns, *values)), strict=True)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("tokens", BUDGETS)
def test_the_budget_counts_padding_and_only_a_lone_example_may_exceed_it(tokens: int) -> None:
    for seed in range(5):
        examples = mixed_examples(seed)
        owner = [number for number, example in enumerate(examples) for _ in example.rows]
        for batch in micro_batches(examples, tokens, PAD):
            inside = {owner[i] for i in batch.index_B.tolist()}
            assert batch.ids_BT.numel() <= tokens or len(inside) == 1
            assert batch.attended <= batch.ids_BT.numel()


def test_packed_the_budget_counts_tokens_alone() -> None:
    examples = mixed_examples(0)
    filled = sum(row.length for example in examples for row in example.rows)
    assert len(list(micro_batches(examples, filled, PAD, packed=True))) == 1
    assert len(list(micro_batches(examples, filled - 1, PAD, packed=True))) == 2
    batches = list(micro_batches(examples, 60, PAD, packed=True))
    assert all(batch.packed for batch in batches)
    assert sum(batch.attended for batch in batches) == filled
    assert len(batches) < len(list(micro_batches(examples, 60, PAD)))


def test_a_large_budget_is_one_pass_and_a_small_one_is_filled() -> None:
    examples = mixed_examples(0)
    assert len(list(micro_batches(examples, 100_000, PAD))) == 1
    equal = [Example((Row((5, 6), (7, 8)),)) for _ in range(10)]
    sizes = [len(batch.index_B) for batch in micro_batches(equal, 12, PAD)]
    assert sizes == [3, 3, 3, 1]  # three rows of four columns fill twelve tokens exactly


def test_examples_are_sorted_by_length() -> None:
    examples = [Example((row,)) for row in random_rows(40)]
    lengths = [
        examples[i].length for batch in micro_batches(examples, 60, PAD) for i in batch.index_B.tolist()
    ]
    assert lengths == sorted(lengths, reverse=True)


def test_completions_start_in_one_column_with_padding_on_both_sides() -> None:
    rows = [Row((5,), (6, 7, 8), (), (-1.0, -2.0, -3.0)), Row((9, 10, 11), (12,), (False,))]
    assert collate(rows, PAD).ref_logprobs_BC is None, "zeros would look like log-probabilities"
    rows[1] = replace(rows[1], ref_logprobs=(-4.0,))
    padded = collate(rows, PAD)
    assert padded.start == 3
    assert padded.ids_BT.tolist() == [[0, 0, 5, 6, 7, 8], [9, 10, 11, 12, 0, 0]]
    assert padded.attention_BT.tolist() == [[False, False, True, True, True, True], [True] * 4 + [False] * 2]
    assert padded.loss_mask_BC.tolist() == [[True] * 3, [False] * 3]
    assert padded.ref_logprobs_BC is not None
    assert padded.ref_logprobs_BC.tolist() == [[-1.0, -2.0, -3.0], [-4.0, 0.0, 0.0]]
    assert padded.last_B.tolist() == [5, 3]
    for wrong in ({"loss_mask": (True,)}, {"ref_logprobs": (-1.0,)}):
        with pytest.raises(ValueError, match="one entry per completion token"):
            Row((5,), (6, 7, 8), **wrong)


def test_masks_come_from_positions_where_pad_equals_end_of_sequence() -> None:
    """eos_trained_when_pad_is_eos: https://github.com/huggingface/trl/issues/1623"""
    eos = 2
    padded = collate([Row((eos, 5), (6, eos)), Row((5,), (6, 7, eos))], eos)
    assert padded.loss_mask_BC.tolist() == [[True, True, False], [True, True, True]]
    assert padded.attention_BT.sum(1).tolist() == [4, 4]
    assert padded.last_B.tolist() == [3, 4]


def test_denominators_are_counted_over_all_examples() -> None:
    rows = (Row((5,), (6, 7, 8), (True, False, True)), Row((5,), (6,)))
    counts = count([Example(rows, (Pair(0, 1, weight=0.25),)), Example(rows[:1])])
    assert (counts.tokens, counts.sequences, counts.pairs) == (5, 3, 0.25)


@pytest.mark.parametrize(
    ("prompt", "completion", "mask"), [((), (1,), ()), ((1,), (), ()), ((1,), (2, 3), (True,))]
)
def test_rows_that_make_no_sense_are_refused(prompt: tuple, completion: tuple, mask: tuple) -> None:
    with pytest.raises(ValueError, match="row"):
        Row(prompt, completion, mask)


def test_a_soft_label_and_a_margin_together_are_refused() -> None:
    with pytest.raises(UserError, match="margin"):
        Pair(0, 1, p_chosen=0.8, margin=1.0)


def test_a_batch_moves_as_a_whole() -> None:
    batch = next(micro_batches(mixed_examples(0), 1000, PAD))
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    devices = {getattr(moved, name).device.type for name in MicroBatch.__slots__ if name != "start"}
    assert devices == {"meta"}
    assert moved.start == batch.start


@pytest.mark.parametrize(("n", "batch"), [(12, 4), (10, 4), (7, 1), (3, 8), (1, 1)])
def test_every_row_comes_once_per_epoch(n: int, batch: int) -> None:
    rounds = 5
    steps = -(-rounds * n // batch)
    drawn = [i for rows in epochs(n, batch, steps, 3) for i in rows]
    assert len(drawn) == steps * batch
    for epoch in range(rounds):
        assert sorted(drawn[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_batch_k_is_a_function_of_seed_and_k() -> None:
    full = list(epochs(10, 3, 20, 5))
    assert list(epochs(10, 3, 8, 5)) == full[:8], "the number of steps changes nothing"
    assert list(islice(epochs(10, 3, 20, 5), 8, None)) == full[8:]
    assert list(epochs(10, 3, 20, 6)) != full
    assert full[:3] != full[10:13], "epochs are shuffled differently"


def test_any_seed_will_do() -> None:
    for seed in (0, 2**31 - 1, 987_654_321 * 1_000_003, 2**63):
        assert sorted(next(epochs(5, 5, 1, seed))) == [0, 1, 2, 3, 4]


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        next(epochs(0, 4, 1, 0))
