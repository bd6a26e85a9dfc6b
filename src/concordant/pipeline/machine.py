"""The machine of a run before it is probed: what the recipe says of it, and what the run knows already."""

from __future__ import annotations

import platform
from pathlib import Path

from concordant.models.config import MachineConfig
from concordant.pipeline.folder import read_json
from concordant.pipeline.recipe import Recipe


def machine_config(recipe: Recipe, run_folder: Path) -> MachineConfig:
    """The recipe's own; a run that goes on keeps its number of threads, on which the last digits depend."""
    known = read_json(run_folder / "run.json") or {}
    config = recipe.machine
    if not config.threads and known.get("threads") and known.get("host") == platform.node():
        return config.model_copy(update={"threads": known["threads"]})
    return config
