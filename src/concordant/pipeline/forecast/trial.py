"""A few real steps of one stage: the run's model with random weights, its batches, its learner and sampler.

Neither time nor memory depends on what the weights are, so none are loaded. Rows hold random tokens and are as long
as those of the data. Nothing is written.
"""

from __future__ import annotations

import copy
import math
import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from concordant.data.batches import Example, MicroBatch, Pair, Row
from concordant.evaluation.drift import drifts
from concordant.models.critic import Critic, SharedCritic, TrunkCritic
from concordant.models.hardware import Machine, memory_mb
from concordant.models.load import Reference, add_adapter
from concordant.models.memory import Budget
from concordant.pipeline.forecast.amounts import Amount, Range
from concordant.pipeline.forecast.lengths import Shape, mean, repeated
from concordant.pipeline.forecast.memory import SLOTS, sampler_bytes
from concordant.pipeline.forecast.size import ModelSize
from concordant.pipeline.forecast.timing import timed
from concordant.pipeline.forecast.work import Work
from concordant.pipeline.parts.on_policy import make_controller
from concordant.pipeline.recipe import Recipe, RewardConfig
from concordant.rollout.inline import InlineSampler
from concordant.rollout.rollout import Rollout, Sample
from concordant.train.config import (
    BestOfNConfig,
    CriticFreeConfig,
    DPOConfig,
    FitConfig,
    IPOConfig,
    KTOConfig,
    LoopConfig,
    ModelPartConfig,
    ORPOConfig,
    PPOConfig,
    RoundsConfig,
    SimPOConfig,
)
from concordant.train.estimate import Models
from concordant.train.fit import always
from concordant.train.improver import Improver
from concordant.train.learner import Group, Learner, Objective
from concordant.train.objectives.direct import completion_logprobs, pair_objective
from concordant.train.objectives.kto import kto_objective
from concordant.train.objectives.reward import reward_objective
from concordant.train.objectives.sft import sft_objective
from concordant.train.passes import in_passes
from concordant.train.rewards import RewardModel, ScoreNorm

# Of a configuration: nothing here runs code of a model, and weights are drawn in full.
LEFT_OUT = ("auto_map", "quantization_config", "architectures")


