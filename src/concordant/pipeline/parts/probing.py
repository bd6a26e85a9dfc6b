"""Blind probes while the policy learns: its answers beside those of the model that training began with."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from concordant.data.types import Prompt
from concordant.evaluation.judged import judge
from concordant.feedback.answering.labelers import Labeler
from concordant.feedback.answering.simulated import SimulatedLabeler, Traits, simulated_labelers
from concordant.models.load import load_policy
from concordant.monitor.notice import SHOWN
from concordant.monitor.probes import FIGURE, FIRST, MOST, Probe
from concordant.pipeline.context import Context
from concordant.pipeline.folder import read_jsonl
from concordant.pipeline.parts.model_judge import ModelLabeler
from concordant.pipeline.parts.sampling import sampler_of, with_ids
from concordant.pipeline.recipe import GOLD, JUDGE
from concordant.rollout.rollout import Asked
from concordant.train.config import RoundsConfig
from concordant.train.estimate import OnPolicy
from concordant.train.step import Step

EXACT = Traits(tau=1e-6, delta=1e-9)  # sees every difference in gold, and nothing else


@dataclass(frozen=True)
class Reply:
    """What one of the two models said; see `evaluation.judged.Answered`."""

    model: str
    draw: int
    prompt: Prompt
    text: str
    length: int
    ended: bool


@dataclass(frozen=True)
class Found:
    """A probe: of each pair what the first model said, what the policy said, and the share of the policy."""

    probe: Probe
    why: str  # it was made
    pairs: tuple[tuple[Reply, Reply, float], ...]

    @classmethod
    def of(
        cls, context: Context, step: int, why: str, pairs: Sequence[tuple[Reply, Reply, float]], score: float
    ) -> Found:
        best = context.watch.course.best
        theirs = values_of(context, best.step, [a.draw for a, *_ in pairs])
        probe = Probe.of_values(step, [value for *_, value in pairs], score, best, theirs)
        return cls(probe, why, tuple(pairs))

    def row(self, step: int, by: str) -> dict[str, Any]:
        """For `probes.jsonl`; `step` is the one on which it was known, `of` the one whose answers it compares."""
        probe = self.probe
        return {
            "step": step,
            "of": probe.step,
            "why": self.why,
            "by": by,
            "against": self.pairs[0][0].model,
            "n": probe.n,
            "alike": sum(a.text == b.text for a, b, _ in self.pairs),
            **{name: getattr(probe, name) for name in ("rate", "se", "low", "high", "below", "below_se")},
            "score": probe.score if math.isfinite(probe.score) else None,
            "pairs": [
                {"draw": a.draw, "prompt_id": a.prompt.id, "texts": [a.text, b.text], "value": value}
                for a, b, value in self.pairs
            ],
        }

    def examples(self) -> list[dict[str, str]]:
        """The policy's answers that were liked least, beside those that were preferred."""
        worst = sorted((one for one in self.pairs if one[2] < 0.5), key=lambda one: one[2])
        return [
            {"prompt": a.prompt.messages[-1].content, "completion": b.text, "preferred": a.text}
            for a, b, _ in worst[:SHOWN]
        ]


def values_of(context: Context, step: int, draws: Sequence[int]) -> list[float]:
    """What the probe of a step found of the same pairs, NaN where it does not have them; empty where there is none."""
    row = next((row for row in read_jsonl(context.folder.probes) if row["of"] == step), None)
    if row is None:
        return []
    values = {pair["draw"]: pair["value"] for pair in row["pairs"]}
    return [values.get(draw, math.nan) for draw in draws]


