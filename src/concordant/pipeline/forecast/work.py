"""The derived batch table: what each stage does per optimiser step, how often, and on how many tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from concordant.evaluation.config import SAMPLES, EvaluateConfig
from concordant.pipeline.forecast.amounts import NONE, Amount, total
from concordant.pipeline.forecast.lengths import Shape, mean
from concordant.pipeline.forecast.look import Look, Seen
from concordant.pipeline.recipe import Recipe, RewardConfig
from concordant.train.config import (
    MOST_VALIDATED,
    NORM_SAMPLES,
    DPOConfig,
    FitConfig,
    IPOConfig,
    KTOConfig,
    LoopConfig,
    OnPolicyConfig,
    RoundsConfig,
)


@dataclass(frozen=True)
class Work:
    """What a stage does. Amounts are None where the data to count them is not here."""

    stage: str
    objective: str  # pretraining, fine-tuning, reward model, an algorithm; sampling or measuring
    steps: Amount | None = NONE  # optimiser steps in total
    batch: int = 0  # examples or completions per optimiser step
    unit: str = "examples"
    rollouts: int = 0  # rollouts, or rounds
    completions: int = 0  # of a rollout or round; of the whole stage where there is none
    prompts: Amount | None = NONE  # that the sampler reads, each once for all of its completions
    updates: float = 0.0  # optimiser steps per rollout or round
    settings: LoopConfig | None = None
    shapes: tuple[Shape, ...] = ()  # of its examples
    spent: Mapping[str, Amount | None] = field(default_factory=dict)  # tokens in total, by activity

    def as_dict(self) -> dict[str, Any]:
        settings = self.settings
        found: dict[str, Any] = {"stage": self.stage, "objective": self.objective}
        if settings is not None:
            found |= {
                "steps": _told(self.steps),
                "batch": self.batch,
                "unit": self.unit,
                "micro_batch_tokens": settings.tokens,
                "lr": settings.optimizer.lr,
                "schedule": settings.optimizer.schedule,
                "warmup": settings.optimizer.warmup,
            }
        if self.rollouts:
            found |= {
                "rollouts": self.rollouts,
                "completions": self.completions,
                "updates_per_rollout": self.updates,
            }
        return found | {"tokens": {name: _told(amount) for name, amount in self.spent.items()}}


def _told(amount: Amount | None) -> dict[str, Any] | None:
    return None if amount is None else amount.as_dict()


def work_of(recipe: Recipe, look: Look) -> list[Work]:
    """The work of every stage the recipe asks for, in the order in which they run."""
    found = []
    if recipe.pretrain is not None and not recipe.model.path:
        found.append(_fitting("base", "pretraining", recipe.pretrain, look.corpus))
    if recipe.sft is not None:
        demos = look.demonstrations
        there = Amount(MOST_VALIDATED) if recipe.world is not None else demos.held_out
        found.append(_fitting("sft", "fine-tuning", recipe.sft, demos, there))
    if recipe.reads_votes and look.candidates:
        found.append(_sampling(recipe, look))
    if recipe.reward is not None:
        found.append(_reward(recipe.reward, look.preferences))
    policy = recipe.policy
    if isinstance(policy, FitConfig):
        found.append(_direct(policy, look))
    elif isinstance(policy, OnPolicyConfig):
        found.append(_on_policy(policy, look))
    elif isinstance(policy, RoundsConfig):
        found.append(_rounds(policy, look))
    if recipe.evaluate is not None:
        found.append(_measuring(recipe, recipe.evaluate, look))
    return found


def _fitting(
    stage: str, objective: str, config: FitConfig, seen: Seen, held_out: Amount | None = NONE
) -> Work:
    """Steps on what was seen, and looks at what was kept out."""
    steps = _steps(config, seen.rows)
    tokens = None
    if steps is not None and seen.shapes:
        tokens = Amount(steps.number * config.batch * seen.tokens(), "about")
    return Work(
        stage,
        objective,
        steps,
        config.batch,
        settings=config,
        shapes=seen.shapes,
        spent={"train": tokens} | _validated(config, seen, held_out),
    )


def _validated(config: FitConfig, seen: Seen, held_out: Amount | None) -> dict[str, Amount | None]:
    """Tokens of the examples that are read now and then and not learnt from."""
    examples = held_out and min(held_out.number, MOST_VALIDATED) * config.validations
    return {"validate": Amount(examples * seen.tokens(), "about")} if examples and seen.shapes else {}


def _reward(config: RewardConfig, seen: Seen) -> Work:
    """The reward model, and after it the one that checks it: each learns from rows of its own."""
    if not config.held_out:
        return _fitting("reward", "reward model", config, seen, seen.held_out)
    first, second = (
        _fitting(
            "reward",
            "reward models",
            config,
            replace(seen, rows=seen.rows and seen.rows.times(share)),
            seen.held_out,
        )
        for share in (1 - config.held_out, config.held_out)
    )
    spent = {activity: _both(amount, second.spent[activity]) for activity, amount in first.spent.items()}
    return replace(first, steps=_both(first.steps, second.steps), spent=spent)


def _both(first: Amount | None, second: Amount | None) -> Amount | None:
    return None if first is None or second is None else first + second


def _steps(config: FitConfig, rows: Amount | None) -> Amount | None:
    if config.steps:
        return Amount(config.steps)
    return rows and Amount(config.total_steps(round(rows.number)), rows.sure)


def _direct(config: FitConfig, look: Look) -> Work:
    """DPO and its relatives; those with a reference read all rows once more before they learn."""
    seen = judged(look) if isinstance(config, KTOConfig) else look.preferences
    compared = NONE if isinstance(config, KTOConfig) else seen.held_out
    work = _fitting("policy", str(getattr(config, "algorithm", "")), config, seen, compared)
    if not isinstance(config, DPOConfig | IPOConfig | KTOConfig):
        return work
    twice = 2 if isinstance(config, KTOConfig) else 1  # each judged answer has a mismatched one beside it
    rows = seen.rows
    read = rows and Amount(rows.number * seen.tokens() * twice, "about")
    return replace(work, spent={**work.spent, "reference": read})


def judged(look: Look) -> Seen:
    """Each side of a pair is judged, and answers that came with a judgement are."""
    pairs = look.preferences
    sides = [
        Shape(shape.prompt, (one,))
        for shape in pairs.shapes
        for one in (shape.completions[0], shape.completions[-1])
    ]
    rows = pairs.rows and pairs.rows.times(2)
    rows = None if rows is None or look.judgements.rows is None else rows + look.judgements.rows
    return Seen(rows, None, (*look.judgements.shapes, *sides))


def _sampling(recipe: Recipe, look: Look) -> Work:
    settings = recipe.feedback
    seen = look.preferences
    prompts = None if seen.rows is None or seen.held_out is None else seen.rows + seen.held_out
    completions = prompts and prompts.times(settings.completions)
    return Work(
        "feedback",
        "sampling candidates",
        completions=settings.prompts * settings.completions,
        prompts=prompts,
        shapes=seen.shapes,
        spent={"sample": sampled(completions, look, settings.completion)},
    )


def _on_policy(config: OnPolicyConfig, look: Look) -> Work:
    updates = config.epochs * config.minibatches
    shapes = rollout_shapes(look, config.completion)
    completions = Amount(config.updates * config.batch)
    norm = Amount(NORM_SAMPLES if config.score_norm == "reference" else 0)
    return Work(
        "policy",
        str(getattr(config, "algorithm", "")),
        Amount(config.updates * updates, "" if config.early_stop_kl is None else "up to"),
        config.batch // config.minibatches,
        "completions",
        rollouts=config.updates,
        completions=config.batch,
        prompts=completions.times(1 / config.group) + norm,
        updates=updates,
        settings=config,
        shapes=shapes,
        spent={
            "sample": sampled(completions + norm, look, config.completion),
            "score": _read(completions, shapes),
            "train": _read(completions.times(config.epochs), shapes),
        },
    )


def _rounds(config: RoundsConfig, look: Look) -> Work:
    shapes = rollout_shapes(look, config.completion)
    completions = Amount(config.rounds * config.prompts * config.samples)
    pair = 2 if getattr(config, "algorithm", "") == "online_dpo" else 1
    kept = Amount(config.rounds * config.steps_per_round * config.batch * pair, "up to")
    return Work(
        "policy",
        str(getattr(config, "algorithm", "")),
        Amount(config.rounds * config.steps_per_round, "up to"),
        config.batch,
        rollouts=config.rounds,
        completions=config.prompts * config.samples,
        prompts=Amount(config.rounds * config.prompts),
        updates=config.steps_per_round,
        settings=config,
        shapes=shapes,
        spent={
            "sample": sampled(completions, look, config.completion),
            "score": _read(completions, shapes),
            "train": _read(kept, shapes),
        },
    )


def _measuring(recipe: Recipe, config: EvaluateConfig, look: Look) -> Work:
    """Every model answers the prompts of every split, some of them 16 times; the start makes the best-of-n curve."""
    models = 1 + (recipe.sft is not None) + (recipe.policy is not None)
    asked = Amount(3 * config.prompts)
    if recipe.world is None:
        there = look.prompts.held_out
        asked = Amount(config.prompts, "up to")
        if there is not None:
            asked = Amount(min(config.prompts, there.number), there.sure)
    few = min(asked.number, config.diversity_prompts)
    best = min(asked.number, config.best_of_prompts) if recipe.reward is not None else 0
    answers = asked.times(models) + Amount(models * few * SAMPLES)
    curve = Amount(best * config.best_of)
    shapes = rollout_shapes(look, config.completion)
    ideal = asked.times(1 if recipe.world is not None else 0)
    scored = answers + ideal + curve
    return Work(
        "evaluate",
        "measuring",
        completions=round(answers.number + curve.number),
        prompts=asked.times(models) + Amount(models * few + best),
        shapes=shapes,
        spent={
            "sample": sampled(answers + curve, look, config.completion),
            "score": total(
                [_read(scored, shapes), _reread(recipe, config, look, models), _text(look, models)]
            ),
        },
    )


def _reread(recipe: Recipe, config: EvaluateConfig, look: Look, models: int) -> Amount | None:
    """Tokens of what models read that others wrote: labelled pairs, as many learnt from as held out, demonstrations."""
    amounts: list[Amount | None] = []
    pairs, demos = look.preferences, look.demonstrations
    if recipe.reads_votes and pairs.shapes:
        readers = (recipe.reward is not None) + 1 + (recipe.policy is not None)  # the start and the policy
        amounts.append(pairs.held_out and pairs.held_out.times(2 * readers * pairs.tokens()))
    if recipe.sft is not None and demos.shapes:
        shown = Amount(config.prompts) if recipe.world is not None else demos.held_out
        number = shown and Amount(min(shown.number, config.prompts), shown.sure)
        amounts.append(number and number.times(models * demos.tokens()))
    found = total(amounts)
    return found and Amount(found.number, "about")


def _text(look: Look, models: int) -> Amount | None:
    """Tokens of the held-out documents, which every model reads."""
    rows = look.text.rows
    return None if rows is None else Amount(models * rows.number * look.text.tokens(), "about")


def rollout_shapes(look: Look, limit: int) -> tuple[Shape, ...]:
    """Prompts with a completion as long as answers are, and never longer than `limit`."""
    lengths = [min(one, limit) for one in _answers(look)] or [limit]
    return tuple(
        Shape(shape.prompt, (lengths[n % len(lengths)],)) for n, shape in enumerate(look.prompts.shapes)
    )


def _answers(look: Look) -> Sequence[int]:
    for seen in (look.demonstrations, look.preferences, look.judgements, look.corpus):
        lengths = [length for shape in seen.shapes for length in shape.completions]
        if lengths:
            return lengths
    return []


def sampled(completions: Amount | None, look: Look, limit: int) -> Amount | None:
    """Tokens of so many completions: as long as answers of the data, or up to the limit where there are none."""
    if completions is None:
        return None
    lengths = [min(one, limit) for one in _answers(look)]
    if not lengths:
        return Amount(completions.number * limit, "up to")
    return Amount(completions.number * mean(lengths), "about")


def _read(completions: Amount, shapes: Sequence[Shape]) -> Amount | None:
    """Tokens of so many completions with their prompts."""
    if not shapes:
        return None
    return Amount(completions.number * mean([shape.tokens for shape in shapes]), "about")
