"""Running a recipe: each stage in turn, into one directory."""

from __future__ import annotations

import platform
import sqlite3
import time
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.errors import UserError
from concordant.files import disk_errors, sha256_of, write_json, write_text
from concordant.pipeline.context import STORE, Context, base_path, template_of
from concordant.pipeline.folder import StageFolder, read_json
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.lock import LOCK
from concordant.pipeline.material import FileMaterial, WorldMaterial, material_of, source_fingerprints
from concordant.pipeline.plan import Planned, plan
from concordant.pipeline.preflight import check_lengths, check_machine, check_material
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Reporter
from concordant.pipeline.toml import to_toml

if TYPE_CHECKING:
    from concordant.models.hardware import Machine

RESULTS_SCHEMA = 1
PACKAGES = ("torch", "transformers", "peft", "datasets", "numpy")


def open_run(recipe: Recipe, run_folder: Path, recipe_text: str) -> None:
    """Make or enter a run directory; one that belongs to another recipe is refused and left as it is."""
    refuse_foreign(recipe, run_folder)
    if not (run_folder / "run.json").exists():
        write_json(run_folder / "run.json", {"name": recipe.name, "created": time.time()})
    write_text(run_folder / "recipe.toml", recipe_text)


def refuse_foreign(recipe: Recipe, run_folder: Path) -> None:
    """Raise for a directory that belongs to another recipe, or that no run has made. Changes nothing."""
    if run_folder.exists() and not run_folder.is_dir():
        raise UserError(
            "this is a file, not a run directory",
            where=str(run_folder),
            expected="a new or empty directory",
            fix="use --run with another directory",
        )
    known = read_json(run_folder / "run.json")
    if known is not None and known.get("name") != recipe.name:
        raise UserError(
            f"this run directory belongs to the recipe {known.get('name')!r}, not to {recipe.name!r}",
            where=str(run_folder),
            expected="a new directory, or the one this recipe made before",
            fix=f"use --run {run_folder.parent / recipe.name}, or change the recipe's name",
        )
    if known is None and run_folder.is_dir():
        strange = [f.name for f in run_folder.iterdir() if f.name not in (LOCK, "run.json.partial")]
        if strange:
            raise UserError(
                "this directory is not empty and not a run",
                where=str(run_folder),
                expected=f"a new or empty directory; this one holds {min(strange)}",
                fix="use --run with another directory",
            )


def prepare(recipe: Recipe, stages: list[Planned], reporter: Reporter) -> WorldMaterial | FileMaterial:
    """Read what the run learns from, and refuse what would stop one of its stages. Writes nothing."""
    material = material_of(recipe)
    todo = {stage.name for stage in stages if stage.action in ("run", "resume", "rebuild")}
    if not todo:
        return material
    check_material(recipe, material, todo)
    for problem in getattr(material, "problems", ()):
        reporter.say(f"  {problem}")
    check_machine(recipe)
    if recipe.model.path:
        from concordant.models.load import context_length_at

        path = base_path(recipe)
        template = template_of(recipe, path)
        limit = min(recipe.model.length or 2**31, context_length_at(path))
        check_lengths(recipe, material, template, limit, todo)
    return material


def execute(
    recipe: Recipe,
    run_folder: Path,
    reporter: Reporter,
    stop: StopRequest,
    material: WorldMaterial | FileMaterial | None = None,
) -> bool:
    """Run what has to be run; True if anything was. `material` is what `prepare` gave, if it was called."""
    stages = plan(recipe, run_folder)
    if all(stage.action == "skip" for stage in stages) and (run_folder / "results.json").exists():
        return False
    material = material or prepare(recipe, stages, reporter)
    machine = _machine_finder(recipe, run_folder, reporter)
    folders: dict[str, StageFolder] = {}
    for number in range(len(stages)):
        stop.check()
        # Planned anew after each stage: a reward model's fingerprint holds the votes that came before it.
        stage = plan(recipe, run_folder)[number]
        if stage.action == "skip":
            reporter.say(f"{stage.name}: {stage.why}")
        elif stage.action == "reuse" and stage.donor is not None:
            reporter.say(f"{stage.name}: {stage.why}")
            _adopt(stage, stage.donor, run_folder, reporter)
        else:
            _run_stage(stage, recipe, run_folder, material, folders, reporter, stop, machine)
        folders[stage.name] = stage.folder
    if not (run_folder / "resolved.toml").exists():
        write_text(run_folder / "resolved.toml", resolved_toml(recipe))
    write_results(recipe, run_folder, plan(recipe, run_folder))
    return True


def _run_stage(
    stage: Planned,
    recipe: Recipe,
    run_folder: Path,
    material: WorldMaterial | FileMaterial,
    folders: dict[str, StageFolder],
    reporter: Reporter,
    stop: StopRequest,
    machine: Any,
) -> None:
    begin = time.perf_counter()
    reporter.say(f"{stage.name}: {'going on' if stage.action == 'resume' else stage.why}")
    if stage.name == "feedback" and not stage.folder.half_done(stage.fingerprint):
        _set_aside(run_folder / STORE, reporter)
    stage.folder.begin(stage.fingerprint)
    context = Context(
        recipe=recipe,
        run_folder=run_folder,
        folder=stage.folder,
        inputs={name: folders[name] for name in stage.inputs},
        material=material,
        reporter=reporter,
        stop=stop,
        find_machine=machine,
    )
    before = float((read_json(stage.folder.path / "spent.json") or {}).get("wall", 0.0))
    try:
        with disk_errors(stage.folder.path):
            facts = stage.run(context)
    finally:
        wall = before + time.perf_counter() - begin
        with suppress(UserError):  # on a full disk this must not hide what went wrong before
            write_json(stage.folder.path / "spent.json", {"wall": wall})
    stage.folder.finish(
        stage.fingerprint,
        {
            "wall": wall,
            "totals": context.totals.facts(),
            "peak_mb": _peak(context),
            "machine": str(context.machine),
            "threads": context.machine.threads,
            "facts": facts,
        },
    )
    reporter.say(f"  {wall:.1f} s")


