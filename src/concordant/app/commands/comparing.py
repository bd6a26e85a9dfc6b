"""compare: the algorithms of a recipe, each over several seeds, in one table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from concordant.app.commands.running import run_recipe
from concordant.errors import UserError
from concordant.evaluation.comparison import Way
from concordant.evaluation.comparison import compare as ways_of
from concordant.files import write_json, write_text
from concordant.pipeline.folder import read_json
from concordant.pipeline.plan import plan
from concordant.pipeline.recipe import (
    Recipe,
    load_recipe,
    make_recipe,
    parse_overrides,
    read_toml,
    with_overrides,
)
from concordant.pipeline.toml import to_toml

COLUMNS = {
    "gold": "gold",
    "helpful": "helpful",
    "honest": "honest",
    "harmless": "harmless",
    "concise": "concise",
    "score": "score",
    "kl": "KL",
    "length": "length",
    "unique_of_16": "unique of 16",
    "seconds": "seconds",
    "peak_mb": "peak MB",
}


def compare(arguments: argparse.Namespace, console: Console) -> int:
    """Run every algorithm of `[compare]` for every seed, then write one table."""
    overrides = parse_overrides(arguments.overrides)
    recipe = load_recipe(arguments.recipe, overrides)
    names = names_of(recipe, arguments.only, f"{arguments.recipe}: [compare]")
    refuse_idle(overrides)
    folder: Path = arguments.runs / recipe.name
    variants = {
        (seed, name): variant_of(arguments.recipe, overrides, recipe, name, seed)
        for seed in arguments.seeds
        for name in names
    }
    # A mistake in the last one is told before the first runs.
    for (seed, name), (variant, _) in variants.items():
        plan(variant, folder / f"seed{seed}-{name}")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for (seed, name), (variant, text) in variants.items():
        run_folder = folder / f"seed{seed}-{name}"
        command = f"concordant run {run_folder / 'recipe.toml'} --run {run_folder}"
        if not run_recipe(variant, text, run_folder, (), command, console):
            return 0
        found[name].append(read_json(run_folder / "results.json") or {})
    ways = ways_of(found)
    rows = [way.as_dict() for way in ways]
    write_json(folder / "comparison.json", {"seeds": arguments.seeds, "ways": rows})
    write_text(folder / "comparison.md", markdown(ways, arguments.seeds))
    console.print(table(ways))
    console.print(f"table: {folder / 'comparison.md'}", markup=False, highlight=False)
    return 0


def names_of(recipe: Recipe, only: Sequence[str], where: str) -> list[str]:
    """The ways to be compared: all of `[compare]`, or those asked for."""
    known = ", ".join(recipe.compare)
    for name in only:
        if name not in recipe.compare:
            raise UserError(
                f"there is nothing called {name!r} to compare",
                where=where,
                expected=known,
                fix="give one of these to --only",
            )
    if not recipe.compare:
        raise UserError(
            "there is nothing to compare",
            where=where,
            expected="sections such as [compare.dpo] with the keys of [policy]",
            fix="add such sections, or use recipes/compare.toml",
        )
    return list(only or recipe.compare)


def refuse_idle(overrides: dict[str, Any]) -> None:
    """Raise for overrides that every way replaces by its own."""
    idle = [key for key in overrides if key == "seed" or key.startswith("policy.")]
    if idle:
        raise UserError(
            f"{idle[0]} would change nothing here",
            where="the command line",
            expected="keys of what all ways share, or compare.NAME.KEY",
            fix="use --seeds for seeds, and compare.NAME.KEY=VALUE for one of the ways",
        )


def variant_of(
    path: Path, overrides: dict[str, Any], recipe: Recipe, name: str, seed: int
) -> tuple[Recipe, str]:
    """The recipe with one way of `[compare]` as its policy, and its text, which can be run by itself."""
    values = with_overrides(read_toml(path), overrides)
    policies = values.pop("compare")
    values |= {"policy": policies[name], "seed": seed, "name": f"{recipe.name}-{name}"}
    return make_recipe(values, where=f"{path}: [compare.{name}]"), to_toml(values)


BRIEF = ("gold", "score", "kl", "length", "seconds")  # as many as fit on a terminal


def headings(columns: Sequence[str]) -> list[str]:
    """The head of the table."""
    return ["algorithm", *(COLUMNS[name] for name in columns), "gain in s.e., worst seed"]


def cells(way: Way, columns: Sequence[str]) -> list[str]:
    """A row of the table."""
    gain = "" if way.least_gain is None else f"{way.least_gain:.1f}"
    figures = [way.figures.get(name) for name in columns]
    return [way.name, *("" if figure is None else str(figure) for figure in figures), gain]


def markdown(ways: Sequence[Way], seeds: Sequence[int]) -> str:
    """The table for a page."""
    lines = [
        f"Means over the seeds {', '.join(map(str, seeds))} with 95 % intervals (Student's t over seeds).",
        "",
        f"| {' | '.join(headings(list(COLUMNS)))} |",
        f"|---{'|--:' * (len(COLUMNS) + 1)}|",
        *(f"| {' | '.join(cells(way, list(COLUMNS)))} |" for way in ways),
    ]
    return "\n".join(lines) + "\n"


def table(ways: Sequence[Way]) -> Table:
    """The table for a terminal."""
    shown = Table(title="comparison", title_justify="left")
    for number, heading in enumerate(headings(BRIEF)):
        shown.add_column(heading, justify="right" if number else "left")
    for way in ways:
        shown.add_row(*cells(way, BRIEF))
    return shown
