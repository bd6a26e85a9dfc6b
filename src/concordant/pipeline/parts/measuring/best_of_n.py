"""The best of n answers by the reward model, against gold and a reward model that was held out."""

from __future__ import annotations

from typing import Any

from concordant.evaluation.best_of_n import best_of_n, curve, fit_curve
from concordant.pipeline.parts.judging import golds_of
from concordant.pipeline.parts.measuring.study import Study, scored


def measure_best_of_n(study: Study) -> dict[str, Any]:
    """What happens when the best of n by the reward model is taken, without any training."""
    few, n = study.few(study.config.best_of_prompts), study.config.best_of
    rollout = study.sample(study.reference, few, n, "best of n")
    prompts = [prompt for prompt, _ in few]
    with study.context.timed("score") as timer:
        timer.tokens = rollout.read
        rows = [sample.row for sample in rollout.samples]
        scores, others = (scored(model, rows) for model in (study.reward, study.held_out))
    golds = golds_of(study.context, prompts, rollout)

    def by_prompt(values: list[float]) -> list[list[float]]:
        return [values[i : i + n] for i in range(0, len(values), n)]

    judges: dict[str, list[list[float]] | None] = {"gold": by_prompt(golds) if golds else None}
    if study.held_out is not None:
        judges["held_out"] = by_prompt(others)
    found: dict[str, Any] = {"best_of_n": best_of_n(by_prompt(scores), **judges)}
    truth = next((name for name, said in judges.items() if said is not None), None)
    if truth is not None:
        fit = fit_curve(curve(by_prompt(scores), judges[truth]), study.context.seed("best of n fit"))
        found |= {"best_of_n_fit": fit.as_dict() | {"truth": truth}} if fit else {}
    return found
