"""The best of n answers by the reward model, against gold."""

from __future__ import annotations

from typing import Any

from concordant.evaluation.best_of_n import best_of_n, curve, fit_curve
from concordant.pipeline.parts.judging import golds_of
from concordant.pipeline.parts.measuring.study import Study


def measure_best_of_n(study: Study) -> dict[str, Any]:
    """What happens when the best of n by the reward model is taken, without any training."""
    few, n = study.few(study.config.best_of_prompts), study.config.best_of
    rollout = study.sample(study.reference, few, n, "best of n")
    assert study.reward is not None
    prompts = [prompt for prompt, _ in few]
    with study.context.timed("score") as timer:
        timer.tokens = rollout.read
        scores = study.reward.score(prompts, rollout).view(len(few), n).tolist()
    golds = golds_of(study.context, prompts, rollout)
    by_prompt = [golds[i : i + n] for i in range(0, len(golds), n)] if golds else None
    found: dict[str, Any] = {"best_of_n": best_of_n(scores, by_prompt)}
    fit = fit_curve(curve(scores, by_prompt), study.context.seed("best of n fit"))
    return found | ({"best_of_n_fit": fit.as_dict()} if fit else {})