def _peak(context: Context) -> dict[str, float]:
    from concordant.models.hardware import memory_mb

    return memory_mb(context.machine.device)


def _machine_finder(recipe: Recipe, run_folder: Path, reporter: Reporter) -> Any:
    """Probe the machine once, when first needed; a run that goes on keeps its number of threads."""

    @lru_cache(maxsize=1)
    def find() -> Machine:
        from concordant.models.hardware import probe

        known = read_json(run_folder / "run.json") or {}
        config = recipe.machine
        if not config.threads and known.get("threads") and known.get("host") == platform.node():
            config = config.model_copy(update={"threads": known["threads"]})
        found = probe(config)
        write_json(run_folder / "run.json", known | {"threads": found.threads, "host": platform.node()})
        write_text(run_folder / "resolved.toml", resolved_toml(recipe, found))
        reporter.say(f"  computing on {found}")
        return found

    return find


def resolved_toml(recipe: Recipe, machine: Machine | None = None) -> str:
    """Every value in force, with versions and what the machine decided, if it was asked."""
    values = recipe.model_dump(mode="json", exclude_none=True)
    if machine is not None:
        values["machine"] |= {
            "device": str(machine.device),
            "precision": str(machine.precision).removeprefix("torch."),
            "threads": machine.threads,
        }
    data = {
        key: [
            f"{row['path']} {row['content']}" for row in source_fingerprints(sources, Path(recipe.data_root))
        ]
        for key, sources in recipe.data
        if key in ("demonstrations", "preferences", "prompts") and sources
    }
    return to_toml({**values, "versions": versions(), "fingerprints": {"code": code_fingerprint(), **data}})


def versions() -> dict[str, str]:
    """Versions of what computes."""
    from concordant import __version__

    return {
        "concordant": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def code_fingerprint() -> str:
    """Hash of this package's source."""
    root = Path(__file__).resolve().parents[1]
    files = sorted(p for p in root.rglob("*") if p.suffix in (".py", ".j2", ".css"))
    return sha256_of({str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in files})


def _adopt(stage: Planned, donor: Path, run_folder: Path, reporter: Reporter) -> None:
    if stage.name == "feedback":
        _set_aside(run_folder / STORE, reporter)
        with disk_errors(run_folder / STORE):
            _copy_store(donor.parents[1] / STORE, run_folder / STORE)
    stage.folder.adopt(donor)


def _copy_store(source: Path, target: Path) -> None:
    """A consistent copy of a SQLite file that others may be writing to."""
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)
    old.close()
    new.close()


def _set_aside(store: Path, reporter: Reporter) -> None:
    """Votes are never deleted: a store made for other candidates is kept under another name."""
    if not store.exists():
        return
    name = f"feedback.{time.strftime('%Y%m%d-%H%M%S')}"
    taken = sum(1 for _ in store.parent.glob(f"{name}*.sqlite"))
    kept = store.with_name(f"{name}{f'-{taken + 1}' if taken else ''}.sqlite")
    store.rename(kept)
    for extra in ("-wal", "-shm"):  # after a crash the last votes may stand in the first of them
        if (beside := store.with_name(store.name + extra)).exists():
            beside.rename(kept.with_name(kept.name + extra))
    reporter.say(f"  the earlier votes are kept in {kept}")


def write_results(recipe: Recipe, run_folder: Path, stages: list[Planned]) -> None:
    """Write `results.json`: the figures of the evaluation, and what everything cost."""
    done = {stage.name: stage.folder.finished() or {} for stage in stages}
    facts = {name: dict(stage.get("facts", {})) for name, stage in done.items()}
    figures = facts.pop("evaluate", {})
    write_json(
        run_folder / "results.json",
        {
            "schema": RESULTS_SCHEMA,
            "name": recipe.name,
            "command": (read_json(run_folder / "run.json") or {}).get("command", ""),
            "seed": recipe.seed,
            "world": recipe.world.name if recipe.world else None,
            "seconds": {
                "total": round(sum(stage.get("wall", 0.0) for stage in done.values()), 2),
                "stages": {name: round(stage.get("wall", 0.0), 2) for name, stage in done.items()},
            },
            "throughput": {name: throughput(stage.get("totals", {})) for name, stage in done.items()},
            "peak_rss_mb": round(
                max((s.get("peak_mb", {}).get("rss", 0.0) for s in done.values()), default=0)
            ),
            **figures,
            "stages": facts,
            "machine": next((s["machine"] for s in done.values() if "machine" in s), ""),
            "threads": next((s["threads"] for s in done.values() if "threads" in s), None),
            "versions": versions(),
        },
    )


def throughput(totals: dict[str, Any]) -> dict[str, Any]:
    """Seconds, tokens and tokens per second by activity."""
    seconds, tokens = totals.get("seconds", {}), totals.get("tokens", {})
    return {
        activity: {
            "seconds": round(spent, 2),
            "tokens": tokens.get(activity) or None,
            "tokens_per_s": round(tokens[activity] / spent) if tokens.get(activity) and spent else None,
        }
        for activity, spent in seconds.items()
    }
