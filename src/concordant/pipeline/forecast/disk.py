"""What a run leaves on the disk, and whether there is room for it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concordant.errors import UserError
from concordant.pipeline.forecast.amounts import in_bytes
from concordant.pipeline.forecast.memory import MOMENTS, trained_numbers
from concordant.pipeline.forecast.size import FLOAT, ModelSize, size_of
from concordant.pipeline.forecast.work import Work
from concordant.pipeline.plan import Planned
from concordant.pipeline.recipe import Recipe

# Bytes of what is written beside models, as measured on the demo.
STEP, ROLLOUT = 160, 2_000  # rows of steps.jsonl and samples.jsonl for a step, for a rollout
CANDIDATE, ANSWER = (
    710,
    390,
)  # a completion with its votes in feedback.sqlite, an answer with what is measured on it
REPORT = 400_000
MAKING = ("run", "resume", "rebuild")  # actions by which a stage writes


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that the stages still to be run are going to write, beside what is free."""

    models: int  # for good
    checkpoints: int  # of the stage that has most, until it is complete
    logs: int  # for good, estimated
    free: int
    freed: int  # by what is made anew

    @property
    def most(self) -> int:
        """Most bytes that are there at one time."""
        return self.models + self.checkpoints + self.logs

    @property
    def too_little(self) -> bool:
        """Whether the estimate does not fit."""
        return self.most > self.free + self.freed

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "most": self.most, "too_little": self.too_little}


def disk_need(
    recipe: Recipe, size: ModelSize | None, works: Sequence[Work], stages: Sequence[Planned]
) -> DiskNeed:
    """What these stages need; models of unknown size are left out."""
    making = [stage for stage in stages if stage.action in MAKING]
    names = {stage.name for stage in making}
    todo = [work for work in works if work.stage in names]
    return DiskNeed(
        models=model_bytes(recipe, size, names),
        checkpoints=max((_checkpoints(recipe, size, work) for work in todo), default=0),
        logs=sum(map(_logs, todo)) + REPORT * bool(todo),
        free=free_bytes(stages[0].folder.path) if stages else 0,
        freed=freed_bytes(making),
    )


def model_bytes(recipe: Recipe, size: ModelSize | None, stages: Collection[str]) -> int:
    """Bytes of the weights that these stages leave; an adapter is merged into them."""
    if size is None:
        return 0
    policies = sum(stage in ("base", "sft", "policy") for stage in stages)
    scorers = 1 + bool(recipe.reward and recipe.reward.held_out)
    return FLOAT * (policies * size.parameters + ("reward" in stages) * scorers * size.trunk)


def _checkpoints(recipe: Recipe, size: ModelSize | None, work: Work) -> int:
    """Bytes of the checkpoints that stay, the best among them, and of the one being written before the oldest goes."""
    if size is None or work.settings is None:
        return 0
    one = trained_numbers(recipe, size, work.stage) * (1 + MOMENTS) * FLOAT
    when, steps = work.settings.checkpoint, work.rollouts or (work.steps.number if work.steps else 0)
    most = when.keep + bool(when.best) + 1
    there = most if when.minutes else 0
    if when.steps and steps:
        there = min(most, int(steps - 1) // when.steps)
    return one * max(1, there)  # a stage that is told to stop writes one


def _logs(work: Work) -> int:
    if work.rollouts:
        return work.rollouts * ROLLOUT
    a_completion = CANDIDATE if work.stage == "feedback" else ANSWER
    steps = work.steps.number if work.steps else 0
    return round(steps * STEP) + work.completions * a_completion


def freed_bytes(stages: Sequence[Planned]) -> int:
    """Bytes of what goes before a stage is made anew."""
    gone = [stage.folder.path for stage in stages if stage.action == "rebuild"]
    return sum(file.stat().st_size for folder in gone for file in folder.rglob("*") if file.is_file())


def free_bytes(path: Path) -> int:
    """Bytes that are free where `path` is going to be."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    return shutil.disk_usage(there).free


def check_disk(recipe: Recipe, stages: Sequence[Planned]) -> None:
    """Refuse a run whose models alone cannot fit. What is estimated refuses nothing."""
    making = [stage for stage in stages if stage.action in MAKING]
    if not making:
        return
    needed = model_bytes(recipe, size_of(recipe), {stage.name for stage in making})
    folder = stages[0].folder.path.parents[1]
    room = free_bytes(folder) + freed_bytes(making)
    if needed > room:
        raise UserError(
            f"the models of this run need {in_bytes(needed)}, and {in_bytes(room)} are free",
            where=str(folder),
            expected="room for the weights that every stage leaves, and for checkpoints beside them",
            fix="free some space, or choose another disk with --runs; `concordant plan` lists what is needed",
        )
