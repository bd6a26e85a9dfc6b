"""demo, run, plan and evaluate."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from concordant.app.terminal import Terminal
from concordant.errors import UserError
from concordant.files import sha256_of, write_json
from concordant.pipeline.folder import read_json
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.lock import locked
from concordant.pipeline.plan import plan
from concordant.pipeline.recipe import PLACES, Recipe, load_recipe, parse_overrides
from concordant.pipeline.run import execute, open_run, prepare, refuse_foreign

LONGEST_NAME = 180  # characters; file systems take 255 bytes


def demo(arguments: argparse.Namespace, console: Console) -> int:
    """The embedded world end to end."""
    overrides = list(arguments.overrides)
    if arguments.seed:
        overrides.append(f"seed={arguments.seed}")
    if _run(demo_recipe(), overrides, arguments.runs, arguments.run, console):
        folder = _folder(demo_recipe(), overrides, arguments.runs, arguments.run)
        console.print(
            f"\nNext: open {folder / 'report.html'}\n"
            f"      concordant chat {folder} --compare base\n"
            f"      concordant run recipes/demo.toml policy.kl_coef=0   (what happens without the KL penalty)",
            markup=False,
            highlight=False,
        )
    return 0


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run or resume a recipe."""
    _run(arguments.recipe, arguments.overrides, arguments.runs, arguments.run, console)
    return 0


def evaluate(arguments: argparse.Namespace, console: Console) -> int:
    """Measure a run's models again, with other settings if some are given."""
    recipe_path, overrides = recipe_of(arguments.run_folder)
    words = [*overrides, *arguments.overrides]
    folder: Path = arguments.run_folder
    for stage in plan(load_recipe(recipe_path, parse_overrides(words)), folder):
        if stage.name != "evaluate" and stage.action != "skip":
            raise UserError(
                f"this would train {stage.name}: {stage.why}",
                where=str(folder),
                expected="finished models, and no overrides but those of [evaluate]",
                fix=_command(recipe_path, words, folder.parent, folder),
            )
    _run(recipe_path, words, folder.parent, folder, console)
    return 0


def plan_only(arguments: argparse.Namespace, console: Console) -> int:
    """Say what would be run and why, and what would be downloaded."""
    recipe = load_recipe(arguments.recipe, parse_overrides(arguments.overrides))
    folder = _folder(arguments.recipe, arguments.overrides, arguments.runs, arguments.run)
    stages = plan(recipe, folder)
    table = Table(title=escape(f"{recipe.name} into {folder}"), title_justify="left")
    for column in ("stage", "action", "why", "folder"):
        table.add_column(column)
    for stage in stages:
        table.add_row(stage.name, stage.action, escape(stage.why), stage.folder.path.name)
    console.print(table)
    for line in (*batch_lines(recipe), *download_lines(recipe)):
        console.print(line, markup=False, highlight=False)
    return 0


def batch_lines(recipe: Recipe) -> list[str]:
    """What each training stage does per optimiser step, as far as the recipe alone says it."""
    lines = []
    for name in ("pretrain", "sft", "reward"):
        section = getattr(recipe, name)
        if section is not None:
            amount = f"{section.steps} steps" if section.steps else f"{section.epochs:g} epochs"
            lines.append(
                f"{name}: {amount} of {section.batch} examples, at most {section.tokens} tokens in one pass, "
                f"lr {section.optimizer.lr:g} {section.optimizer.schedule}"
            )
    if recipe.policy is not None:
        policy = recipe.policy
        lines.append(
            f"policy: {policy.updates} rollouts of {policy.batch} prompts, "
            f"{policy.epochs * policy.minibatches} optimiser steps of "
            f"{policy.batch // policy.minibatches} completions on each, kl_coef {policy.kl_coef:g}"
        )
    return lines


def download_lines(recipe: Recipe) -> list[str]:
    """What a run of this recipe would fetch from the hub, said without asking the hub."""
    from concordant.data.sources import hub_needs
    from concordant.pipeline.context import base_path

    needed = []
    if recipe.model.path and not Path(base_path(recipe)).is_dir():
        needed.append(f"model {recipe.model.path}: weights, configuration and tokenizer")
    sources = (*recipe.data.demonstrations, *recipe.data.preferences, *recipe.data.prompts)
    for source in dict.fromkeys(source.path for source in sources):
        need = hub_needs(source, Path(recipe.data_root))
        if need:
            needed.append(need)
    if not needed:
        return ["Nothing would be downloaded."]
    return [
        "Would be downloaded from the Hugging Face hub, unless it is in the local cache already:",
        *(f"  {n}" for n in needed),
        "Nothing was downloaded or asked for by this command.",
    ]


