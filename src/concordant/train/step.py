"""The record both loops yield: everything else (logs, checkpoints, monitors, progress) reads this stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from concordant.data.types import Prompt
from concordant.rollout.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step of `fit`, or one rollout with its updates of `improve`."""

    number: int  # from 1
    total: int
    metrics: Mapping[str, float]
    tokens: Mapping[
        str, int
    ]  # by activity: train (once per pass), sample, score; also those then thrown away
    seconds: Mapping[str, float]  # by activity
    prompts: tuple[Prompt, ...] = ()  # what the rollout was asked
    rollout: Rollout | None = None
    scores: tuple[float, ...] = ()  # raw, one per completion of the rollout
