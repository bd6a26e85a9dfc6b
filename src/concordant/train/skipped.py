"""Optimiser steps that were not taken because their loss or gradient was not finite, kept to be looked at.

A folder each, in the form of a checkpoint. The weights did not move, so that the objective of the stage gives the
same again on what `load_skipped` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from concordant.data.batches import Counts, Example, Pair, Row
from concordant.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Part:
    """What one call of `Learner.backward` was given, its objective apart."""

    examples: tuple[Example, ...]
    counts: Counts
    beside: Mapping[str, Tensor] = field(default_factory=dict)  # what the objective reads beside the examples


@dataclass(frozen=True)
class SkippedStep:
    """An optimiser step that was not taken."""

    number: int  # optimiser steps before it
    parts: tuple[Part, ...]
    metrics: Mapping[str, float]  # loss and norms of the gradient
    rows: tuple[
        int, ...
    ]  # of each part, counted through its examples: those in passes whose loss is not finite


def save_skipped(folder: Path, skipped: SkippedStep) -> None:
    """Write a skipped step into a folder of its own."""
    tensors = {
        f"{number}/{name}": tensor
        for number, part in enumerate(skipped.parts)
        for name, tensor in part.beside.items()
    }
    parts = [{"examples": [asdict(e) for e in p.examples], "counts": asdict(p.counts)} for p in skipped.parts]
    facts = {"number": skipped.number, "metrics": dict(skipped.metrics), "rows": list(skipped.rows)}
    save_checkpoint(folder, Checkpoint(tensors, facts | {"parts": parts}))


def load_skipped(folder: Path) -> SkippedStep:
    """Read what `save_skipped` wrote. Raises `DamagedCheckpoint`, and FileNotFoundError where there is none."""
    found = load_checkpoint(folder)
    if found is None:
        raise FileNotFoundError(folder)
    parts = tuple(
        Part(tuple(map(_example, part["examples"])), Counts(**part["counts"]), _of(found.tensors, number))
        for number, part in enumerate(found.facts["parts"])
    )
    facts = found.facts
    return SkippedStep(int(facts["number"]), parts, dict(facts["metrics"]), tuple(facts["rows"]))


def _of(tensors: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    prefix = f"{number}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _example(told: Mapping[str, Any]) -> Example:
    mismatched = told["mismatched"]
    return Example(
        rows=tuple(map(_row, told["rows"])),
        pairs=tuple(Pair(**pair) for pair in told["pairs"]),
        desirable=told["desirable"],
        weight=told["weight"],
        mismatched=None if mismatched is None else _row(mismatched),
    )


def _row(told: Mapping[str, Any]) -> Row:
    return Row(**{name: tuple(values) for name, values in told.items()})