def demo_recipe() -> Path:
    """The recipe of the demo: in the repository, or inside the installed package."""
    package = Path(str(files("concordant")))
    for folder in (package.parents[1] / "recipes", package / "recipes"):
        if (folder / "demo.toml").is_file():
            return folder / "demo.toml"
    raise UserError("the demo's recipe is missing", where=str(package), fix="install concordant again")


def recipe_of(run_folder: Path) -> tuple[Path, list[str]]:
    """The recipe a run was made from, and its overrides."""
    known = read_json(run_folder / "run.json")
    if known is None or not (run_folder / "recipe.toml").is_file():
        raise UserError(
            "this is not a run directory",
            where=str(run_folder),
            expected="a directory made by `concordant run`, such as runs/demo",
            fix="concordant run RECIPE makes one",
        )
    return run_folder / "recipe.toml", list(known.get("overrides", []))


def run_folder_of(recipe: Recipe, overrides: Mapping[str, Any], runs: Path) -> Path:
    """`runs/NAME`, with the overrides that make it another run in its name."""
    telling = {k: v for k, v in overrides.items() if k not in PLACES and k != "name"}
    parts = [f"{key}={value}" for key, value in sorted(telling.items())]
    name = re.sub(r"[^A-Za-z0-9._=+-]+", "_", "-".join([recipe.name, *parts]))
    if len(name) > LONGEST_NAME:  # two runs must not share a directory because their names begin alike
        name = f"{name[:LONGEST_NAME]}-{sha256_of(telling)[:8]}"
    return runs / name


def _folder(recipe_path: Path, words: Sequence[str], runs: Path, given: Path | None) -> Path:
    overrides = parse_overrides(words)
    return given or run_folder_of(load_recipe(recipe_path, overrides), overrides, runs)


def _command(recipe_path: Path, words: Sequence[str], runs: Path, given: Path | None) -> str:
    """The command line that runs this recipe into this directory, ready to be typed again."""
    place = ["--run", str(given)] if given else [] if runs == Path("runs") else ["--runs", str(runs)]
    return shlex.join(["concordant", "run", str(recipe_path), *words, *place])


def _run(recipe_path: Path, words: Sequence[str], runs: Path, given: Path | None, console: Console) -> bool:
    """Run a recipe into its directory, then write the report; False if the run was stopped before its end."""
    recipe = load_recipe(recipe_path, parse_overrides(words))
    folder = _folder(recipe_path, words, runs, given)
    terminal = Terminal(console)
    terminal.say(f"{recipe.name}: {folder}")
    # Mistakes in the recipe and in the data come before anything is written.
    stages = plan(recipe, folder)
    refuse_foreign(recipe, folder)
    quiet_libraries()
    command = _command(recipe_path, words, runs, given)
    stop = StopRequest()
    try:
        with stop.listening():
            material = prepare(recipe, stages, terminal)
            with locked(folder):
                open_run(recipe, folder, recipe_path.read_text(encoding="utf-8"))
                known = read_json(folder / "run.json") or {}
                write_json(folder / "run.json", known | {"overrides": list(words), "command": command})
                ran = execute(recipe, folder, terminal, stop, material)
    except Interrupted:
        terminal.say(f"stopped; nothing is lost. Go on with: {command}")
        return False
    if not ran and (folder / "report.html").is_file():
        terminal.say("every stage is done; nothing was run")
        return True
    from concordant.app.commands.reporting import summary, write_report

    report = write_report(folder)
    console.print(summary(folder))
    terminal.say(f"report: {report}")
    return True


def quiet_libraries() -> None:
    """Keep the libraries' own notices and bars off the terminal; errors still show.

    The settings are read when the libraries are first imported, which costs seconds and may not be needed.
    """
    import os

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:
        import transformers

        transformers.utils.logging.set_verbosity_error()
