"""What all measurements share: the models that take part, the prompts, and how an answer becomes a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from concordant.data.batches import Row
from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer, Drift
from concordant.evaluation.config import EvaluateConfig
from concordant.evaluation.drift import drifts
from concordant.evaluation.likelihood import likelihoods
from concordant.evaluation.showing import spread
from concordant.models.memory import Budget
from concordant.pipeline.context import Context
from concordant.pipeline.parts.sampling import kept_sampler_of
from concordant.rollout.rollout import Asked, Rollout, Sample
from concordant.train.rewards import RewardModel


def scored(model: RewardModel | None, rows: Sequence[Row]) -> list[Any]:
    """The score of each row; None where there is no model."""
    return model.score_rows(rows).tolist() if model and rows else [None] * len(rows)


@dataclass(frozen=True)
class Study:
    """What the measurements share."""

    context: Context
    config: EvaluateConfig
    reference: Any
    reward: RewardModel | None
    held_out: RewardModel | None  # a second one, which no policy was trained on
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
            found = drifts(
                self.reference,
                rollout,
                pad_id=self.context.template.pad_id,
                tokens=self.tokens,
                machine=self.context.machine,
            )
            rows = [sample.row for sample in rollout.samples]
            scores, others = (scored(model, rows) for model in (self.reward, self.held_out))
        return [
            self._answer(name, split, prompts[sample.prompt], sample, *known)
            for sample, *known in zip(rollout.samples, found, scores, others, strict=True)
        ]

    def _answer(
        self,
        name: str,
        split: str,
        prompt: Prompt,
        sample: Sample,
        drift: Drift,
        score: float | None,
        held_out: float | None,
    ) -> Answer:
        text = self.context.template.text(sample.completion)
        gold = self.context.material.gold(prompt, text)
        failures = self.context.material.failures(prompt, text)
        length = len(sample.completion)
        return Answer(
            name,
            split,
            sample.prompt,
            prompt,
            text,
            length,
            sample.ended,
            drift,
            score,
            gold,
            failures,
            held_out,
        )

    def logprobs(self, model: Any, rows: Sequence[Row]) -> list[float]:
        """Log-probability of each row's completion at temperature 1, summed over the tokens that count."""
        with self.context.timed("score") as timer:
            timer.tokens = sum(row.length for row in rows)
            found = likelihoods(
                model,
                rows,
                tokens=self.tokens,
                pad_id=self.context.template.pad_id,
                machine=self.context.machine,
                check=self.context.stop.check,
            )
        return [one.logprob for one in found]
