"""What a policy learnt of labelled pairs: its implicit reward, and whether both answers became less probable.

The implicit reward of an answer is the log-probability that the policy gives it, less that of the model its training
started from (Rafailov et al. 2023, up to the factor beta, which orders nothing otherwise).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from concordant.evaluation.intervals import Z95, Array, mean_of, ratio_of
from concordant.evaluation.pairs import LabelledPair, Side
from concordant.evaluation.reward_metrics import accuracy, correctness


def implicit_figures(pairs: Sequence[LabelledPair], start: str) -> dict[str, Any]:
    """Of held-out pairs: how often the implicit reward orders them as labelled, its margin, its pull towards length,
    and by how many nats a token both sides moved.

    Where preferred answers fall as well, probability went to answers that nobody compared: likelihood displacement
    (Razin et al. 2024).
    """
    moved = np.array([[_moved(side, start) for side in (pair.chosen, pair.rejected)] for pair in pairs])
    lengths = np.array([(pair.chosen.length, pair.rejected.length) for pair in pairs], dtype=np.float64)
    p_chosen, weights = (
        np.array([getattr(pair, name) for pair in pairs], dtype=np.float64) for name in ("p_chosen", "weight")
    )
    prompts = [pair.prompt_id for pair in pairs]
    margin = moved[:, 0] - moved[:, 1]
    return {
        **accuracy(correctness(margin, p_chosen), weights, prompts),
        "margin": mean_of(margin, prompts).as_dict(),
        "length_correlation": _correlation(lengths[:, 0] - lengths[:, 1], margin, len(set(prompts))),
        "displacement": {
            name: ratio_of(moved[:, side], lengths[:, side], prompts).as_dict()
            for side, name in enumerate(("chosen", "rejected"))
        },
    }


def _moved(side: Side, start: str) -> float:
    return side.logprobs["policy"] - side.logprobs[start]


def _correlation(x: Array, y: Array, n: int) -> dict[str, Any] | None:
    """Pearson's r of pairs that tell as much as `n` independent ones, with Fisher's interval; None without spread."""
    if n < 4 or not np.ptp(x) or not np.ptp(y):
        return None
    r = float(np.corrcoef(x, y)[0, 1])
    z, half = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, r))), Z95 / math.sqrt(n - 3)
    return {"r": r, "low": math.tanh(z - half), "high": math.tanh(z + half), "n": n}
