"""What each model answers, and the best answers there are."""

from __future__ import annotations

from typing import Any

from concordant.evaluation.answers import Answer, describe, gold_mean
from concordant.evaluation.config import SAMPLES
from concordant.evaluation.text_metrics import unique_of
from concordant.pipeline.parts.measuring.study import Study
from concordant.rollout.rollout import Rollout, Sample


def measure_model(
    study: Study, name: str, model: Any
) -> tuple[dict[str, Any], list[Answer], list[list[Answer]]]:
    """Figures of one model, its answers to the main split, and 16 answers to each of a few prompts."""
    by_split = {
        split: study.answers(name, split, asked, study.sample(model, asked, 1, split))
        for split, asked in study.splits.items()
    }
    main = next(iter(by_split.values()))
    figures = describe(main)
    if main[0].gold is not None:
        figures["gold_by_split"] = {split: gold_mean(rows).as_dict() for split, rows in by_split.items()}
    few = study.few(study.config.diversity_prompts)
    rollout = study.sample(model, few, SAMPLES, "repeated")
    many = study.answers(name, "repeated", few, rollout)
    groups = [many[i : i + SAMPLES] for i in range(0, len(many), SAMPLES)]
    unique = unique_of([a.text for a in group] for group in groups).as_dict()
    figures["distinct"] |= {"unique_of_16": unique["mean"], "unique_of_16_se": unique["se"]}
    study.context.folder.append(
        study.context.folder.samples, (a.as_row() for rows in (*by_split.values(), many) for a in rows)
    )
    return figures, main, groups


def measure_ideal(study: Study) -> dict[str, Any]:
    """The best answers the world knows, as if by a policy that always gives them: its KL is -log reference."""
    world = study.context.material.world
    assert world is not None
    template = study.context.template
    by_split = {}
    for split, asked in study.splits.items():
        samples = []
        for number, (prompt, ids) in enumerate(asked):
            completion = tuple(template.completion_ids(prompt.messages, world.ideal(prompt)))
            samples.append(Sample(number, ids, completion, (0.0,) * len(completion), ended=True))
        rollout = Rollout(tuple(samples), study.config.temperature)
        by_split[split] = study.answers("ideal", split, asked, rollout)
    figures = describe(next(iter(by_split.values())))
    figures["gold_by_split"] = {split: gold_mean(rows).as_dict() for split, rows in by_split.items()}
    figures["distinct"] |= {"unique_of_16": 1 / SAMPLES, "unique_of_16_se": 0.0}
    return figures
