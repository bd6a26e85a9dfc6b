"""The learner: one optimiser step from many micro-batches, and the only place that knows how.

Loss and gradient of an optimiser step do not depend on how its examples are cut into
micro-batches, because every loss arrives here already divided by denominators counted over the
whole step (`data.batches.count`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from concordant.data.batches import Counts, Example, MicroBatch, count, micro_batches
from concordant.errors import UserError
from concordant.models.hardware import Machine
from concordant.models.memory import Budget
from concordant.train.config import OptimizerConfig
from concordant.train.passes import in_passes
from concordant.train.skipped import Part, SkippedStep, save_skipped

Objective = Callable[[MicroBatch, Counts], tuple[Tensor, Mapping[str, Tensor]]]
"""From a micro-batch and the denominators of its optimiser step to the loss and metrics, which add up."""

KEPT = 20  # skipped steps of a stage whose batches are kept


def schedule_factor(config: OptimizerConfig, step: int, total: int) -> float:
    """Learning rate of step `step` (from 0) as a share of its peak."""
    if step < config.warmup:
        return (step + 1) / (config.warmup + 1)
    done = min(1.0, (step - config.warmup) / max(1, total - config.warmup))
    if config.schedule == "linear":
        return 1.0 - done
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0


@dataclass(frozen=True, slots=True)
class Group:
    """Modules that share a learning rate and whose gradients are clipped together."""

    name: str
    module: nn.Module
    lr: float


@dataclass(frozen=True, slots=True)
class _Pass:
    """A forward and backward pass that was accumulated."""

    index_B: Tensor  # rows of its part
    loss: Tensor


class Learner:
    """AdamW over one or more groups of parameters, fed with micro-batches.

    `backward` accumulates, `step` applies, `discard` forgets. Between the first two a caller may
    look at the metrics and decide (PPO's early stop does).

    A step whose loss or gradient is not finite changes nothing; its batch is kept in `skipped`. Where memory gives
    out, `tokens` are halved, of which `say` hears.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        config: OptimizerConfig,
        *,
        total_steps: int,
        tokens: int,
        pad_id: int,
        machine: Machine,
        packing: bool = False,
        skipped: Path | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.groups = tuple(groups)
        self.config = config
        self.total_steps = total_steps
        self.budget = Budget(tokens, "tokens", say)
        self.pad_id = pad_id
        self.machine = machine
        self.packing = packing
        self.skipped = skipped
        self.steps = 0
        self.skipped_in_a_row = 0
        self.pace = 1.0  # factor of all learning rates beside the schedule
        self._pending: list[tuple[Part, Objective]] = []  # accumulated since the last step
        self._passes: list[_Pass] = []  # of those
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in group.module.parameters() if p.requires_grad], "lr": group.lr}
                for group in groups
            ],
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def read(self, examples: Sequence[Example], read: Callable[[MicroBatch], None]) -> None:
        """Give `read` all examples in micro-batches as they are learnt from; see `in_passes`."""
        in_passes(
            examples,
            read,
            tokens=self.budget,
            pad_id=self.pad_id,
            machine=self.machine,
            packed=self.packing,
        )

    def backward(
        self,
        examples: Sequence[Example],
        objective: Objective,
        *,
        counts: Counts | None = None,
        beside: Mapping[str, Tensor] | None = None,
    ) -> dict[str, float]:
        """Add the gradient of the objective over `examples`; returns the loss and the summed metrics.

        `counts` are the denominators, those of `examples` unless others belong to the optimiser step too. `beside`
        are the tensors that the objective reads beside the examples, kept with them where the step is skipped.
        """
        part = Part(tuple(examples), count(examples) if counts is None else counts, beside or {})
        self._pending.append((part, objective))
        first = self.budget.amount

        def accumulate(tokens: int) -> dict[str, float]:
            if tokens == first:
                return self._accumulate(part, objective, tokens)
            # Memory gave out in the middle of a pass: what was accumulated is nobody knows how much of it.
            self._clear()
            return [self._accumulate(*pending, tokens) for pending in self._pending][-1]

        return self.budget.run(accumulate, least=min(example.length for example in examples))

    def _accumulate(self, part: Part, objective: Objective, tokens: int) -> dict[str, float]:
        sums: dict[str, Tensor] = {}
        for batch, loss, metrics in self._parts(part, objective, tokens):
            loss.backward()  # type: ignore[no-untyped-call]
            self._passes.append(_Pass(batch.index_B, loss.detach()))
            _add(sums, {"loss": loss, **metrics})
        return {name: float(value) for name, value in sums.items()}

    @torch.no_grad()
    def look(self, examples: Sequence[Example], objective: Objective) -> dict[str, float]:
        """The loss and the summed metrics of the objective over `examples`, of which nothing is learnt."""
        part = Part(tuple(examples), count(examples), {})

        def work(tokens: int) -> dict[str, Tensor]:
            sums: dict[str, Tensor] = {}
            for _, loss, metrics in self._parts(part, objective, tokens):
                _add(sums, {"loss": loss, **metrics})
            return sums

        sums = self.budget.run(work, least=min(example.length for example in examples))
        return {name: float(value) for name, value in sums.items()}

    def _parts(
        self, part: Part, objective: Objective, tokens: int
    ) -> Iterator[tuple[MicroBatch, Tensor, Any]]:
        """Loss and metrics of each micro-batch, which add up to those of the whole."""
        for cut in micro_batches(part.examples, tokens, self.pad_id, packed=self.packing):
            batch = cut.to(self.machine.device)
            with self.machine.autocast():
                loss, metrics = objective(batch, part.counts)
            yield batch, loss, metrics

    def step(self) -> dict[str, float]:
        """Clip, take one optimiser step and clear the gradient, unless loss or gradient is not finite.

        Raises a `UserError` when so many steps in a row were skipped that more of them are no help.
        """
        factor = schedule_factor(self.config, self.steps, self.total_steps)
        metrics: dict[str, float] = {}
        finite = all(bool(torch.isfinite(one.loss)) for one in self._passes)
        for group, settings in zip(self.groups, self.optimizer.param_groups, strict=True):
            limit = self.config.clip_grad or math.inf
            norm = float(torch.nn.utils.clip_grad_norm_(settings["params"], limit))
            finite &= math.isfinite(norm)
            settings["lr"] = group.lr * factor * self.pace
            metrics[f"optimizer/grad_norm_{group.name}"] = norm
            metrics[f"optimizer/lr_{group.name}"] = settings["lr"]
        if finite:
            self.optimizer.step()
            self.skipped_in_a_row = 0
        else:
            self._skip(metrics)
            metrics["optimizer/skipped"] = 1.0
        self.steps += 1
        self.discard()
        return metrics

    def _skip(self, metrics: Mapping[str, float]) -> None:
        """Keep what a step that is not taken was computed from; raises when there were too many in a row."""
        self.skipped_in_a_row += 1
        loss = float(sum(one.loss for one in self._passes))
        bad = [one.index_B for one in self._passes if not torch.isfinite(one.loss)]
        rows = sorted({row for index in bad for row in index.tolist()})
        parts = tuple(part for part, _ in self._pending)
        if self.skipped is not None and len(list(self.skipped.glob("step-*"))) < KEPT:
            step = SkippedStep(self.steps, parts, {"loss": loss, **metrics}, tuple(rows))
            save_skipped(self.skipped / f"step-{self.steps + 1}", step)
        if self.skipped_in_a_row >= self.config.skip_at_most:
            raise UserError(
                f"loss or gradient was not finite in {self.skipped_in_a_row} optimiser steps in a row",
                where=str(self.skipped or f"optimiser step {self.steps + 1}"),
                expected="finite numbers; the weights and the last checkpoint are those before these steps",
                fix="look at the batches kept there; lower optimizer.lr, set machine.precision=float32, "
                "or take the rows out",
            )

    def discard(self) -> None:
        """Forget what was accumulated."""
        self._clear()
        self._pending.clear()

    def _clear(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._passes.clear()

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds beside `state()`."""
        counts = {"steps": self.steps, "skipped_in_a_row": self.skipped_in_a_row}
        return counts | {"tokens": self.budget.amount, "pace": self.pace}

    def state(self) -> dict[str, Tensor]:
        """Trained weights and optimiser moments by name, for a checkpoint."""
        state: dict[str, Tensor] = {}
        for name, parameter in self._named():
            state[f"weights/{name}"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"optimizer/{key}/{name}"] = value.detach()
        return state

    def load_state(self, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from what `state()` and `facts()` gave; names and shapes have to be those of this learner."""
        with torch.no_grad():
            for name, parameter in self._named():
                parameter.copy_(state[f"weights/{name}"])
                moments = {
                    key: state[f"optimizer/{key}/{name}"].clone()
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer/{key}/{name}" in state
                }
                if moments:
                    # The fused optimiser keeps even its step count on the device of the parameter.
                    self.optimizer.state[parameter] = {
                        key: value.to(parameter.device) for key, value in moments.items()
                    }
        self.steps = int(facts["steps"])
        self.skipped_in_a_row = int(facts["skipped_in_a_row"])
        self.pace = float(facts["pace"])
        # Where memory gave out it will again; a recipe may ask for less by now.
        self.budget.amount = min(self.budget.amount, int(facts["tokens"]))

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [
            (f"{group.name}.{name}", parameter)
            for group in self.groups
            for name, parameter in group.module.named_parameters()
            if parameter.requires_grad
        ]


def _add(sums: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Add what one micro-batch contributes."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value.detach()
