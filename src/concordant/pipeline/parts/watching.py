"""Looking at canaries, and at ties, while the policy learns from its own samples."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from concordant.data.types import Prompt
from concordant.models.load import load_policy
from concordant.monitor.canaries import CANARY, CANARY_LIMIT, Aviary
from concordant.monitor.english import COMPLETION, english_canaries
from concordant.pipeline.context import Context
from concordant.pipeline.parts.sampling import sampler_of
from concordant.rollout.rollout import Asked, Rollout, Sampler
from concordant.train.config import RoundsConfig
from concordant.train.estimate import OnPolicy
from concordant.train.rewards import Reward, RewardModel
from concordant.train.step import Step

TIES = 16  # completions that are scored twice


class Canaries:
    """The canaries of a stage of so many steps, of its world or in English: none where no look would come."""

    def __init__(
        self,
        context: Context,
        policy: Any,
        reward: Reward,
        config: OnPolicy | RoundsConfig,
        *,
        steps: int,
    ) -> None:
        self.context, self.reward = context, reward
        self.every = context.recipe.monitor.canaries
        self.aviary: Aviary | None = None
        if not 0 < self.every <= steps:
            return
        world = context.material.world
        completion = config.completion if world else min(config.completion, COMPLETION)
        # It samples when the policy has moved and its step is not logged: a stop has to wait for that.
        self._sampler = partial(
            sampler_of, context, completion=completion, temperature=config.temperature, stops=False
        )
        self.sampler: Sampler = self._sampler(policy)
        room = context.limit(policy) - completion
        canaries = english_canaries() if world is None else world.canaries()
        asked = {one.name: _fitting(context, one.prompts, room) for one in canaries}
        some = [one for one in canaries if asked[one.name]]
        if len(some) < len(canaries):
            left_out = ", ".join(one.name for one in canaries if not asked[one.name])
            context.reporter.say(f"  not looked at: {left_out}; no canary of it fits into {room} tokens")
        self.aviary = Aviary(some, asked, context.template.text, context.recipe.monitor.samples)

    def look_before(self, *, anew: bool) -> None:
        """Find out what is usual for the model that training starts from: the policy itself, where training is `anew`.

        A stage that is taken up knows it, unless it looked at no canaries so far, or with another number of answers.
        """
        known = self.context.watch.canaries
        if self.aviary is None or (not anew and known is not None and known.n == self.aviary.samples):
            return
        sampler = self.sampler if anew else self._sampler(self._start())
        self.context.watch.canaries = self.aviary.bounds(sampler, self.context.seed("canaries before"))

    def _start(self) -> Any:
        return load_policy(self.context.model_path(self.context.start)).to(self.context.machine.device)

    def over(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The steps, every so often with the rates of the canaries."""
        for step in steps:
            due = self.aviary is not None and step.number % self.every == 0
            yield self._looked(self.aviary, step) if due and self.aviary else step

    def _looked(self, aviary: Aviary, step: Step) -> Step:
        begin = time.perf_counter()
        looks, tokens = aviary.look(self.sampler, self.context.seed("canaries", step.number))
        bounds = self.context.watch.canaries
        assert bounds is not None
        limits = {name: bounds.of(name).above for name in looks}
        suspects = {name for name, look in looks.items() if look.rate > limits[name]}
        if suspects:  # asked once more at once: chance seldom says the same twice
            again, more = aviary.look(
                self.sampler, self.context.seed("canaries again", step.number), suspects
            )
            looks |= {name: min(looks[name], look, key=lambda one: one.rate) for name, look in again.items()}
            tokens += more
        rates = {f"{CANARY}{name}": look.rate for name, look in looks.items()}
        bound = {f"{CANARY_LIMIT}{name}": limit for name, limit in limits.items()}
        examples = {f"{CANARY}{name}": [asdict(one) for one in look.failures] for name, look in looks.items()}
        return replace(
            step,
            metrics={**step.metrics, **rates, **bound, **tie_gap(self.reward, step)},
            tokens={**step.tokens, "watch": tokens},
            seconds={**step.seconds, "watch": time.perf_counter() - begin},
            examples=examples,
        )


def tie_gap(reward: Reward, step: Step) -> dict[str, float]:
    """How far the reward model is from giving identical completions identical scores, beside others than before.

    Other sources of scores are not asked again: people and servers answer what they are asked.
    """
    if step.rollout is None or not isinstance(reward, RewardModel):
        return {}
    few = step.rollout.samples[:TIES][::-1]
    again = reward.score(step.prompts, Rollout(few, step.rollout.temperature)).tolist()
    gaps = [abs(a - b) for a, b in zip(again, step.scores[:TIES][::-1], strict=True)]
    return {"reward/tie_gap": max(gaps)}


def _fitting(context: Context, prompts: Sequence[Prompt], room: int) -> list[Asked]:
    """Prompts with their token ids, those that leave room for an answer."""
    asked = [(prompt, tuple(context.template.prompt_ids(prompt.messages))) for prompt in prompts]
    return [one for one in asked if len(one[1]) <= room]
