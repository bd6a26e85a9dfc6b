"""How probable models find demonstrations that none of them was trained to imitate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concordant.evaluation.record import Imitated
from concordant.pipeline.parts.demonstrations import Shown
from concordant.pipeline.parts.measuring.study import Study


def imitated(study: Study, shown: Sequence[Shown], name: str, model: Any) -> list[Imitated]:
    """What a model says of them, one record each."""
    rows = [example.rows[0] for _, example in shown]
    logprobs = study.logprobs(model, rows)
    return [
        Imitated(name, demo.prompt.id, row.counted, -logprob)
        for (demo, _), row, logprob in zip(shown, rows, logprobs, strict=True)
    ]
