"""Looking at the canaries of a world while the policy learns from its own samples."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

from concordant.monitor.canaries import Aviary
from concordant.monitor.detectors import CANARY
from concordant.pipeline.context import Context
from concordant.pipeline.parts.sampling import sampler_of, with_ids
from concordant.rollout.rollout import Sampler
from concordant.train.step import Step


class Canaries:
    """The canaries of a stage of so many steps: none where there is no world, or no look would come."""

    def __init__(
        self, context: Context, policy: Any, *, completion: int, temperature: float, steps: int
    ) -> None:
        self.context = context
        self.every = context.recipe.monitor.canaries
        self.aviary: Aviary | None = None
        world = context.material.world
        if world is None or not 0 < self.every <= steps:
            return
        # It samples when the policy has moved and its step is not logged: a stop has to wait for that.
        self.sampler: Sampler = sampler_of(
            context, policy, completion=completion, temperature=temperature, stops=False
        )
        canaries = world.canaries()
        asked = {one.name: with_ids(context, one.prompts, policy, completion) for one in canaries}
        samples = context.recipe.monitor.samples
        self.aviary = Aviary(canaries, asked, world, context.template.text, samples)

    def look_before(self) -> None:
        """Find out what is usual; the policy still is what training starts from."""
        if self.aviary is not None:
            self.context.watch.canaries = self.aviary.bounds(
                self.sampler, self.context.seed("canaries before")
            )

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
        suspects = {name for name, look in looks.items() if look.rate > bounds.of(name)}
        if suspects:  # asked once more at once: chance seldom says the same twice
            again, more = aviary.look(
                self.sampler, self.context.seed("canaries again", step.number), suspects
            )
            looks |= {name: min(looks[name], look, key=lambda one: one.rate) for name, look in again.items()}
            tokens += more
        rates = {f"{CANARY}{name}": look.rate for name, look in looks.items()}
        examples = {f"{CANARY}{name}": [asdict(one) for one in look.failures] for name, look in looks.items()}
        return replace(
            step,
            metrics={**step.metrics, **rates},
            tokens={**step.tokens, "watch": tokens},
            seconds={**step.seconds, "watch": time.perf_counter() - begin},
            examples=examples,
        )
