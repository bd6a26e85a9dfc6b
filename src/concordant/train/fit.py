"""The first loop: learning from fixed data. Stages differ only in the objective passed in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from concordant.data.batches import Example, epochs
from concordant.train.config import FitConfig
from concordant.train.learner import Learner, Objective
from concordant.train.step import Step

VALIDATED = {"loss": "validation/loss", "reward/accuracy": "validation/accuracy"}


def fit(
    learner: Learner,
    examples: Sequence[Example],
    objective_of: Callable[[Sequence[Example]], Objective],
    config: FitConfig,
    *,
    seed: int,
) -> Iterator[Step]:
    """Take optimiser steps until the learner has taken as many as the config asks for.

    `objective_of` gives the objective of an optimiser batch: `always` the same, in most cases.

    The k-th batch depends on the data, the seed and k alone, so a learner that was restored from
    a checkpoint goes on exactly where it stopped.
    """
    total = config.total_steps(len(examples))
    for number, rows in enumerate(epochs(len(examples), config.batch, total, seed), start=1):
        if number <= learner.steps:
            continue
        begin = time.perf_counter()
        batch = [examples[i] for i in rows]
        metrics = learner.backward(batch, objective_of(batch))
        metrics |= learner.step()
        tokens = sum(row.length for example in batch for row in example.rows)
        yield Step(number, total, metrics, {"train": tokens}, {"train": time.perf_counter() - begin})


def validated(
    steps: Iterator[Step],
    learner: Learner,
    held_out: Sequence[Example],
    objective: Objective,
    config: FitConfig,
) -> Iterator[Step]:
    """The steps, some of them with the loss on examples that nothing is learnt from, and the accuracy.

    `config.validations` of them, one or more, spread evenly; the last step is one. A step is taken before the look.
    """
    for step in steps:
        every = max(1, step.total // config.validations)
        if step.number % every and step.number != step.total:
            yield step
            continue
        begin = time.perf_counter()
        found = learner.look(held_out, objective)
        figures = {VALIDATED[name]: value for name, value in found.items() if name in VALIDATED}
        read = sum(row.length for example in held_out for row in example.rows)
        yield replace(
            step,
            metrics={**step.metrics, **figures},
            tokens={**step.tokens, "validate": read},
            seconds={**step.seconds, "validate": time.perf_counter() - begin},
        )


def always(objective: Objective) -> Callable[[Sequence[Example]], Objective]:
    """For an objective that does not depend on which examples stand in its batch."""
    return lambda _: objective
