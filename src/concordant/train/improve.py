"""The second loop: learning from own rollouts.

One update, top to bottom: draw prompts, sample, score, and hand both to the `Improver`, which penalises drift
from the reference, estimates advantages and takes several clipped passes over the rollout.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from concordant.data.batches import epochs
from concordant.rollout.rollout import Asked, Rollout, Sampler
from concordant.seeds import derive
from concordant.train.config import CriticFreeConfig
from concordant.train.estimate import freeze
from concordant.train.improver import Improver
from concordant.train.rewards import Reward, Scores, checked, flat_groups
from concordant.train.step import Step


def improve(improver: Improver, sampler: Sampler, reward: Reward, prompts: Sequence[Asked]) -> Iterator[Step]:
    """Run from the update after the improver's last one to the end. `prompts` come with their token ids.

    Everything random in update k depends on the seed and k alone, so a run restored from a
    checkpoint goes on exactly where it stopped.
    """
    config, seed = improver.config, improver.seed
    batches = epochs(len(prompts), config.batch // config.group, config.updates, derive(seed, "prompts"))
    done = improver.number
    for number, rows in enumerate(batches, start=1):
        if number <= done:
            continue
        spent = _Spent()
        asked = [prompts[i] for i in rows]
        rollout, scores = _sampled(improver, sampler, reward, asked, spent, derive(seed, number, "samples"))
        for attempt in range(config.dynamic_sampling if isinstance(config, CriticFreeConfig) else 0):
            flat = flat_groups(rollout, scores)
            if not flat:
                break
            (others,) = epochs(len(prompts), len(flat), 1, derive(seed, number, "others", attempt))
            fresh = [prompts[i] for i in others]
            again = derive(seed, number, "samples", attempt)
            found = _sampled(improver, sampler, reward, fresh, spent, again)
            for group, pair in zip(flat, fresh, strict=True):
                asked[group] = pair
            rollout, scores = _with_groups(rollout, scores, flat, *found)
        frozen = freeze(improver.models, improver.learner, rollout, config)
        spent.lap("score")
        summary = improver.step(rollout, scores, frozen)
        passes = summary["policy/steps"] / config.minibatches  # fewer than epochs where the early stop came
        spent.lap("train", round(passes * rollout.read))
        questions = tuple(prompt for prompt, _ in asked)
        values = tuple(scores.values.tolist())
        yield Step(number, config.updates, summary, spent.tokens, spent.seconds, questions, rollout, values)


def _sampled(
    improver: Improver, sampler: Sampler, reward: Reward, asked: Sequence[Asked], spent: _Spent, seed: int
) -> tuple[Rollout, Scores]:
    rollout = sampler.sample([ids for _, ids in asked], samples=improver.config.group, seed=seed)
    spent.lap("sample", rollout.tokens)
    questions = [prompt for prompt, _ in asked]
    scores = checked(reward.score(questions, rollout), questions, rollout)
    spent.lap("score", rollout.read)
    return rollout, scores


def _with_groups(
    rollout: Rollout, scores: Scores, places: Sequence[int], fresh: Rollout, fresh_scores: Scores
) -> tuple[Rollout, Scores]:
    """The rollout with the groups at `places` replaced by those of another one, in order."""
    size = len(rollout.samples) // len({sample.prompt for sample in rollout.samples})
    samples = list(rollout.samples)

    def replaced(old: Tensor, new: Tensor) -> Tensor:
        merged = old.clone()
        for number, place in enumerate(places):
            merged[place * size : (place + 1) * size] = new[number * size : (number + 1) * size]
        return merged

    for number, place in enumerate(places):
        taken = fresh.samples[number * size : (number + 1) * size]
        samples[place * size : (place + 1) * size] = [replace(sample, prompt=place) for sample in taken]
    merged = Scores(
        replaced(scores.values, fresh_scores.values),
        replaced(scores.known, fresh_scores.known),
        {name: replaced(part, fresh_scores.parts[name]) for name, part in scores.parts.items()},
    )
    return replace(rollout, samples=tuple(samples)), merged


class _Spent:
    """Seconds and tokens by activity."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.tokens: dict[str, int] = {}
        self._last = time.perf_counter()

    def lap(self, activity: str, tokens: int = 0) -> None:
        """What the time since the last lap, and so many tokens, were spent on."""
        now = time.perf_counter()
        self.seconds[activity] = self.seconds.get(activity, 0.0) + now - self._last
        self.tokens[activity] = self.tokens.get(activity, 0) + tokens
        self._last = now