class Trial:
    """One stage of a recipe, timed for about `budget` seconds."""

    def __init__(self, recipe: Recipe, size: ModelSize, machine: Machine, work: Work, budget: float) -> None:
        self.recipe, self.size, self.machine, self.work, self.budget = recipe, size, machine, work, budget
        self.random = random.Random(0)
        self.sampling = 0.0  # bytes held while a stage samples as many and as long rows as it may
        self.notes: list[str] = []  # what the time leaves out

    def measure(self) -> Range:
        """Seconds of the stage."""
        if self.work.stage == "feedback":
            return self._feedback()
        if self.work.stage == "evaluate":
            return self._evaluate()
        settings = self.work.settings
        if isinstance(settings, PPOConfig | CriticFreeConfig):
            return self._on_policy(settings)
        if isinstance(settings, RoundsConfig):
            return self._rounds(settings)
        assert isinstance(settings, FitConfig)
        return self._fit(settings)

    # the stages

    def _fit(self, config: FitConfig) -> Range:
        assert self.work.steps is not None
        model = self._scored_model() if self.work.stage == "reward" else self._policy()
        seconds = Range(0, 0, 0)
        if "reference" in self.work.spent:
            rows = self._examples(self.work.shapes[: 4 * config.batch])
            per_token = self._per_token(lambda few: self._reference(model, few, config.tokens), rows, 0.3)
            read = self.work.spent["reference"]
            seconds += per_token.times(_number(read))
        model = self._adapted(model)
        examples = self._examples(repeated(self.work.shapes, config.batch))
        learner = self._learner([Group("model", model, config.optimizer.lr)], config)
        objective_of = self._objective(model, config)
        if "validate" in self.work.spent:
            per_token = self._per_token(lambda few: learner.look(few, objective_of(few)), examples, 0.2)
            seconds += per_token.times(_number(self.work.spent["validate"]))
        per_step = self._per_step(learner, examples, objective_of, config.batch)
        return seconds + per_step.times(self.work.steps.number)

    def _on_policy(self, config: PPOConfig | CriticFreeConfig) -> Range:
        policy = self._adapted(self._policy())
        scorer = self._scorer(config)
        sampling = self._sampling(policy, 0.4)
        critic = self._critic(config)
        groups = [Group("policy", policy, config.optimizer.lr)]
        if critic is not None:
            groups.append(Group("critic", critic, config.optimizer.lr))
        learner = self._learner(groups, config)
        models = Models(policy, self._frozen(policy), critic)
        improver = Improver(models, learner, make_controller(config), ScoreNorm(), config, seed=0)

        def update(rollout: Rollout) -> None:
            if scorer is not None:
                scorer.score([], rollout)
            improver.step(rollout, torch.randn(len(rollout.samples)).tolist())

        per_update = self._per_rollout(update, config)
        seconds = sampling + per_update.times(config.updates)
        if isinstance(config, CriticFreeConfig) and config.dynamic_sampling:
            self.notes.append("groups whose scores are all alike, which are sampled again")
        return seconds

    def _rounds(self, config: RoundsConfig) -> Range:
        assert self.work.steps is not None
        policy = self._adapted(self._policy())
        scorer = self._scorer(config)
        seconds = self._sampling(policy, 0.4)
        if scorer is not None:
            rows = self._examples(repeated(self.work.shapes, SLOTS))
            per_token = self._per_token(lambda few: scorer.score_rows([e.rows[0] for e in few]), rows, 0.2)
            seconds += per_token.times(_number(self.work.spent["score"]))
        if isinstance(config, BestOfNConfig):
            objective = sft_objective(policy)
            shapes = self.work.shapes
        else:
            objective = pair_objective(policy, DPOConfig(), self._frozen(policy))
            shapes = tuple(Shape(one.prompt, one.completions * 2) for one in self.work.shapes)
        learner = self._learner([Group("policy", policy, config.optimizer.lr)], config)
        examples = self._examples(repeated(shapes, config.batch))
        per_step = self._per_step(learner, examples, always(objective), config.batch)
        return seconds + per_step.times(self.work.steps.number)

    def _feedback(self) -> Range:
        self.notes.append("keeping completions in the store, and the votes of labelers")
        return self._sampling(self._policy(), 1.0)

    def _evaluate(self) -> Range:
        config = self.recipe.evaluate
        assert config is not None
        policy = self._policy()
        seconds = self._sampling(policy, 0.6)
        reference, scorer = self._policy(), None
        if self.recipe.reward is not None:
            scorer = RewardModel(self._scored_model(), 0, config.tokens, self.machine)
        tokens = Budget(config.tokens, "tokens")

        def judge(few: Sequence[Example]) -> None:
            rollout = _rollout(few, config.temperature)
            drifts(reference, rollout, pad_id=0, tokens=tokens, machine=self.machine)
            if scorer is not None:
                scorer.score([], rollout)

        self.notes.append("figures and the report")
        rows = self._examples(repeated(self.work.shapes, 2 * SLOTS))
        return seconds + self._per_token(judge, rows, 0.4).times(_number(self.work.spent["score"]))

    # what takes part in them

    def _config(self, **changed: Any) -> Any:
        from transformers import AutoConfig

        values = {key: value for key, value in self.size.config.items() if key not in LEFT_OUT}
        return AutoConfig.for_model(values.pop("model_type"), **(values | changed))

    def _policy(self) -> Any:
        from transformers import AutoModelForCausalLM

        config = self._config()
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        return model.to(self.machine.device)

    def _scored_model(self) -> Any:
        from transformers import AutoModelForSequenceClassification

        config = self._config(num_labels=1, pad_token_id=0)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
        return model.to(self.machine.device)

    def _adapted(self, model: Any) -> Any:
        adapter = None if self.work.stage == "base" else self.recipe.model.adapter
        return add_adapter(model, adapter, 0) if adapter else model

    def _frozen(self, policy: Any) -> Reference:
        if hasattr(policy, "disable_adapter"):
            return Reference(policy, adapter_off=True)
        return Reference(copy.deepcopy(policy).requires_grad_(False))

    def _critic(self, config: PPOConfig | CriticFreeConfig) -> Critic | None:
        if not isinstance(config, PPOConfig):
            return None
        if config.critic == "shared":
            return SharedCritic(self.size.hidden).to(self.machine.device)
        return TrunkCritic(self._scored_model()).to(self.machine.device)

    def _scorer(self, config: PPOConfig | CriticFreeConfig | RoundsConfig) -> RewardModel | None:
        """The run's own reward model; other sources of scores are noted."""
        self.notes += [
            f"scores of policy.rewards.{name}"
            for name, part in config.rewards.items()
            if not isinstance(part, ModelPartConfig) or part.path
        ]
        if not config.needs_reward_stage:
            return None
        return RewardModel(self._scored_model(), 0, config.tokens, self.machine)

    def _objective(self, model: Any, config: FitConfig) -> Callable[[Sequence[Example]], Objective]:
        """What a stage that learns from fixed data minimises, as a function of its batch."""
        if isinstance(config, KTOConfig):
            return kto_objective(model, config, pad_id=0, machine=self.machine)
        if isinstance(config, RewardConfig):
            return always(reward_objective(model, centering=config.centering))
        if isinstance(config, DPOConfig | IPOConfig | ORPOConfig | SimPOConfig):
            return always(pair_objective(model, config))
        return always(sft_objective(model))

    def _learner(self, groups: Sequence[Group], config: LoopConfig) -> Learner:
        return Learner(
            groups,
            config.optimizer,
            total_steps=10**9,  # the learning rate stays near its peak
            tokens=config.tokens,
            pad_id=0,
            machine=self.machine,
            packing=config.packing,
        )

    @torch.inference_mode()
    def _reference(self, model: Any, few: Sequence[Example], tokens: int) -> None:
        single = [Example((row,)) for example in few for row in example.rows]

        def read(batch: MicroBatch) -> None:
            completion_logprobs(model, batch)

        in_passes(single, read, tokens=Budget(tokens, "tokens"), pad_id=0, machine=self.machine)

    # rows

    def _ids(self, n: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(1, self.size.vocabulary) for _ in range(n))

    def _examples(self, shapes: Sequence[Shape]) -> list[Example]:
        return [self._example(shape) for shape in shapes]

    def _example(self, shape: Shape) -> Example:
        prompt = self._ids(shape.prompt)
        rows = tuple(self._row(prompt, length) for length in shape.completions)
        pairs = tuple(Pair(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows)))
        if isinstance(self.work.settings, KTOConfig):
            good = self.random.random() < 0.5
            return Example(rows, desirable=good, mismatched=self._row(prompt, shape.completions[0]))
        return Example(rows, pairs)

    def _row(self, prompt: tuple[int, ...], length: int) -> Row:
        completion = self._ids(length)
        known = (-1.0,) * length if "reference" in self.work.spent else ()
        return Row(prompt, completion, ref_logprobs=known)

    # measuring

    def _per_step(
        self,
        learner: Learner,
        examples: Sequence[Example],
        objective_of: Callable[[Sequence[Example]], Objective],
        batch: int,
    ) -> Range:
        """Seconds of an optimiser step over `batch` examples; over part of them where all would take too long."""

        def step(n: int) -> None:
            few = examples[:n]
            learner.backward(few, objective_of(few))
            learner.step()

        seconds, n = timed(
            step, batch, self.budget, self.machine, unit=self._filling(examples, learner.budget.amount)
        )
        return seconds.times(batch / n)

    def _per_rollout(self, update: Callable[[Rollout], None], config: PPOConfig | CriticFreeConfig) -> Range:
        """Seconds of scoring and learning from a rollout."""
        batch, group = config.batch, config.group
        examples = self._examples(repeated(self.work.shapes, batch))

        def learn(n: int) -> None:
            update(_rollout(examples[:n], config.temperature, group))

        # Groups are whole, and each minibatch has at least one full forward pass.
        unit = config.minibatches * group * -(-self._filling(examples, config.tokens) // group)
        seconds, n = timed(learn, batch, 0.6 * self.budget, self.machine, unit=min(unit, batch))
        return seconds.times(batch / n)

    def _filling(self, examples: Sequence[Example], tokens: int) -> int:
        """How many of these examples fill a forward pass, on which its memory depends."""
        columns = mean([example.length * len(example.rows) for example in examples])
        return max(1, min(len(examples), math.ceil(tokens / columns)))

    def _per_token(
        self, act: Callable[[Sequence[Example]], object], rows: Sequence[Example], share: float
    ) -> Range:
        """Seconds of a token of these rows."""
        seconds, n = timed(lambda few: act(rows[:few]), len(rows), share * self.budget, self.machine)
        return seconds.times(1 / sum(row.length for example in rows[:n] for row in example.rows))

    def _sampling(self, policy: Any, share: float) -> Range:
        """Seconds of all the sampling of a stage: reading prompts, then a token of every row at each step.

        Where the time is too short for as many rows as the sampler takes, a step of theirs follows from those of fewer
        rows: it takes at least as long, and at most as much longer as there are more rows.
        """
        rows = min(SLOTS, self.work.completions)
        prompts = [self._ids(shape.prompt) for shape in repeated(self.work.shapes, rows)]
        length = max(2, round(mean([length for shape in self.work.shapes for length in shape.completions])))
        read, step = (self._sampler(policy, limit) for limit in (1, length))
        self.sampling = resident(self.machine) + sampler_bytes(self.recipe, self.size, self.work)
        reading, n = timed(
            lambda few: read.sample(prompts[:few], seed=0), rows, share * self.budget / 2, self.machine
        )
        per_prompt_token = reading.times(1 / sum(map(len, prompts[:n])))

        def per_step(few: int) -> Range:
            seconds, _ = timed(
                lambda _: step.sample(prompts[:few], seed=0), 1, share * self.budget / 4, self.machine
            )
            return seconds.less(reading.middle * few / n).times(1 / (length - 1))

        steps = per_step(n)
        if n < rows:
            steps = _more_rows(per_step(max(1, n // 4)), max(1, n // 4), steps, n, rows)
        tokens = _number(self.work.prompts) * mean(list(map(len, prompts)))
        return per_prompt_token.times(tokens) + steps.times(_number(self.work.spent["sample"]) / rows)

    def _sampler(self, policy: Any, limit: int) -> InlineSampler:
        return InlineSampler(policy, stop_ids=(), pad_id=0, limit=limit, machine=self.machine, slots=SLOTS)


def _more_rows(few: Range, n_few: int, many: Range, n_many: int, rows: int) -> Range:
    """A step of `rows` rows, from steps of fewer ones."""
    slope = max(0.0, many.middle - few.middle) / max(1, n_many - n_few)
    most = many.high * rows / n_many
    middle = min(most, many.middle + slope * (rows - n_many))
    return Range(many.low, middle, most)


def _rollout(examples: Sequence[Example], temperature: float, group: int = 1) -> Rollout:
    samples = tuple(
        Sample(
            n // group,
            example.rows[0].prompt,
            example.rows[0].completion,
            (-1.0,) * len(example.rows[0].completion),
            True,
        )
        for n, example in enumerate(examples)
    )
    return Rollout(samples, temperature)


def _number(amount: Amount | None) -> float:
    return amount.number if amount else 0.0


def peak(machine: Machine) -> float:
    """Bytes held at most since the peak was forgotten: on the accelerator, or resident."""
    return memory_mb(machine.device)["device" if machine.device.type == "cuda" else "rss"] * 2**20


def resident(machine: Machine) -> float:
    """Bytes held now, or at most since the stage began where the system does not tell."""
    if machine.device.type == "cuda":
        return float(torch.cuda.memory_allocated(machine.device))
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * float(os.sysconf("SC_PAGE_SIZE"))
    return peak(machine)
