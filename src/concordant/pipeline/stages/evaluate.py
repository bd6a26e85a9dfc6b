"""Measuring: every model answers the same prompts, the reward model judges held-out pairs, and n are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from concordant.evaluation.answers import Answer, gold_gaps
from concordant.evaluation.changes import changes
from concordant.evaluation.showing import side_by_side
from concordant.models.load import load_policy
from concordant.models.memory import Budget
from concordant.pipeline.context import Context
from concordant.pipeline.parts.judging import reward_model_of
from concordant.pipeline.parts.measuring.best_of_n import measure_best_of_n
from concordant.pipeline.parts.measuring.duels import measure_duels
from concordant.pipeline.parts.measuring.models import measure_ideal, measure_model
from concordant.pipeline.parts.measuring.reward_model import measure_reward
from concordant.pipeline.parts.measuring.study import Study
from concordant.pipeline.parts.measuring.votes import measure_votes
from concordant.pipeline.parts.sampling import with_ids


def run(context: Context) -> dict[str, Any]:
    """Measure all models of the run; the figures go into `results.json`, the answers into `samples.jsonl`."""
    config = context.recipe.evaluate
    assert config is not None
    device = context.machine.device
    reference = load_policy(context.model_path(context.start)).to(device)
    reward = reward_model_of(context, config.tokens) if "reward" in context.inputs else None
    splits = {
        split: with_ids(context, prompts, reference, config.completion, what="evaluation prompts")
        for split, prompts in context.material.evaluation(config.prompts).items()
    }
    tokens = Budget(config.tokens, "tokens", context.reporter.say)
    study = Study(context, config, reference, reward, tokens, splits)
    results: dict[str, Any] = {"models": {}}
    main: dict[str, list[Answer]] = {}
    repeated: dict[str, list[list[Answer]]] = {}
    for log in (context.folder.samples, context.folder.duels):
        log.unlink(missing_ok=True)
    names = [name for name in ("base", "sft", "policy") if name == "base" or name in context.inputs]
    with context.reporter.activity("evaluating", len(names) + 2, "parts") as progress:
        for done, name in enumerate(names, start=1):
            model = reference if name == context.start else load_policy(context.model_path(name)).to(device)
            results["models"][name], main[name], repeated[name] = measure_model(study, name, model)
            progress.to(done, name)
        if context.material.world is not None:
            results["models"]["ideal"] = measure_ideal(study)
        results["gaps"] = {name: mean.as_dict() for name, mean in gold_gaps(main).items()}
        results["changes"] = changes(main, repeated)
        results |= measure_duels(study, main)
        if reward is not None:
            results["reward_model"] = measure_reward(study, repeated)
            progress.to(len(names) + 1, "reward model")
            if config.best_of_prompts:
                results |= measure_best_of_n(study)
    if "feedback" in context.inputs or Path(context.store).exists():
        results["feedback"] = measure_votes(context)
    results["samples"] = side_by_side(main)
    results["gate_before"] = context.recipe.gate.digest() if context.recipe.gate else None
    return results
