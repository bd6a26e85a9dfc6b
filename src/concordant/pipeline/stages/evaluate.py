"""Measuring: every model answers the same prompts and reads the same labelled pairs, and all figures come from that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from concordant.evaluation.health import health
from concordant.evaluation.record import Record
from concordant.models.load import load_policy
from concordant.models.memory import Budget
from concordant.pipeline.context import Context
from concordant.pipeline.parts.demonstrations import held_out_demonstrations
from concordant.pipeline.parts.judging import held_out_model_of, reward_model_of
from concordant.pipeline.parts.measuring.best_of_n import measure_best_of_n
from concordant.pipeline.parts.measuring.demonstrations import imitated
from concordant.pipeline.parts.measuring.duels import measure_duels
from concordant.pipeline.parts.measuring.files import keep
from concordant.pipeline.parts.measuring.held_out import held_out, read_by
from concordant.pipeline.parts.measuring.models import answers_of, ideal_answers
from concordant.pipeline.parts.measuring.pairs import compared_answers, labelled_pairs, rows_of
from concordant.pipeline.parts.measuring.path import measure_path
from concordant.pipeline.parts.measuring.study import Study
from concordant.pipeline.parts.measuring.votes import measure_votes
from concordant.pipeline.parts.sampling import with_ids
from concordant.pipeline.reporter import Progress


def run(context: Context) -> dict[str, Any]:
    """Measure all models of the run: what was measured goes into files row by row, the figures into `results.json`."""
    names = [name for name in ("base", "sft", "policy") if name == "base" or name in context.inputs]
    study = study_of(context)
    context.folder.duels.unlink(missing_ok=True)
    with context.reporter.activity("evaluating", len(names) + 2, "parts") as progress:
        record = measured(study, names, progress)
        keep(record, context.folder)
        results = record.figures()
        results |= measure_path(context, record.main)
        results |= measure_duels(study, record.main)
        progress.to(len(names) + 1, "figures")
        if study.reward is not None and study.config.best_of_prompts:
            results |= measure_best_of_n(study)
    if "feedback" in context.inputs or Path(context.store).exists():
        results["feedback"] = measure_votes(context)
    results["health"] = health(results, context.start)
    results["gate_before"] = context.recipe.gate.digest() if context.recipe.gate else None
    return results


def study_of(context: Context) -> Study:
    """The prompts, and who says how far an answer is from the reference and how good it is."""
    config = context.recipe.evaluate
    assert config is not None
    reference = load_policy(context.model_path(context.start)).to(context.machine.device)
    reward = held_out = None
    if "reward" in context.inputs:
        reward = reward_model_of(context, config.tokens)
        held_out = held_out_model_of(context, config.tokens)
    splits = {
        split: with_ids(context, prompts, reference, config.completion, what="evaluation prompts")
        for split, prompts in context.material.evaluation(config.prompts).items()
    }
    tokens = Budget(config.tokens, "tokens", context.reporter.say)
    return Study(context, config, reference, reward, held_out, tokens, splits)


def measured(study: Study, names: list[str], progress: Progress) -> Record:
    """What these models answer, and what they say of answers that others gave."""
    context, start = study.context, study.context.start
    compared = compared_answers(context, study.reference)
    learnt = "sft" in context.inputs
    shown = held_out_demonstrations(context, study.reference, study.config.prompts) if learnt else []
    documents = held_out(context, study.reference, study.config.documents)
    answers, demonstrations, reads, logprobs = [], [], [], {}
    for done, name in enumerate(names, start=1):
        model = study.reference
        if name != start:
            model = load_policy(context.model_path(name)).to(context.machine.device)
        answers += answers_of(study, name, model)
        demonstrations += imitated(study, shown, name, model)
        reads += read_by(study, documents, name, model)
        if name in (start, "policy"):
            logprobs[name] = study.logprobs(model, rows_of(compared))
        progress.to(done, name)
    answers += ideal_answers(study)
    return Record(start, answers, labelled_pairs(study, compared, logprobs), demonstrations, reads)
