"""The models of a run, asked again once they are made: what a command works with that is no stage of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from concordant.errors import UserError
from concordant.files import sha256_of
from concordant.pipeline.context import Context, base_path
from concordant.pipeline.folder import StageFolder
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.material import material_of
from concordant.pipeline.plan import STAGES
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Reporter

if TYPE_CHECKING:
    from concordant.models.hardware import Machine

MODELS = ("base", "sft", "policy")  # that answer prompts, in the order in which they are made


def finished_stages(run_folder: Path) -> dict[str, StageFolder]:
    """The finished stages of a run, by name."""
    found = {}
    for number, name in enumerate(STAGES, start=1):
        folder = StageFolder(run_folder / "stages" / f"{number:02d}-{name}")
        if folder.finished() is not None:
            found[name] = folder
    return found


def same_models(run_folder: Path, models: Mapping[str, str]) -> bool:
    """Whether `models` (fingerprints by stage), which some figures are of, are those that the run has now."""
    now = {name: model_id(folder) for name, folder in finished_stages(run_folder).items()}
    return all(now.get(name, model) == model for name, model in models.items())


def model_id(folder: StageFolder) -> str:
    """What tells the model of a finished stage from an earlier one of its name."""
    return str((folder.finished() or {})["fingerprint"])[:16]


def answering(recipe: Recipe, done: Mapping[str, StageFolder]) -> tuple[str, ...]:
    """The models of a run that can be asked: of its finished stages, and a base model that was given."""
    return tuple(name for name in MODELS if name in done or (name == "base" and recipe.model.path))


def fingerprint_of_model(recipe: Recipe, run_folder: Path, done: Mapping[str, StageFolder], name: str) -> str:
    """What tells the model of a stage from any other. Errors: UserError for a stage that is not finished."""
    if name in answering(recipe, done):
        return model_id(done[name]) if name in done else sha256_of(base_path(recipe))[:16]
    raise UserError(
        f"this run has no finished stage {name!r} that answers prompts",
        where=str(run_folder),
        expected=f"one of {', '.join(answering(recipe, done)) or 'none yet'}",
        fix="run its recipe first",
    )


def context_after(
    recipe: Recipe,
    run_folder: Path,
    done: Mapping[str, StageFolder],
    reporter: Reporter,
    *,
    purpose: str,
    folder: StageFolder | None = None,
    stop: StopRequest | None = None,
) -> Context:
    """What a stage called `purpose` would work with; `folder` is for what it leaves behind, if it leaves anything."""

    def machine() -> Machine:
        from concordant.models.hardware import probe

        return probe(recipe.machine)

    return Context(
        recipe=recipe,
        run_folder=run_folder,
        stage=purpose,
        folder=folder or StageFolder(run_folder / "stages" / purpose),
        inputs=done,
        material=material_of(recipe),
        reporter=reporter,
        stop=stop or StopRequest(),
        find_machine=machine,
    )
