"""The stages of a run tried for some seconds, and what that says of their time and of their memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from concordant.errors import UserError
from concordant.models.hardware import Machine, forget_peak
from concordant.models.memory import memory_errors
from concordant.pipeline.forecast.amounts import Range, in_bytes
from concordant.pipeline.forecast.memory import MOMENTS, memory_of, trained_numbers
from concordant.pipeline.forecast.size import FLOAT, ModelSize
from concordant.pipeline.forecast.trial import Trial, peak
from concordant.pipeline.forecast.work import Work
from concordant.pipeline.recipe import Recipe

SECONDS = 10.0  # that a probe measures, all stages together; building their models comes on top
MOST_OF_MEMORY = 0.8  # of what is free that a probe may take
UNSEEN = 0.15  # of peak memory on top: rows and votes in memory, rows longer than those that were measured


@dataclass
class Measured:
    """What a probe found of a stage."""

    seconds: Range
    memory: Range  # bytes: resident, or on the accelerator where there is one
    notes: list[str] = field(default_factory=list)  # what is not covered


class Probe:
    """Measures stages one after the other, each within its share of the time."""

    def __init__(self, recipe: Recipe, size: ModelSize, machine: Machine, seconds: float = SECONDS) -> None:
        self.recipe, self.size, self.machine = recipe, size, machine
        self.seconds = seconds
        self.skipped: dict[str, str] = {}

    def measure(self, works: Sequence[Work]) -> dict[str, Measured]:
        """These stages, by name; `skipped` says why one of them is missing."""
        found = {}
        for work in works:
            why = self._obstacle(work)
            if why:
                self.skipped[work.stage] = why
                continue
            gc.collect()
            forget_peak()
            trial = Trial(self.recipe, self.size, self.machine, work, self.seconds / len(works))
            try:
                with torch.random.fork_rng(devices=[]), memory_errors("its trial"):
                    torch.manual_seed(0)
                    seconds = trial.measure()
            except UserError as error:  # one stage that cannot be tried here hides nothing of the others
                self.skipped[work.stage] = error.what
                continue
            found[work.stage] = Measured(seconds, self._memory(work, trial), trial.notes)
        return found

    def _obstacle(self, work: Work) -> str:
        """Why a stage cannot be measured; empty where it can."""
        from transformers import CONFIG_MAPPING

        if not work.shapes or work.steps is None:
            return "its data is not here"
        if self.size.config.get("model_type") not in CONFIG_MAPPING:
            return f"transformers knows no model of type {self.size.config.get('model_type')!r}"
        needed = sum(memory_of(self.recipe, self.size, work).values())
        free = MOST_OF_MEMORY * free_memory(self.machine)
        if needed > free:
            return f"it takes more than {in_bytes(needed)}, and a probe may take {in_bytes(free)} here"
        return ""

    def _memory(self, work: Work, trial: Trial) -> Range:
        """The measured peak, and what comes on top: sampling at its longest, the copy for a checkpoint."""
        measured = peak(self.machine)
        copied = 0
        if work.settings is not None and self.machine.device.type == "cpu":
            copied = trained_numbers(self.recipe, self.size, work.stage) * (1 + MOMENTS) * FLOAT
        most = max(measured + copied, trial.sampling)
        return Range(min(measured, most), most, most * (1 + UNSEEN))


def free_memory(machine: Machine) -> int:
    """Bytes that a probe could take on this machine."""
    if machine.device.type == "cuda":
        return int(torch.cuda.mem_get_info(machine.device)[0])
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
