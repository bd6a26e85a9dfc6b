"""Everything that is known of a run before it starts, in one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.pipeline.forecast.disk import MAKING, DiskNeed, disk_need
from concordant.pipeline.forecast.look import Look, look_at
from concordant.pipeline.forecast.memory import memory_of
from concordant.pipeline.forecast.size import ModelSize, size_of
from concordant.pipeline.forecast.work import Work, work_of
from concordant.pipeline.machine import machine_config
from concordant.pipeline.origins import Value, values_of
from concordant.pipeline.plan import Planned, plan
from concordant.pipeline.recipe import Recipe

if TYPE_CHECKING:
    from concordant.models.hardware import Machine
    from concordant.pipeline.forecast.probe import Measured


@dataclass(frozen=True)
class Forecast:
    """What a run would do, and what it would need."""

    recipe: Recipe
    folder: Path
    stages: list[Planned]
    values: list[Value]
    size: ModelSize | None  # None where the configuration of the model is not here
    look: Look
    works: list[Work]
    memory: Mapping[str, Mapping[str, int]]  # bytes by stage and purpose, worked out
    disk: DiskNeed
    machine: Machine | None = None  # where a probe was made
    measured: Mapping[str, Measured] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)  # stages that a probe could not measure, and why

    @property
    def making(self) -> list[Work]:
        """The work of the stages that are still to be run."""
        names = {stage.name for stage in self.stages if stage.action in MAKING}
        return [work for work in self.works if work.stage in names]

    def as_dict(self) -> dict[str, Any]:
        """For scripts; numbers are bytes, seconds and tokens."""
        size = self.size
        return {
            "name": self.recipe.name,
            "folder": str(self.folder),
            "values": [vars(value) for value in self.values],
            "stages": [
                {
                    "stage": stage.name,
                    "action": stage.action,
                    "why": stage.why,
                    "folder": str(stage.folder.path),
                }
                for stage in self.stages
            ],
            "work": [work.as_dict() for work in self.works],
            "data": {"counted_by": self.look.counting, "rows_measured": self.look.measured},
            "parameters": size and {"number": size.parameters, "exact": size.exact},
            "memory": {name: dict(parts) for name, parts in self.memory.items()},
            "disk": self.disk.as_dict(),
            "machine": self.machine and str(self.machine),
            "probe": {
                name: {
                    "seconds": found.seconds.as_dict(),
                    "memory": found.memory.as_dict(),
                    "not_covered": found.notes,
                }
                for name, found in self.measured.items()
            },
            "not_measured": dict(self.skipped),
        }


def forecast(
    recipe: Recipe, folder: Path, text: str, overrides: Mapping[str, Any], *, probe: bool = False
) -> Forecast:
    """Look at a recipe (read from `text` with `overrides`), its data and its model; `probe` measures some seconds."""
    stages = plan(recipe, folder)
    size = size_of(recipe)
    limit = min(recipe.model.length or 2**31, size.context if size else 2**31)
    look = look_at(recipe, limit)
    works = work_of(recipe, look)
    memory = {work.stage: memory_of(recipe, size, work) for work in works} if size else {}
    found = Forecast(
        recipe,
        folder,
        stages,
        values_of(recipe, text, overrides),
        size,
        look,
        works,
        memory,
        disk_need(recipe, size, works, stages),
    )
    return _probed(found, text, overrides) if probe else found


def _probed(found: Forecast, text: str, overrides: Mapping[str, Any]) -> Forecast:
    """The same with what the machine says."""
    from concordant.models.hardware import probe
    from concordant.pipeline.forecast.probe import Probe

    recipe = found.recipe
    machine = probe(machine_config(recipe, found.folder))
    decided = {
        "machine.device": str(machine.device),
        "machine.precision": str(machine.precision).removeprefix("torch."),
        "machine.threads": machine.threads,
    }
    values = values_of(recipe, text, overrides, decided)
    found = replace(found, values=values, machine=machine)
    if found.size is None:
        return found
    one = Probe(recipe, found.size, machine)
    return replace(found, measured=one.measure(found.making), skipped=one.skipped)
