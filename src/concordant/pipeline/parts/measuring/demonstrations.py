"""How probable models find demonstrations that none of them was trained to imitate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concordant.data.batches import Example
from concordant.data.template import Overlong
from concordant.data.types import Demonstration
from concordant.evaluation.record import Imitated
from concordant.pipeline.context import Context
from concordant.pipeline.parts.demonstrations import demonstration_row
from concordant.pipeline.parts.lengths import fit_all, longest, shortened
from concordant.pipeline.parts.measuring.study import Study

Shown = tuple[Demonstration, Example]


def held_out_demonstrations(context: Context, model: Any, n: int) -> list[Shown]:
    """Up to `n` of them with their tokens; none where the run learns from no demonstrations."""
    demos = context.material.held_out_demonstrations(n) if "sft" in context.inputs else []
    if not demos:
        return []
    limit = context.limit(model)
    shown = [(demo, Example((demonstration_row(context.template, demo, limit),))) for demo in demos]

    def shorten(one: Shown, overlong: Overlong) -> Shown | None:
        example = shortened(context, one[1], limit, overlong)
        return None if example is None else (one[0], example)

    lengths = [longest(example) for _, example in shown]
    return fit_all(context, shown, lengths, limit, shorten, what="held-out demonstrations")


def imitated(study: Study, shown: Sequence[Shown], name: str, model: Any) -> list[Imitated]:
    """What a model says of them, one record each."""
    rows = [example.rows[0] for _, example in shown]
    logprobs = study.logprobs(model, rows)
    return [
        Imitated(name, demo.prompt.id, row.counted, -logprob)
        for (demo, _), row, logprob in zip(shown, rows, logprobs, strict=True)
    ]
