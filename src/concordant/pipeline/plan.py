"""Which stages a recipe has, what each depends on, and which of them have to be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from concordant import __version__
from concordant.errors import UserError
from concordant.files import disk_errors, sha256_of
from concordant.pipeline.context import STORE, base_path, store_address
from concordant.pipeline.folder import StageFolder, read_json
from concordant.pipeline.material import content_fingerprint, source_fingerprints
from concordant.pipeline.preflight import check_recipe
from concordant.pipeline.recipe import Recipe
from concordant.train.config import EnsemblePartConfig, FunctionPartConfig, RewardPartConfig, ScoredConfig

# Settings that change memory and time but not what is learnt.
FREE_SETTINGS = ("checkpoint", "tokens", "packing", "timeout", "durability", "skip_at_most", "validations")

# Keys of the recipe that every stage's result depends on, that decide which rows there are, and what is asked.
EVERYWHERE = ("seed", "machine.precision", "model", "data.overlong")
ROWS = ("data.validation", "data.skip_bad_rows")
PROMPTS = ("world", "data.prompts", "data.preferences", "data.judgements")


@dataclass(frozen=True)
class Stage:
    """When a recipe asks for a stage, the stages it builds on, and the keys its result depends on beside them."""

    asked: Callable[[Recipe], object]
    inputs: tuple[str, ...]
    reads: tuple[str, ...]


# In the order in which they run. A new stage is a line here and a file in `stages/`.
STAGES: Mapping[str, Stage] = {
    "base": Stage(
        lambda recipe: not recipe.model.path,
        inputs=(),
        reads=("pretrain", "world.name", "world.corpus"),
    ),
    "sft": Stage(
        lambda recipe: recipe.sft,
        inputs=("base",),
        reads=("sft", "world.name", "world.demonstrations", "data.demonstrations", *ROWS),
    ),
    "feedback": Stage(
        lambda recipe: recipe.reads_votes,
        inputs=("base", "sft"),
        reads=("feedback", *PROMPTS, *ROWS),
    ),
    "reward": Stage(
        lambda recipe: recipe.reward,
        inputs=("base", "sft", "feedback"),
        reads=("reward", "feedback.view", "feedback.dimension", *ROWS),
    ),
    "policy": Stage(
        lambda recipe: recipe.policy,
        inputs=("base", "sft", "feedback", "reward"),
        reads=("policy", "feedback.view", "feedback.dimension", *PROMPTS, *ROWS),
    ),
    "evaluate": Stage(
        lambda recipe: recipe.evaluate,
        inputs=("base", "sft", "feedback", "reward", "policy"),
        reads=("evaluate", "feedback.view", "feedback.dimension", *PROMPTS, *ROWS),
    ),
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


def plan(recipe: Recipe, run_folder: Path, *, reuse: bool = True) -> list[Planned]:
    """What a run would do, stage by stage, and why."""
    check_recipe(recipe)
    fingerprints: dict[str, str] = {}
    stages: list[Planned] = []
    rebuilt: list[str] = []
    for number, (name, stage) in enumerate(STAGES.items(), start=1):
        if not stage.asked(recipe):
            continue
        folder = StageFolder(run_folder / "stages" / f"{number:02d}-{name}")
        inputs = tuple(i for i in stage.inputs if i in fingerprints)
        parts = {
            "stage": name,
            "version": __version__,
            "settings": settings(recipe, stage),
            "inputs": {i: fingerprints[i] for i in inputs},
        }
        if "feedback" in inputs:
            parts["votes"] = _votes(stages, store_address(recipe, run_folder))
        fingerprints[name] = sha256_of(parts)
        elsewhere = name == "feedback" and bool(
            recipe.feedback.url
        )  # a database is not copied from run to run
        reusing = reuse and not elsewhere
        donor = find_donor(run_folder, folder.path.name, fingerprints[name]) if reusing else None
        action, why = _action(folder, fingerprints[name], [i for i in inputs if i in rebuilt], donor)
        gone = not elsewhere and not (run_folder / STORE).is_file()
        if name == "feedback" and action == "skip" and gone:
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


def settings(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """The values of the recipe that a stage's result depends on; files and models by their content."""
    values = recipe.model_dump(mode="json")
    root = Path(recipe.data_root)
    found: dict[str, Any] = {}
    for key in (*EVERYWHERE, *stage.reads):
        section, _, name = key.partition(".")
        if section == "data" and name in recipe.data.sources:
            found[key] = source_fingerprints(recipe.data.sources[name], root)
        else:
            found[key] = (values[section] or {}).get(name) if name else values[section]
    if found.get("reward") and not found["reward"]["held_out"]:
        del found["reward"]["held_out"]  # without a second one, the same as before there could be one
    if "feedback" in found:  # people's votes beside those of simulated labelers make no other candidates
        source, most = found["feedback"].pop("source"), found["feedback"].pop("most_votes")
        for name in ("people", "url", "view", "dimension", "rubric"):
            del found["feedback"][name]
        rubric = recipe.feedback.rubric
        found["feedback"] |= {"rubric": content_fingerprint(root / rubric)} if rubric else {}
        found["feedback"] |= {"source": source} if source == "human" else {}
        found["feedback"] |= {"most_votes": most} if most else {}
    if "policy" in stage.reads and isinstance(recipe.policy, ScoredConfig):
        found["policy.rewards.content"] = [
            reward_content(part, root) for part in recipe.policy.rewards.values()
        ]
        if recipe.policy.asks_labelers:
            found["policy.labelers"] = [values["feedback"][name] for name in ("labelers", "votes")]
    if "policy" in stage.reads and recipe.monitor.on_alarm != "warn":
        found["monitor"] = {**values["monitor"], "probed_by": recipe.probed_by}
    if "evaluate" in found and recipe.evaluate is not None:
        found["evaluate"] |= {"text": source_fingerprints(recipe.evaluate.text, root)}
    if recipe.model.path:
        found["model.content"] = content_fingerprint(Path(base_path(recipe)))
    return _without_free(found)


def reward_content(part: RewardPartConfig, root: Path) -> list[str]:
    """What stands behind a source of scores: the files of models, the module of a function; of a server nothing."""
    if isinstance(part, FunctionPartConfig):
        with suppress(ImportError, ValueError):
            spec = find_spec(part.function.partition(":")[0])
            return [content_fingerprint(Path(spec.origin))] if spec and spec.origin else []
    paths = part.paths if isinstance(part, EnsemblePartConfig) else (getattr(part, "path", ""),)
    return [content_fingerprint(root / path) for path in paths if path]


def _without_free(value: dict[str, Any]) -> dict[str, Any]:
    def free(
        key: str, inner: Any
    ) -> bool:  # where the best checkpoint is what stays, it matters when they are made
        return key in FREE_SETTINGS and not (key == "checkpoint" and inner.get("best"))

    return {k: _without_free(v) if isinstance(v, dict) else v for k, v in value.items() if not free(k, v)}


def _votes(stages: list[Planned], address: str | Path) -> str:
    """What identifies the votes there are, so that new ones make a new reward model."""
    feedback = next(stage for stage in stages if stage.name == "feedback")
    if feedback.action == "reuse" and feedback.donor is not None:
        return votes_digest(feedback.donor.parents[1] / STORE)
    if feedback.action != "skip":
        return "to be made"
    return votes_digest(address)


def votes_digest(address: str | Path) -> str:
    """Digest of the live votes of a store."""
    from concordant.feedback.reading.live_votes import digest
    from concordant.feedback.store import Store

    with disk_errors(Path(address)), Store.open(address) as store:
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
