"""What each model answers, and the best answers there are."""

from __future__ import annotations

from typing import Any

from concordant.evaluation.answers import IDEAL, REPEATED, Answer
from concordant.evaluation.config import SAMPLES
from concordant.pipeline.parts.measuring.study import Study
from concordant.rollout.rollout import Rollout, Sample


def answers_of(study: Study, name: str, model: Any) -> list[Answer]:
    """One answer of a model to each prompt of every split, and 16 to each of a few prompts of the first."""
    found = []
    for split, asked in study.splits.items():
        found += study.answers(name, split, asked, study.sample(model, asked, 1, split))
    few = study.few(study.config.diversity_prompts)
    return found + study.answers(name, REPEATED, few, study.sample(model, few, SAMPLES, REPEATED))


def ideal_answers(study: Study) -> list[Answer]:
    """The best answers the world knows, as if by a policy that always gives them: its KL is -log reference."""
    world = study.context.material.world
    if world is None:
        return []
    template = study.context.template
    found = []
    for split, asked in study.splits.items():
        samples = []
        for number, (prompt, ids) in enumerate(asked):
            completion = tuple(template.completion_ids(prompt.messages, world.ideal(prompt)))
            samples.append(Sample(number, ids, completion, (0.0,) * len(completion), ended=True))
        rollout = Rollout(tuple(samples), study.config.temperature)
        found += study.answers(IDEAL, split, asked, rollout)
    return found
