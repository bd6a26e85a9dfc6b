"""gate and wins: whether a run may be released, and who beats whom."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from concordant.app.gaming import gaming
from concordant.app.runs import recipe_of
from concordant.app.verdicts import sentences, status
from concordant.errors import UserError
from concordant.pipeline.context import store_address
from concordant.pipeline.duels import between_runs, with_people
from concordant.pipeline.folder import read_json
from concordant.pipeline.gate import decide_run
from concordant.pipeline.recipe import Recipe, load_recipe, parse_overrides

Row = Mapping[str, Any]


def gate(arguments: argparse.Namespace, console: Console) -> int:
    """Say whether the policy of a run may be released; the status is 0 for GO, 1 for NO-GO, 3 where data lack."""
    decision, row = decide_run(_recipe(arguments.run_folder), arguments.run_folder)
    results = read_json(arguments.run_folder / "results.json") or {}
    for line in (*sentences(decision, row), *gaming(results)):
        console.print(line, markup=False, highlight=False)
    return status(decision)


def wins(arguments: argparse.Namespace, console: Console) -> int:
    """Print win rates and boards of the stages of a run, or of several runs together."""
    folders: Sequence[Path] = arguments.run_folders
    recipes = [_recipe(folder) for folder in folders]
    if len(folders) == 1:
        results = with_people(_results(folders[0]), store_address(recipes[0], folders[0]), folders[0])
    else:
        results = between_runs(folders, "sft" if recipes[0].sft else "base")
    if results["win_rates"]:
        console.print(rate_table(results["win_rates"]))
    for board in results["leaderboards"]:
        console.print(board_table(board))
    return 0


def _recipe(run_folder: Path) -> Recipe:
    path, words = recipe_of(run_folder)
    return load_recipe(path, parse_overrides(words))


def _results(run_folder: Path) -> dict[str, Any]:
    results = read_json(run_folder / "results.json") or {}
    if "win_rates" not in results:
        raise UserError(
            "the models of this run have not been compared",
            where=str(run_folder),
            expected="results.json with win rates, which the evaluate stage writes",
            fix=f"concordant evaluate {run_folder}",
        )
    return results


def rate_table(rows: Sequence[Row]) -> Table:
    """How often the second of every two models beats the first, by who decides."""
    table = Table(title="Win rates, ties as one half, with 95 % intervals", title_justify="left")
    for heading in (
        "by",
        "does",
        "beat",
        "win rate",
        "at all times",
        "at equal lengths",
        "prompts",
        "ties",
        "detects",
    ):
        table.add_column(heading, justify="left" if heading in ("by", "does", "beat") else "right")
    for row in rows:
        even = row["length_controlled"]
        table.add_row(
            row["by"],
            row["second"],
            row["first"],
            _interval(row["rate"], row["low"], row["high"]),
            "{:.3f}–{:.3f}".format(*row["always"]),
            _interval(even["rate"], even["low"], even["high"]) if even else "",
            f"{row['n']:,}",
            f"{row['ties'] / row['n']:.0%}",
            f"{row['detectable']:.3f}" if row["detectable"] else "nothing",
        )
    table.caption = (
        "detects: the smallest win rate that so many prompts tell from one half in 80 of 100 cases"
    )
    return table


def board_table(board: Row) -> Table:
    """The board of one who decides."""
    table = Table(title=f"Board by {board['by']}; {board['anchor']} has 1000 points", title_justify="left")
    for heading in ("model", "points", "best rank"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in board["standings"]:
        table.add_row(
            row["model"], f"{row['rating']:.0f} [{row['low']:.0f}, {row['high']:.0f}]", str(row["rank_bound"])
        )
    table.caption = board["missing"] or None
    return table


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