class Replies:
    """What both models say to the same prompts, which were kept out of training; `distinct` asks each prompt once."""

    def __init__(
        self, context: Context, policy: Any, config: OnPolicy | RoundsConfig, *, distinct: bool
    ) -> None:
        self.context, self.policy, self.config, self.distinct = context, policy, config, distinct
        self.tokens = 0  # that the policy has sampled for probes

    @cached_property
    def asked(self) -> list[Asked]:
        """The prompts with their token ids, at most MOST; none where nothing is kept out."""
        many = 8 * MOST if self.distinct else MOST  # a world draws with replacement
        drawn = next(iter(self.context.material.evaluation(many).values()), ())
        prompts = list({one.id: one for one in drawn}.values())[:MOST] if self.distinct else drawn
        what = "prompts of probes"
        return (
            with_ids(self.context, prompts, self.policy, self.config.completion, what=what) if prompts else []
        )

    @cached_property
    def before(self) -> list[Reply]:
        """Of the model that training began with. Not counted: a stage that is resumed asks it anew."""
        context = self.context
        model = load_policy(context.model_path(context.start)).to(context.machine.device)
        return self._replies(model, context.start, context.seed("probes before"))[0]

    def now(self, step: Step) -> list[Reply]:
        """Of the policy."""
        replies, tokens = self._replies(self.policy, "policy", self.context.seed("probe", step.number))
        self.tokens += tokens
        return replies

    def _replies(self, model: Any, name: str, seed: int) -> tuple[list[Reply], int]:
        """One answer to each prompt. A stop has to wait for them: the policy has moved and its step is not logged."""
        config = self.config
        sampler = sampler_of(
            self.context, model, completion=config.completion, temperature=config.temperature, stops=False
        )
        rollout = sampler.sample([ids for _, ids in self.asked], seed=seed)
        text = self.context.template.text
        replies = [
            Reply(name, n, prompt, text(one.completion), len(one.completion), one.ended)
            for n, ((prompt, _), one) in enumerate(zip(self.asked, rollout.samples, strict=True))
        ]
        return replies, rollout.tokens


class Comparing(Protocol):
    """Whoever compares answers."""

    def found(self, step: Step, why: str) -> Found | None:
        """What is known on this step; `why` says why a probe is due, and is empty where none is."""


class Programs:
    """Labelers that are programs: they answer at once."""

    def __init__(self, context: Context, replies: Replies) -> None:
        self.context, self.replies = context, replies

    @cached_property
    def labelers(self) -> Sequence[Labeler]:
        """Those of the recipe."""
        world, by = self.context.material.world, self.context.recipe.probed_by
        if by == JUDGE:
            return [ModelLabeler(self.context, self.context.recipe.monitor.judge)]
        assert world is not None, "planning refuses labelers that are programs without a world"
        if by == GOLD:
            return [SimulatedLabeler(by, EXACT, world.gold)]
        return simulated_labelers(by, world.gold, seed=self.context.seed("probing"))

    def found(self, step: Step, why: str) -> Found | None:
        """What they say of a few pairs, or of all; None where they say nothing."""
        if not why:
            return None
        now = self.replies.now(step)
        few = self._compared(step, why, now, FIRST)
        if few is not None and self.context.watch.course.grows(few.probe):
            return self._compared(step, why, now, MOST)
        return few

    def _compared(self, step: Step, why: str, now: Sequence[Reply], n: int) -> Found | None:
        before = self.replies.before
        duels = judge(self.context.recipe.probed_by, self.labelers, before[:n], now[:n]).duels
        said: dict[Hashable, tuple[Reply, Reply]] = {a.draw: (a, b) for a, b in zip(before, now, strict=True)}
        pairs = [(*said[draw], float(value)) for draw, value in zip(duels.prompts, duels.values, strict=True)]
        return Found.of(self.context, step.number, why, pairs, score_of(step)) if pairs else None


class Probes:
    """The probes of a stage: none where nobody compares, there is nothing to compare, or none would come."""

    def __init__(self, context: Context, replies: Replies, comparing: Comparing | None) -> None:
        self.context, self.replies, self.comparing = context, replies, comparing
        self.every = context.recipe.monitor.probes

    def over(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The steps, some with a probe."""
        for step in steps:
            none = self.comparing is None or self.every > step.total or not self.replies.asked
            yield step if none or self.comparing is None else self._probed(self.comparing, step)

    def _probed(self, comparing: Comparing, step: Step) -> Step:
        begin, before = time.perf_counter(), self.replies.tokens
        found = comparing.found(step, self._why(step))
        seconds, tokens = time.perf_counter() - begin, self.replies.tokens - before
        step = replace(
            step,
            seconds={**step.seconds, "watch": step.seconds.get("watch", 0.0) + seconds},
            tokens={**step.tokens, "watch": step.tokens.get("watch", 0) + tokens},
        )
        if found is None:
            return step
        row = found.row(step.number, self.context.recipe.probed_by)
        self.context.folder.append(self.context.folder.probes, [row])
        return replace(
            step,
            metrics={**step.metrics, **found.probe.figures()},
            examples={**step.examples, f"{FIGURE}rate": found.examples()},
        )

    def _why(self, step: Step) -> str:
        """What makes a probe due on a step; nothing where none is."""
        if self.context.watch.tripped:
            return self.context.watch.tripped
        if step.number == step.total:
            return "last step"
        return "due" if step.number % self.every == 0 else ""


def score_of(step: Step) -> float:
    """Mean score of the step's own samples."""
    return step.metrics.get("objective/score", math.nan)
