"""Running a recipe: each stage in turn, into one directory."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from concordant.errors import UserError
from concordant.files import disk_errors, write_json, write_text
from concordant.pipeline.context import STORE, Context, base_path, store_address, template_of
from concordant.pipeline.folder import StageFolder, read_json
from concordant.pipeline.forecast.disk import check_disk
from concordant.pipeline.gate import is_judged
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.lock import LOCK
from concordant.pipeline.machine import machine_config
from concordant.pipeline.material import FileMaterial, WorldMaterial, material_of
from concordant.pipeline.people import wait_for_people
from concordant.pipeline.plan import Planned, plan
from concordant.pipeline.preflight import (
    check_judge,
    check_lengths,
    check_machine,
    check_material,
    check_rewards,
)
from concordant.pipeline.provenance import resolved_toml, restated
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Reporter
from concordant.pipeline.results import write_results
from concordant.pipeline.store_file import copy_store, refuse_used, set_aside

if TYPE_CHECKING:
    from concordant.models.hardware import Machine


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
    check_disk(recipe, stages)
    check_material(recipe, material, todo)
    for problem in getattr(material, "problems", ()):
        reporter.say(f"  {problem}")
    check_machine(recipe)
    if "policy" in todo:
        check_rewards(recipe)
        check_judge(recipe)
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
    measured, judged = (run_folder / "results.json").exists(), is_judged(recipe, run_folder)
    if measured and judged and all(stage.action == "skip" for stage in stages):
        return False
    execution = Execution(recipe, run_folder, material or prepare(recipe, stages, reporter), reporter, stop)
    for number in range(len(stages)):
        stop.check()
        # Planned anew after each stage: a reward model's fingerprint holds the votes that came before it.
        execution.take(plan(recipe, run_folder)[number])
    resolved = run_folder / "resolved.toml"
    if not resolved.exists():
        write_text(resolved, resolved_toml(recipe))
    elif measured and not judged:
        write_text(resolved, restated(resolved.read_text(encoding="utf-8"), recipe.gate))
    write_results(recipe, run_folder, plan(recipe, run_folder))
    return True


@dataclass
class Execution:
    """One pass over the stages of a run."""

    recipe: Recipe
    run_folder: Path
    material: WorldMaterial | FileMaterial
    reporter: Reporter
    stop: StopRequest
    done: dict[str, StageFolder] = field(default_factory=dict)

    def take(self, stage: Planned) -> None:
        """Do what was planned about a stage."""
        going_on = stage.action == "resume"
        self.reporter.say(f"{stage.name}: {'going on' if going_on else stage.why}")
        if stage.action == "reuse" and stage.donor is not None:
            self._adopt(stage, stage.donor)
        elif stage.action != "skip":
            if "feedback" in stage.inputs:
                wait_for_people(self.recipe, store_address(self.recipe, self.run_folder))
            self._run(stage)
        self.done[stage.name] = stage.folder

    def _adopt(self, stage: Planned, donor: Path) -> None:
        if stage.name == "feedback":
            self._set_votes_aside()
            copy_store(donor.parents[1] / STORE, self.run_folder / STORE)
        stage.folder.adopt(donor)

    def _run(self, stage: Planned) -> None:
        if stage.name == "feedback" and not stage.folder.half_done(stage.fingerprint):
            self._set_votes_aside()
        from concordant.models.memory import memory_errors

        stage.folder.begin(stage.fingerprint)
        context = Context(
            recipe=self.recipe,
            run_folder=self.run_folder,
            stage=stage.name,
            folder=stage.folder,
            inputs={name: self.done[name] for name in stage.inputs},
            material=self.material,
            reporter=self.reporter,
            stop=self.stop,
            find_machine=lambda: self.machine,
        )
        _forget_peak()
        with (
            stage.folder.spending() as spent,
            disk_errors(stage.folder.path),
            memory_errors(f"stage {stage.name}"),
        ):
            facts = stage.run(context)
        stage.folder.finish(
            stage.fingerprint,
            {
                "wall": spent.wall,
                "totals": context.totals.facts(),
                "peak_mb": _peak(context),
                "machine": str(context.machine),
                "threads": context.machine.threads,
                "facts": facts,
            },
        )
        self.reporter.say(f"  {spent.wall:.1f} s")

    def _set_votes_aside(self) -> None:
        if self.recipe.feedback.url:
            refuse_used(self.recipe.feedback.url)
            return
        kept = set_aside(self.run_folder / STORE)
        if kept is not None:
            self.reporter.say(f"  the earlier votes are kept in {kept}")

    @cached_property
    def machine(self) -> Machine:
        """The machine, probed when first needed; a run that goes on keeps its number of threads."""
        from concordant.models.hardware import probe

        marker = self.run_folder / "run.json"
        known = read_json(marker) or {}
        found = probe(machine_config(self.recipe, self.run_folder))
        write_json(marker, known | {"threads": found.threads, "host": platform.node()})
        write_text(self.run_folder / "resolved.toml", resolved_toml(self.recipe, found))
        self.reporter.say(f"  computing on {found}")
        return found


def _forget_peak() -> None:
    from concordant.models.hardware import forget_peak

    forget_peak()


def _peak(context: Context) -> dict[str, float]:
    from concordant.models.hardware import memory_mb

    return memory_mb(context.machine.device)
