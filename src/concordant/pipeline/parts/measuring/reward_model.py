"""How well the reward model tells better answers from worse ones."""

from __future__ import annotations

from typing import Any

import torch

from concordant.evaluation.answers import Answer, differences
from concordant.evaluation.reward_metrics import gold_accuracy, length_correlation, pair_metrics
from concordant.pipeline.parts.lengths import fit_examples
from concordant.pipeline.parts.measuring.study import Study
from concordant.pipeline.parts.preferences import examples_of, split_preferences


def measure_reward(study: Study, groups: dict[str, list[list[Answer]]]) -> dict[str, Any]:
    """The reward model on held-out votes, and against gold on pairs of the reference and of the policy."""
    context = study.context
    figures = pair_metrics(*judged_pairs(study))
    start = groups[context.start]
    figures["length_correlation"] = length_correlation(
        [[(a.length, a.score or 0.0) for a in group] for group in start]
    )
    if context.material.world is not None:
        for key, name in (("gold_accuracy", context.start), ("on_policy_accuracy", "policy")):
            if name in groups:
                rate = gold_accuracy(*zip(*differences(groups[name]), strict=True))
                figures |= {key: rate.rate, f"{key}_ci": [rate.low, rate.high], f"{key}_n": rate.n}
    return figures


@torch.inference_mode()
def judged_pairs(study: Study) -> tuple[list[float], list[float], list[float]]:
    """Score differences of the held-out pairs, how probably the first is the better one, and weights."""
    assert study.reward is not None
    context, model = study.context, study.reward.model
    _, held_out = split_preferences(context)
    examples = examples_of(context.template, held_out)
    examples = fit_examples(context, examples, context.limit(model), what="held-out preferences")
    scores = study.reward.score_rows([row for example in examples for row in example.rows]).tolist()
    deltas: list[float] = []
    first = 0
    for example in examples:
        deltas += [scores[first + pair.chosen] - scores[first + pair.rejected] for pair in example.pairs]
        first += len(example.rows)
    pairs = [pair for example in examples for pair in example.pairs]
    return deltas, [pair.p_chosen for pair in pairs], [pair.weight for pair in pairs]
