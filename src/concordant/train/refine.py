"""Learning from the best of own samples, round by round: rejection sampling, expert iteration, online DPO.

Between the two loops: a round samples and scores as `improve` does, then takes optimiser steps on fixed examples
as `fit` does. What is kept of a group of completions, and the objective, are passed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from concordant.data.batches import Example, Pair, epochs
from concordant.rollout.rollout import Asked, Rollout, Sample, Sampler
from concordant.seeds import derive
from concordant.train.config import RoundsConfig
from concordant.train.learner import Learner, Objective
from concordant.train.rewards import Reward, Scores, checked, zero_variance
from concordant.train.step import Step, averaged

Keep = Callable[[Sequence[Sample], Tensor], Example | None]
"""From the completions of a prompt and their scores to an example; None where there is nothing to learn."""


def refine(
    learner: Learner,
    sampler: Sampler,
    reward: Reward,
    prompts: Sequence[Asked],
    keep: Keep,
    objective: Objective,
    config: RoundsConfig,
    *,
    seed: int,
    done: int = 0,
) -> Iterator[Step]:
    """Run from round `done` + 1 to the last. `prompts` come with their token ids.

    Everything random in round k depends on the seed and k alone, so a run restored from a checkpoint goes on
    exactly where it stopped.
    """
    for number, rows in enumerate(
        epochs(len(prompts), config.prompts, config.rounds, derive(seed, "prompts")), start=1
    ):
        if number <= done:
            continue
        begin = time.perf_counter()
        asked = tuple(prompts[i][0] for i in rows)
        rollout = sampler.sample(
            [prompts[i][1] for i in rows], samples=config.samples, seed=derive(seed, number, "samples")
        )
        sampled = time.perf_counter()
        scores = checked(reward.score(asked, rollout), asked, rollout)
        scored = time.perf_counter()
        examples = kept_of(rollout, scores, keep)
        metrics, tokens = _fitted(learner, examples, objective, config, derive(seed, number, "order"))
        metrics |= described(rollout, scores) | {"objective/kept": len(examples) / len(asked)}
        seconds = {
            "sample": sampled - begin,
            "score": scored - sampled,
            "train": time.perf_counter() - scored,
        }
        values = tuple(scores.values.tolist())
        spent = {"train": tokens, "sample": rollout.tokens, "score": rollout.read}
        yield Step(number, config.rounds, metrics, spent, seconds, asked, rollout, values)


def kept_of(rollout: Rollout, scores: Scores, keep: Keep) -> list[Example]:
    """What `keep` makes of each prompt's completions; those without a score are left out."""
    groups: dict[int, list[int]] = {}
    for number, group in enumerate(rollout.groups):
        if scores.known[number]:
            groups.setdefault(group, []).append(number)
    found = (
        keep([rollout.samples[i] for i in members], scores.values[members])
        for members in groups.values()
        if len(members) > 1
    )
    return [example for example in found if example is not None]


def best(samples: Sequence[Sample], scores: Tensor) -> Example | None:
    """The completion with the highest score, to be imitated; nothing where none came to its end."""
    first = _winner(samples, scores)
    return None if first is None else samples[first].example


def best_and_worst(samples: Sequence[Sample], scores: Tensor) -> Example | None:
    """The completions with the highest and the lowest score as a pair; nothing where all score the same."""
    first, last = _winner(samples, scores), int(scores.argmin())
    if (
        first is None
        or scores[first] == scores[last]
        or samples[first].completion == samples[last].completion
    ):
        return None
    return Example((samples[first].row, samples[last].row), (Pair(0, 1),))


def _winner(samples: Sequence[Sample], scores: Tensor) -> int | None:
    """The best completion that stopped: one cut off at the limit is no example of how to answer."""
    ended = torch.tensor([sample.ended for sample in samples])
    return int(torch.where(ended, scores, -torch.inf).argmax()) if ended.any() else None


def described(rollout: Rollout, scores: Scores) -> dict[str, float]:
    """Figures of a round's samples."""
    samples, known = rollout.samples, scores.values[scores.known]
    lengths = [len(sample.completion) for sample in samples]
    return {
        "objective/score": float(known.mean()) if len(known) else 0.0,
        "rollout/length": sum(lengths) / len(lengths),
        "rollout/eos_rate": sum(sample.ended for sample in samples) / len(samples),
        "rollout/unique": len({s.completion for s in samples}) / len(samples),
        **zero_variance(rollout, scores),
        **{f"score/{name}": float(part.mean()) for name, part in scores.parts.items()},
    }


def _fitted(
    learner: Learner, examples: Sequence[Example], objective: Objective, config: RoundsConfig, seed: int
) -> tuple[dict[str, float], int]:
    """Optimiser steps over the examples of a round; their mean metrics, and how many tokens were read."""
    seen: list[dict[str, float]] = []
    tokens = 0
    steps = max(1, round(config.epochs * len(examples) / config.batch)) if examples else 0
    for rows in epochs(len(examples), min(config.batch, len(examples)), steps, seed) if steps else ():
        batch = [examples[i] for i in rows]
        metrics = learner.backward(batch, objective)
        seen.append(metrics | learner.step())
        tokens += sum(row.length for example in batch for row in example.rows)
    return averaged(seen), tokens
