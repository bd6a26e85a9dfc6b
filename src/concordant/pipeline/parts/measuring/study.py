"""What all measurements share: the models that take part, the prompts, and how an answer becomes a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer, kl_to_reference
from concordant.evaluation.config import EvaluateConfig
from concordant.evaluation.showing import spread
from concordant.models.memory import Budget
from concordant.pipeline.context import Context
from concordant.pipeline.parts.sampling import kept_sampler_of
from concordant.rollout.rollout import Asked, Rollout, Sample
from concordant.train.rewards import RewardModel


@dataclass(frozen=True)
class Study:
    """What the measurements share."""

    context: Context
    config: EvaluateConfig
    reference: Any
    reward: RewardModel | None
    tokens: Budget  # of a pass through the reference
    splits: dict[str, list[Asked]]

    @property
    def main(self) -> list[Asked]:
        """The prompts of the split reported first."""
        return next(iter(self.splits.values()))

    def few(self, n: int) -> list[Asked]:
        """`n` prompts of this split to look at closely."""
        return [self.main[place] for place in spread([prompt for prompt, _ in self.main], n)]

    def sample(self, model: Any, asked: list[Asked], samples: int, what: str) -> Rollout:
        sampler = kept_sampler_of(
            self.context,
            model,
            completion=self.config.completion,
            temperature=self.config.temperature,
            most=None,
        )
        with self.context.timed("sample") as timer:
            rollout = sampler.sample([ids for _, ids in asked], samples=samples, seed=self.context.seed(what))
            timer.tokens = rollout.tokens
        self.context.stop.check()
        return rollout

    def answers(self, name: str, split: str, asked: list[Asked], rollout: Rollout) -> list[Answer]:
        """Everything that is known about the completions of a rollout."""
        prompts = [prompt for prompt, _ in asked]
        with self.context.timed("score") as timer:
            timer.tokens = rollout.read
            kl = kl_to_reference(
                self.reference,
                rollout,
                pad_id=self.context.template.pad_id,
                tokens=self.tokens,
                machine=self.context.machine,
            )
            scores = self.reward.score(prompts, rollout).tolist() if self.reward else [None] * len(kl)
        return [
            self._answer(name, split, prompts[sample.prompt], sample, kl_i, score)
            for sample, kl_i, score in zip(rollout.samples, kl, scores, strict=True)
        ]

    def _answer(
        self, name: str, split: str, prompt: Prompt, sample: Sample, kl: float, score: float | None
    ) -> Answer:
        text = self.context.template.text(sample.completion)
        gold = self.context.material.gold(prompt, text)
        return Answer(
            name, split, sample.prompt, prompt, text, len(sample.completion), sample.ended, kl, score, gold
        )
