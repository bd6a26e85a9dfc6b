"""Log-probabilities of the reference, computed once for all rows and kept in the stage's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from concordant.data.batches import Example, MicroBatch, Row
from concordant.files import settle
from concordant.models.load import Reference
from concordant.models.memory import Budget
from concordant.pipeline.context import Context, Totals
from concordant.train.checkpoint import Checkpoint, DamagedCheckpoint, load_checkpoint, save_checkpoint
from concordant.train.objectives.direct import completion_logprobs
from concordant.train.passes import in_passes

FOLDER = "reference"


def with_reference(
    context: Context, reference: Reference, examples: Sequence[Example], tokens: int
) -> list[Example]:
    """The examples with the reference's log-probabilities in all their rows.

    They are taken from the stage's folder where they were computed for these tokens before: the stage is keyed
    by its model already, so the tokens are all that can differ.
    """
    rows = list(_rows(examples))
    folder = context.folder.path / FOLDER
    settle(folder)
    key = _key(rows)
    try:
        known = load_checkpoint(folder)
    except DamagedCheckpoint as damage:
        context.reporter.say(f"  {folder} is damaged ({damage}) and made again")
        known = None
    if known is None or known.facts.get("key") != key:
        logprobs = _logprobs(context, reference, rows, tokens)
        known = Checkpoint({"logprobs": logprobs}, {"key": key, **context.totals.facts()})
        save_checkpoint(folder, known)
    else:
        context.totals = Totals.of(known.facts)  # a checkpoint of the stage, where there is one, knows more
    flat = known.tensors["logprobs"].tolist()
    found = _with_logprobs(rows, flat)
    return [
        replace(
            example,
            rows=tuple(next(found) for _ in example.rows),
            mismatched=None if example.mismatched is None else next(found),
        )
        for example in examples
    ]


def _rows(examples: Sequence[Example]) -> Iterator[Row]:
    """All rows of the examples, in the order in which they are put back."""
    for example in examples:
        yield from example.rows
        if example.mismatched is not None:
            yield example.mismatched


def _with_logprobs(rows: Sequence[Row], flat: Sequence[float]) -> Iterator[Row]:
    begin = 0
    for row in rows:
        end = begin + len(row.completion)
        yield replace(row, ref_logprobs=tuple(flat[begin:end]))
        begin = end


def _key(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr((row.prompt, row.completion)).encode())
    return digest.hexdigest()


@torch.inference_mode()
def _logprobs(context: Context, reference: Reference, rows: Sequence[Row], tokens: int) -> torch.Tensor:
    """Log-probabilities of all completion tokens, those of one row after the other, in one flat tensor."""
    found = [torch.zeros(len(row.completion)) for row in rows]
    single = [Example((row,)) for row in rows]
    title = "reference"
    done: set[int] = set()
    with (
        context.timed("reference") as timer,
        context.reporter.activity(title, len(rows), "rows") as progress,
        reference.active(),
    ):

        def read(batch: MicroBatch) -> None:
            logprobs = completion_logprobs(reference.model, batch).float().cpu()
            for at, index in enumerate(batch.index_B.tolist()):
                found[index] = logprobs[at, : len(found[index])]
                done.add(index)
            progress.to(len(done))
            context.stop.check()

        budget = Budget(tokens, "tokens", context.reporter.say)
        in_passes(single, read, tokens=budget, pad_id=context.template.pad_id, machine=context.machine)
        timer.tokens = sum(row.length for row in rows)
    return torch.cat(found)
