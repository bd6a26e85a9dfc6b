"""How probable text is: against one plain forward pass, however it is cut and batched."""

from __future__ import annotations

import math
import random

import pytest
import torch

from concordant.data.batches import Row
from concordant.evaluation.likelihood import likelihoods, windows
from concordant.evaluation.perplexity import Read, perplexity, text_changes
from concordant.models.memory import Budget
from tinies import CONTEXT, KINDS, MACHINE, PAD, ids, plain_logprobs, random_rows, tiny_model


def of(model: object, rows: list[Row], tokens: int = 64) -> list[tuple[float, bool]]:
    found = likelihoods(model, rows, tokens=Budget(tokens, "tokens"), pad_id=PAD, machine=MACHINE)
    return [(one.logprob, one.greedy) for one in found]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_say_what_a_plain_pass_says(kind: str) -> None:
    model = tiny_model(kind).eval()
    rows = random_rows(20)
    for row, (logprob, _) in zip(rows, of(model, rows), strict=True):
        assert logprob == pytest.approx(float(plain_logprobs(model, row).sum().detach()), abs=1e-4)


def test_tokens_that_do_not_count_say_nothing() -> None:
    model = tiny_model("llama").eval()
    for row, (logprob, _) in zip(rows := random_rows(8, masked=True), of(model, rows), strict=True):
        each = plain_logprobs(model, row)
        assert logprob == pytest.approx(float(each[torch.tensor(row.loss_mask)].sum().detach()), abs=1e-4)


def test_greedy_is_what_the_model_itself_would_say() -> None:
    model = tiny_model("llama").eval()
    prompt = (7, 8, 9)
    first = int(model(input_ids=torch.tensor([prompt])).logits[0, -1].argmax())
    second = int(model(input_ids=torch.tensor([(*prompt, first)])).logits[0, -1].argmax())
    other = 5 if second != 5 else 6
    rows = [
        Row(prompt, (first, second)),
        Row(prompt, (first, other)),
        Row(prompt, (first, other), (True, False)),
    ]
    assert [greedy for _, greedy in of(model, rows)] == [True, False, True]


@pytest.mark.parametrize("limit", [2, 3, 7, CONTEXT])
@pytest.mark.parametrize("length", [0, 1, 6, 7, 13, 60])
def test_windows_predict_every_token_once_and_fit(limit: int, length: int) -> None:
    text = ids(random.Random(length), length, length)
    rows = list(windows(text, 1, limit))
    assert sum((row.completion for row in rows), ()) == text
    whole, end = (1, *text), 1
    for row in rows:
        end += len(row.completion)
        assert row.prompt + row.completion == whole[end - row.length : end]
        assert row.length == limit or (row.length < limit and len(rows) == 1)


def test_a_window_needs_context() -> None:
    with pytest.raises(ValueError, match="room"):
        next(windows((1, 2), 0, 1))


def test_perplexity_is_over_all_tokens_and_its_change_is_paired_by_document() -> None:
    before = [Read("sft", 0, 2.0, 2, 8), Read("sft", 1, 8.0, 3, 12)]
    after = [Read("policy", 0, 2.4, 2, 8), Read("policy", 1, 8.6, 3, 12)]
    found = perplexity(before)
    assert found["perplexity"] == pytest.approx(math.exp(2.0))
    assert found["bits_per_byte"] == pytest.approx(0.5 / math.log(2))
    assert (found["documents"], found["tokens"], found["bytes"]) == (2, 5, 20)
    assert found["nll_per_token"]["n"] == 2
    (changes,) = text_changes({"sft": before, "policy": after}).values()
    # each document changed by 0.2 nats a token, all but exactly: the interval has next to no width
    assert changes["text.nll_per_token"]["mean"] == pytest.approx(0.2)
    assert changes["text.nll_per_token"]["high"] == pytest.approx(0.2)
    assert changes["text.nll_per_byte"]["mean"] == pytest.approx(0.05)
