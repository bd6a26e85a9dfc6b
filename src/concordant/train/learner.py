"""The learner: one optimiser step from many micro-batches, and the only place that knows how.

Loss and gradient of an optimiser step do not depend on how its examples are cut into
micro-batches, because every loss arrives here already divided by denominators counted over the
whole step (`data.batches.count`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from concordant.data.batches import Counts, Example, MicroBatch, count, micro_batches
from concordant.models.hardware import Machine
from concordant.train.config import OptimizerConfig

Objective = Callable[[MicroBatch, Counts], tuple[Tensor, Mapping[str, Tensor]]]
"""From a micro-batch and the denominators of its optimiser step to the loss and metrics, which add up."""

MAX_SKIPPED = 5


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


class Learner:
    """AdamW over one or more groups of parameters, fed with micro-batches.

    `backward` accumulates, `step` applies, `discard` forgets. Between the first two a caller may
    look at the metrics and decide (PPO's early stop does).
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
    ) -> None:
        self.groups = tuple(groups)
        self.config = config
        self.total_steps = total_steps
        self.tokens = tokens
        self.pad_id = pad_id
        self.machine = machine
        self.packing = packing
        self.steps = 0
        self.skipped_in_a_row = 0
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in group.module.parameters() if p.requires_grad], "lr": group.lr}
                for group in groups
            ],
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def batches(self, examples: Sequence[Example]) -> list[MicroBatch]:
        """The micro-batches of these examples, on the learner's device."""
        cut = micro_batches(examples, self.tokens, self.pad_id, packed=self.packing)
        return [batch.to(self.machine.device) for batch in cut]

    def backward(
        self, examples: Sequence[Example], objective: Objective, *, counts: Counts | None = None
    ) -> dict[str, float]:
        """Add the gradient of the objective over `examples`; returns the loss and the summed metrics.

        `counts` are the denominators, those of `examples` unless others belong to the optimiser step too.
        """
        counts = count(examples) if counts is None else counts
        sums: dict[str, Tensor] = {}
        for batch in self.batches(examples):
            with self.machine.autocast():
                loss, metrics = objective(batch, counts)
            loss.backward()  # type: ignore[no-untyped-call]
            for name, value in {"loss": loss, **metrics}.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        return {name: float(value) for name, value in sums.items()}

    def step(self) -> dict[str, float]:
        """Clip, take one optimiser step and clear the gradient; a non-finite gradient skips the step."""
        factor = schedule_factor(self.config, self.steps, self.total_steps)
        metrics: dict[str, float] = {}
        finite = True
        for group, settings in zip(self.groups, self.optimizer.param_groups, strict=True):
            limit = self.config.clip_grad or math.inf
            norm = float(torch.nn.utils.clip_grad_norm_(settings["params"], limit))
            finite &= math.isfinite(norm)
            settings["lr"] = group.lr * factor
            metrics[f"optimizer/grad_norm_{group.name}"] = norm
            metrics[f"optimizer/lr_{group.name}"] = settings["lr"]
        if finite:
            self.optimizer.step()
            self.skipped_in_a_row = 0
        else:
            self.skipped_in_a_row += 1
            metrics["optimizer/skipped"] = 1.0
            if self.skipped_in_a_row >= MAX_SKIPPED:
                raise FloatingPointError(f"the gradient was not finite in {MAX_SKIPPED} steps in a row")
        self.steps += 1
        self.discard()
        return metrics

    def discard(self) -> None:
        """Forget the accumulated gradient."""
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Trained weights and optimiser moments by name, for a checkpoint."""
        state: dict[str, Tensor] = {}
        for name, parameter in self._named():
            state[f"weights/{name}"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"optimizer/{key}/{name}"] = value.detach()
        return state

    def load_state(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint; names and shapes have to be those of this learner."""
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
        self.steps = steps

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [
            (f"{group.name}.{name}", parameter)
            for group in self.groups
            for name, parameter in group.module.named_parameters()
            if parameter.requires_grad
        ]
