"""demo, run and evaluate."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from concordant.app.runs import demo_recipe, folder_of, recipe_of
from concordant.app.terminal import Terminal, quiet_libraries
from concordant.errors import UserError
from concordant.files import write_json
from concordant.pipeline.folder import read_json
from concordant.pipeline.gate import decide_run
from concordant.pipeline.interrupt import Interrupted, PausedByMonitor, StopRequest, WaitingForPeople
from concordant.pipeline.lock import locked
from concordant.pipeline.plan import plan
from concordant.pipeline.recipe import Recipe, load_recipe, parse_overrides
from concordant.pipeline.run import execute, open_run, prepare, refuse_foreign
from concordant.pipeline.trackers.process import Following


def demo(arguments: argparse.Namespace, console: Console) -> int:
    """The embedded world end to end."""
    overrides = list(arguments.overrides)
    if arguments.seed:
        overrides.append(f"seed={arguments.seed}")
    if _run(demo_recipe(), overrides, arguments.runs, arguments.run, console):
        folder = folder_of(demo_recipe(), overrides, arguments.runs, arguments.run)
        console.print(
            f"\nNext: open {folder / 'report.html'}\n"
            f"      concordant chat {folder} --compare base\n"
            f"      concordant run recipes/demo.toml policy.kl_coef=0   (what happens without the KL penalty)\n"
            f"      concordant label {folder}                        (be a labeler yourself)\n"
            f"      concordant run recipes/demo.toml feedback.source=human+simulated   (and train on your votes)",
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


def _command(recipe_path: Path, words: Sequence[str], runs: Path, given: Path | None) -> str:
    """The command line that runs this recipe into this directory, ready to be typed again."""
    place = ["--run", str(given)] if given else [] if runs == Path("runs") else ["--runs", str(runs)]
    return shlex.join(["concordant", "run", str(recipe_path), *words, *place])


def _run(recipe_path: Path, words: Sequence[str], runs: Path, given: Path | None, console: Console) -> bool:
    """Run a recipe with overrides into its directory; False if the run was stopped before its end."""
    recipe = load_recipe(recipe_path, parse_overrides(words))
    folder = folder_of(recipe_path, words, runs, given)
    command = _command(recipe_path, words, runs, given)
    return run_recipe(recipe, recipe_path.read_text(encoding="utf-8"), folder, words, command, console)


def run_recipe(
    recipe: Recipe, text: str, folder: Path, words: Sequence[str], command: str, console: Console
) -> bool:
    """Run a recipe, then write the report; False if the run was stopped before its end.

    `text` and the overrides `words` are what the recipe was read from, `command` what to type to go on.
    """
    terminal = Terminal(console)
    with Following(recipe.track, folder, terminal.say) as following:
        return _run_followed(recipe, text, folder, words, command, terminal, following)


def _run_followed(
    recipe: Recipe,
    text: str,
    folder: Path,
    words: Sequence[str],
    command: str,
    terminal: Terminal,
    following: Following,
) -> bool:
    """See `run_recipe`; the trackers of the recipe, if it has any, are told from the first stage to the report."""
    terminal.say(f"{recipe.name}: {folder}")
    # Mistakes in the recipe and in the data come before anything is written.
    stages = plan(recipe, folder)
    refuse_foreign(recipe, folder)
    quiet_libraries()
    stop = StopRequest()
    try:
        with stop.listening():
            material = prepare(recipe, stages, terminal)
            with locked(folder, terminal.say):
                open_run(recipe, folder, text)
                known = read_json(folder / "run.json") or {}
                write_json(folder / "run.json", known | {"overrides": list(words), "command": command})
                following.begin()
                ran = execute(recipe, folder, terminal, stop, material)
    except (WaitingForPeople, PausedByMonitor) as waiting:
        terminal.say(f"{waiting}. Answer them with: {shlex.join(['concordant', 'label', str(folder)])}")
        terminal.say(f"then go on with: {command}")
        return False
    except Interrupted:
        terminal.say(f"stopped; nothing is lost. Go on with: {command}")
        return False
    if not ran and (folder / "report.html").is_file():
        terminal.say("every stage is done; nothing was run")
        return True
    from concordant.app.commands.reporting import summary, write_report

    report = write_report(folder)
    terminal.console.print(summary(folder))
    if recipe.gate is not None:
        from concordant.app.verdicts import sentences

        for line in sentences(*decide_run(recipe, folder)):
            terminal.say(line)
    _tell_gaming(folder, terminal)
    terminal.say(f"report: {report}")
    return True


def _tell_gaming(folder: Path, terminal: Terminal) -> None:
    """Whether the reward was gamed, with samples of how."""
    from concordant.app.gaming import gaming, shown

    results = read_json(folder / "results.json") or {}
    for line in gaming(results):
        terminal.say(line)
    if exploits := results.get("exploits"):
        for line in shown(exploits):
            terminal.say(f"  {line}")
