"""The report of a run, and the few lines of it that stand on the terminal."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from concordant.app.runs import recipe_of
from concordant.errors import UserError
from concordant.files import write_text
from concordant.pipeline.folder import read_json, read_jsonl
from concordant.pipeline.recipe import read_toml

MODELS = ("base", "sft", "policy", "ideal")


def report(arguments: argparse.Namespace, console: Console) -> int:
    """Write `report.html` into the run directory."""
    path = write_report(arguments.run_folder, arguments.against)
    console.print(summary(arguments.run_folder))
    console.print(f"report: {path}", markup=False, highlight=False)
    return 0


def write_report(run_folder: Path, against: Path | None = None) -> Path:
    """Render the report; without `against`, the run of the same recipe without overrides is compared with."""
    from concordant.app.report.compose import compose
    from concordant.app.report.html import page

    other = against or plain_sibling(run_folder)
    run = report_input(run_folder)
    if other:
        run = replace(run, against=report_input(other))
    path = run_folder / "report.html"
    write_text(path, page(compose(run)))
    return path


def plain_sibling(run_folder: Path) -> Path | None:
    """The finished run of the same recipe without overrides beside this one, if there is one."""
    known = read_json(run_folder / "run.json") or {}
    if not known.get("overrides"):
        return None
    sibling = run_folder.parent / str(known.get("name"))
    same = sibling.resolve() == run_folder.resolve()
    return sibling if not same and (sibling / "results.json").is_file() else None


def report_input(run_folder: Path) -> Any:
    """Everything the report reads, from the run directory alone."""
    from concordant.app.report.source import ReportInput

    recipe_of(run_folder)  # says so if this is not a run directory
    results = read_json(run_folder / "results.json")
    if results is None:
        raise UserError(
            "this run has no results yet",
            where=str(run_folder),
            expected="results.json, which the last stage writes",
            fix=f"concordant run {run_folder / 'recipe.toml'} --run {run_folder}",
        )
    stages = [folder for folder in sorted((run_folder / "stages").iterdir()) if folder.is_dir()]
    steps, notices = (
        {folder.name.partition("-")[2]: read_jsonl(folder / name) for folder in stages}
        for name in ("steps.jsonl", "notices.jsonl")
    )
    resolved = run_folder / "resolved.toml"
    recipe = read_toml(resolved) if resolved.is_file() else {}
    return ReportInput(
        name=run_folder.resolve().name,
        recipe=recipe,
        results=results,
        steps=steps,
        notices=notices,
        samples=results.get("samples", []),
        answers=_answers(run_folder),
    )


def _answers(run_folder: Path) -> list[dict[str, Any]]:
    """What the evaluate stage sampled, on the split that is reported first."""
    rows = [row for file in run_folder.glob("stages/*-evaluate/samples.jsonl") for row in read_jsonl(file)]
    return [row for row in rows if row.get("split") == rows[0].get("split")]


def summary(run_folder: Path) -> Table:
    """The models of a run in one table."""
    results = read_json(run_folder / "results.json") or {}
    models = {name: figures for name, figures in results.get("models", {}).items() if name in MODELS}
    with_gold = any("gold" in figures for figures in models.values())
    table = Table(title=f"{results.get('name')}, seed {results.get('seed')}", title_justify="left")
    for column in (
        "model",
        *(["gold"] if with_gold else []),
        "score",
        "KL",
        "length",
        "unique of 16",
        "ends",
    ):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, figures in models.items():
        gold = [_interval(figures.get("gold"))] if with_gold else []
        unique = figures.get("distinct", {}).get("unique_of_16")
        table.add_row(
            name,
            *gold,
            _interval(figures.get("score")),
            _interval(figures.get("kl")),
            _interval(figures.get("length"), 1),
            "" if unique is None else f"{unique:.2f}",
            f"{figures['eos_rate']['rate']:.0%}",
        )
    lines = [_reward_line(results.get("reward_model")), *map(_alarm, results.get("health", ()))]
    table.caption = "\n".join(line for line in lines if line) or None
    return table


def _interval(mean: dict[str, Any] | None, digits: int = 2) -> str:
    """A mean with half its 95 % interval."""
    if mean is None or mean.get("mean") is None:
        return ""
    error = mean.get("se")
    half = f" ± {1.96 * error:.{digits}f}" if error is not None else ""
    return f"{mean['mean']:z.{digits}f}{half}"


def _reward_line(reward: dict[str, Any] | None) -> str | None:
    if not reward:
        return None
    low, high = reward["accuracy_ci"]
    return (
        f"reward model: accuracy {reward['accuracy']:.3f} [{low:.3f}, {high:.3f}] on {reward['n']} held-out pairs, "
        f"log-loss {reward['log_loss']:.3f} (chance {reward['chance_log_loss']:.3f})"
    )


def _alarm(row: dict[str, Any]) -> str:
    """A figure beyond its bound, in a line; empty for one that is not."""
    if not row["beyond"]:
        return ""
    ends = [
        f"{words} {row[key]:g}"
        for key, words in (("at_least", "at least"), ("at_most", "at most"))
        if row[key] is not None
    ]
    return (
        f"out of bounds: {row['figure']} is {row['value']:.3g}, should be {' and '.join(ends)}: {row['says']}"
    )
