"""Perplexity on text that no model has learnt from: what training for people's liking costs in language.

Per token it compares models of one tokenizer, per byte those of any. Documents are clusters: the tokens of one of
them are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from concordant.evaluation.intervals import Change, Sized, ratio_of


@dataclass(frozen=True, slots=True)
class Read:
    """What a model made of one document."""

    model: str
    document: int
    nll: float  # negative log-likelihood of its counted tokens, in nats
    tokens: int
    bytes: int


def perplexity(reads: Sequence[Read]) -> dict[str, Any]:
    """The figures of one model."""
    per_token, per_byte = (ratio_of(*_over(reads, unit)) for unit in ("tokens", "bytes"))
    return {
        "nll_per_token": per_token.as_dict(),
        "nll_per_byte": per_byte.as_dict(),
        "perplexity": math.exp(per_token.mean),
        "bits_per_byte": per_byte.mean / math.log(2),
        "documents": len(reads),
        "tokens": sum(one.tokens for one in reads),
        "bytes": sum(one.bytes for one in reads),
    }


def text_changes(reads: Mapping[str, Sequence[Read]]) -> dict[str, dict[str, Any]]:
    """Every change from an earlier model to a later one, as in `changes.py`: both have read the same documents."""
    return {
        f"{after}_minus_{before}": {
            f"text.nll_per_{unit.removesuffix('s')}": Change.of_ratios(
                _over(reads[after], unit), _over(reads[before], unit)
            ).as_dict()
            for unit in ("tokens", "bytes")
        }
        for before, after in combinations(reads, 2)
    }


def _over(reads: Sequence[Read], unit: str) -> Sized:
    return [one.nll for one in reads], [getattr(one, unit) for one in reads]
