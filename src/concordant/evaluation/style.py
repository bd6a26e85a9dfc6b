"""How a reward model fares where style speaks for the better answer, and where it speaks against it.

RM-Bench (Liu, Yao, Min, Cao, Hou and Li, 2024) writes every answer in several styles; here the styles are what pairs
have by themselves, short to long. A model that has learnt "longer is better" is right on easy pairs and wrong on hard.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from concordant.evaluation.intervals import Array
from concordant.evaluation.reward_metrics import accuracy, correctness

AS_LONG = 0.1  # two answers are of one length up to this share of their mean
STYLES = 3  # short, middle, long: each a third of all answers


def style_figures(
    delta: Array, p_chosen: Array, weights: Array, prompts: Sequence[Hashable], lengths: Array
) -> dict[str, Any]:
    """Accuracy by who is longer, by the length of both, and of the rule that the longer one wins; ready for JSON.

    `lengths` (N, 2): tokens of the chosen and of the rejected answer; the others as in `pair_metrics`.
    """
    correct = correctness(delta, p_chosen)
    longer = (lengths[:, 0] - lengths[:, 1]).astype(np.float64)
    alike = np.abs(longer) <= AS_LONG * lengths.mean(1)

    def among(inside: Array) -> dict[str, Any] | None:
        if not inside.any():
            return None
        return accuracy(
            correct[inside], weights[inside], [prompts[i] for i in np.flatnonzero(inside).tolist()]
        )

    edges = np.quantile(lengths, np.arange(1, STYLES) / STYLES)
    style = np.searchsorted(edges, lengths, side="left")
    cells = [
        [among((style[:, 0] == chosen) & (style[:, 1] == rejected)) for rejected in range(STYLES)]
        for chosen in range(STYLES)
    ]
    return {
        "longer_rule": accuracy(correctness(longer, p_chosen), weights, prompts),
        "by_style": {
            "easy": among(~alike & (longer > 0)),
            "normal": among(alike),
            "hard": among(~alike & (longer < 0)),
        },
        "style_matrix": {"edges": edges.tolist(), "cells": cells},
    }
