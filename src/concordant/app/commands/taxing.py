"""The alignment tax on the terminal: what each stage scores in tasks, and whether a later one is worse."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from concordant.app.runs import recipe_of
from concordant.app.terminal import Terminal, quiet_libraries
from concordant.errors import UserError
from concordant.evaluation.intervals import Mean
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.lock import locked
from concordant.pipeline.recipe import load_recipe, parse_overrides

if TYPE_CHECKING:
    from concordant.pipeline.tax import Tax


def tax(arguments: argparse.Namespace, console: Console) -> int:
    """Ask the stages of a run tasks and print what each scores."""
    _check(arguments)
    recipe_path, words = recipe_of(arguments.run_folder)
    recipe = load_recipe(recipe_path, parse_overrides(words))
    quiet_libraries()
    from concordant.pipeline.tax import FOLDER, Order, tax_stages

    order = Order(
        tuple(dict.fromkeys(arguments.tasks)),
        include=str(arguments.include or ""),
        most=arguments.limit,
        chat=arguments.chat,
        margin=arguments.margin,
    )
    folder = arguments.run_folder / FOLDER
    terminal = Terminal(console)
    try:
        with locked(folder, terminal.say), StopRequest().listening() as stop:
            found = tax_stages(recipe, arguments.run_folder, arguments.stages, order, terminal, stop=stop)
    except Interrupted:
        terminal.say("stopped; the same command goes on from here")
        return 0
    console.print(table(found))
    terminal.say(f"documents: {folder}/*/samples.jsonl, figures: {folder / 'results.json'}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.limit is not None and arguments.limit < 1:
        raise _refused(f"--limit {arguments.limit}", "1 or more", "leave --limit out")
    if not arguments.margin >= 0:
        raise _refused(f"--margin {arguments.margin}", "0 or more", "leave --margin out")
    if arguments.include is not None and not arguments.include.is_dir():
        raise _refused(f"--include {arguments.include}", "a folder of tasks (YAML)", "check the name")


def _refused(what: str, expected: str, fix: str) -> UserError:
    return UserError(what, where="the command line", expected=expected, fix=fix)


def table(found: Tax) -> Table:
    """One line for each metric of a task: what the stages score, and the last one against the one before it."""
    stages = list(next(iter(found.outcomes.values())))
    pair = f"{stages[-1]}_minus_{stages[-2]}" if stages[1:] else ""
    drawn = Table(title="tasks: mean ± 95 %", title_justify="left", box=SIMPLE)
    drawn.add_column("task, metric", no_wrap=True)
    for column in (*stages, "n"):
        drawn.add_column(column, justify="right")
    if pair:
        drawn.add_column(f"{stages[-1]} less {stages[-2]}", justify="right", no_wrap=True)
        drawn.add_column()
    for task, outcomes in found.outcomes.items():
        figures = {stage: outcome.figures() for stage, outcome in outcomes.items()}
        changes = found.changes[task].get(pair, {})
        for metric, row in figures[stages[-1]].items():
            scores = [_score(figures[stage][metric]) for stage in stages]
            change = _change(changes.get(metric)) if pair else ()
            drawn.add_row(f"{task}, {metric}", *scores, str(row.get("n", "")), *change)
    drawn.caption = f"not worse: by less than {found.margin:g}; perplexities are in nats for a word or byte"
    return drawn


def _score(row: Mapping[str, Any]) -> str:
    """A mean over documents; of other metrics what the benchmark reports."""
    if "mean" not in row:
        return "–" if row["reported"] is None else f"{row['reported']:.3f}"
    half = f" ± {Mean.from_dict(row).half:.3f}" if row["se"] is not None else ""
    return f"{row['mean']:.3f}{half}"


def _change(row: Mapping[str, Any] | None) -> tuple[str, str]:
    """By how much, and what that means."""
    if row is None:
        return "", ""
    interval = f" [{row['low']:+z.3f}, {row['high']:+z.3f}]" if row["low"] is not None else ""
    return f"{row['mean']:+z.3f}{interval}", row["verdict"]
