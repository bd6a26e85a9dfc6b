"""How well every model still predicts text that none of them has learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from concordant.data.batches import Example, Row
from concordant.data.types import Demonstration
from concordant.evaluation.likelihood import windows
from concordant.evaluation.perplexity import Read
from concordant.pipeline.context import Context
from concordant.pipeline.parts.demonstrations import demonstration_row
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.measuring.study import Study


@dataclass(frozen=True)
class HeldOut:
    """A document as token ids, and the bytes of what is predicted of it."""

    rows: tuple[Row, ...]
    bytes: int


def held_out(context: Context, model: Any, n: int) -> list[HeldOut]:
    """A world's chats, of which answers count as in pretraining, or the documents that the recipe names."""
    limit, template = context.limit(model), context.template
    documents = context.material.held_out_text(n) if n else ()
    plain = [windows(template.plain_ids(one.text), template.prefix_id, limit) for one in documents]
    return [
        *_chats(context, context.material.held_out_chats(n), limit),
        *(HeldOut(tuple(rows), len(one.text.encode())) for rows, one in zip(plain, documents, strict=True)),
    ]


def _chats(context: Context, chats: Sequence[Demonstration], limit: int) -> list[HeldOut]:
    if not chats:
        return []
    given = [Example((demonstration_row(context.template, chat, limit),)) for chat in chats]
    rows = [example.rows[0] for example in fit_examples(context, given, limit, what="held-out chats")]
    return [HeldOut((row,), len(context.template.text(_counted(row)).encode())) for row in rows]


def _counted(row: Row) -> list[int]:
    return [token for token, counts in zip(row.completion, row.loss_mask, strict=True) if counts]


def read_by(study: Study, documents: Sequence[HeldOut], name: str, model: Any) -> list[Read]:
    """What a model makes of each document."""
    said = iter(study.logprobs(model, [row for document in documents for row in document.rows]))
    return [
        Read(
            name,
            number,
            nll=-sum(next(said) for _ in document.rows),
            tokens=sum(row.counted for row in document.rows),
            bytes=document.bytes,
        )
        for number, document in enumerate(documents)
    ]
