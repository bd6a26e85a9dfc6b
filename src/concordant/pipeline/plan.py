"""Which stages a recipe has, what each depends on, and which of them have to be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from concordant import __version__
from concordant.errors import UserError
from concordant.files import disk_errors, sha256_of
from concordant.pipeline.context import STORE, base_path
from concordant.pipeline.folder import StageFolder, read_json
from concordant.pipeline.material import content_fingerprint, source_fingerprints
from concordant.pipeline.preflight import check_recipe
from concordant.pipeline.recipe import Recipe

# Settings that change memory and time but not what is learnt.
FREE_SETTINGS = ("checkpoint",)

# Number, name, and the stages it builds on. A new stage is a line here and a file in `stages/`.
STAGES: Mapping[str, tuple[str, ...]] = {
    "base": (),
    "sft": ("base",),
    "feedback": ("base", "sft"),
    "reward": ("base", "sft", "feedback"),
    "policy": ("base", "sft", "reward"),
    "evaluate": ("base", "sft", "feedback", "reward", "policy"),
}


@dataclass(frozen=True)
class Planned:
    """A stage of a run, and what will be done about it."""

    name: str
    folder: StageFolder
    fingerprint: str
    inputs: tuple[str, ...]
    action: str  # skip | run | resume | rebuild | reuse
    why: str
    donor: Path | None = None  # a finished stage of another run with the same fingerprint

    def run(self, context: Any) -> dict[str, Any]:
        """Call the stage's own function."""
        facts: dict[str, Any] = import_module(f"concordant.pipeline.stages.{self.name}").run(context)
        return facts


def wanted(recipe: Recipe) -> tuple[str, ...]:
    """Names of the stages the recipe asks for, in order."""
    present = {
        "base": not recipe.model.path,
        "sft": recipe.sft is not None,
        "feedback": recipe.reward is not None,
        "reward": recipe.reward is not None,
        "policy": recipe.policy is not None,
        "evaluate": recipe.evaluate is not None,
    }
    return tuple(name for name in STAGES if present[name])


def plan(recipe: Recipe, run_folder: Path, *, reuse: bool = True) -> list[Planned]:
    """What a run would do, stage by stage, and why."""
    check_recipe(recipe)
    fingerprints: dict[str, str] = {}
    stages: list[Planned] = []
    rebuilt: list[str] = []
    names = wanted(recipe)
    for number, name in enumerate(STAGES, start=1):
        if name not in names:
            continue
        folder = StageFolder(run_folder / "stages" / f"{number:02d}-{name}")
        inputs = tuple(i for i in STAGES[name] if i in names)
        parts = {
            "stage": name,
            "version": __version__,
            "settings": settings(recipe, name),
            "inputs": {i: fingerprints[i] for i in inputs},
        }
        if name == "reward":
            parts["votes"] = _votes(stages, run_folder)
        fingerprints[name] = sha256_of(parts)
        donor = find_donor(run_folder, folder.path.name, fingerprints[name]) if reuse else None
        action, why = _action(folder, fingerprints[name], [i for i in inputs if i in rebuilt], donor)
        if name == "feedback" and action == "skip" and not (run_folder / STORE).is_file():
            action, why = "rebuild", f"{STORE} is gone"
        if action != "skip":
            rebuilt.append(name)
        stages.append(Planned(name, folder, fingerprints[name], inputs, action, why, donor))
    return stages


def _action(folder: StageFolder, fingerprint: str, rebuilt: list[str], donor: Path | None) -> tuple[str, str]:
    finished = folder.finished()
    if finished is not None and finished["fingerprint"] == fingerprint:
        return "skip", "done"
    if finished is None and folder.begun() == fingerprint:
        return "resume", "half done"
    if donor is not None:
        return "reuse", f"the same stage is done in {donor.parents[1]}"
    if finished is not None or folder.begun() is not None:
        return "rebuild", f"{' and '.join(rebuilt)} changed" if rebuilt else "its settings or data changed"
    return "run", "not done yet"


def settings(recipe: Recipe, name: str) -> dict[str, Any]:
    """The part of a recipe that a stage's result depends on, beside its inputs."""
    values = recipe.model_dump(mode="json")
    root = Path(recipe.data_root)
    chosen: dict[str, Any] = {"seed": recipe.seed, "precision": recipe.machine.precision}
    if recipe.model.path:
        below = Path(base_path(recipe))
        chosen["model"] = values["model"] | {"content": content_fingerprint(below)}
    else:
        chosen["model"] = values["model"]
    world = values["world"] or {}
    if name == "base":
        chosen |= {"pretrain": values["pretrain"], "world": [world.get("name"), world.get("corpus")]}
    if name == "sft":
        chosen |= {"sft": values["sft"], "world": [world.get("name"), world.get("demonstrations")]}
        chosen["data"] = source_fingerprints(recipe.data.demonstrations, root)
    if name in ("feedback", "policy", "evaluate"):
        chosen |= {"world": world, "completion": recipe.policy.completion if recipe.policy else None}
        chosen["prompts"] = source_fingerprints(recipe.data.prompts, root)
        chosen["preferences"] = source_fingerprints(recipe.data.preferences, root)
    if name in ("feedback", "reward", "policy", "evaluate"):
        chosen[name] = values[name]
    chosen["overlong"] = recipe.data.overlong
    if name != "base":
        chosen["validation"] = [recipe.data.validation, recipe.data.skip_bad_rows]
    return _without_free(chosen)


def _without_free(value: dict[str, Any]) -> dict[str, Any]:
    return {
        k: _without_free(v) if isinstance(v, dict) else v for k, v in value.items() if k not in FREE_SETTINGS
    }


def _votes(stages: list[Planned], run_folder: Path) -> str:
    """What identifies the votes there are, so that new ones make a new reward model."""
    feedback = next(stage for stage in stages if stage.name == "feedback")
    if feedback.action == "reuse" and feedback.donor is not None:
        return votes_digest(feedback.donor.parents[1])
    if feedback.action != "skip":
        return "to be made"
    return votes_digest(run_folder)


def votes_digest(run_folder: Path) -> str:
    """Digest of the live votes of a run's store."""
    from concordant.feedback.store import Store
    from concordant.feedback.summary import digest

    with disk_errors(run_folder / STORE), Store.open(run_folder / STORE) as store:
        return digest(store)


def find_donor(run_folder: Path, stage: str, fingerprint: str) -> Path | None:
    """A finished stage with this fingerprint in another run beside this one."""
    for marker in sorted(run_folder.parent.glob(f"*/stages/{stage}/stage.json")):
        run = marker.parents[2]
        if run == run_folder or (stage.endswith("-feedback") and not (run / STORE).is_file()):
            continue
        try:
            found = read_json(marker)
        except (OSError, UserError):
            continue  # another run's trouble is not ours
        if found is not None and found.get("fingerprint") == fingerprint:
            return marker.parent
    return None
