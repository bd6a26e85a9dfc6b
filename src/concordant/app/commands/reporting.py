"""The report of a run, and the few lines of it that stand on the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from concordant.files import write_text
from concordant.pipeline.folder import read_json
from concordant.pipeline.recipe import read_toml

if TYPE_CHECKING:
    from concordant.app.report.document import Report

MODELS = ("base", "sft", "policy", "ideal")


def report(arguments: argparse.Namespace, console: Console) -> int:
    """Write the report of a run into its directory, or of several runs beside the first of them."""
    folders: Sequence[Path] = arguments.run_folders
    if len(folders) == 1:
        path = write_report(folders[0], arguments.format)
        console.print(summary(folders[0]))
    else:
        path = write_comparison(folders, arguments.format)
    console.print(f"report: {path}", markup=False, highlight=False)
    return 0


def write_report(run_folder: Path, form: str = "html") -> Path:
    """Write the report; the run of the same recipe without overrides is compared with, where it was measured alike."""
    from concordant.app.report.compose import compose
    from concordant.app.report.reading import plain_sibling, report_input
    from concordant.app.report.sections.several import unlike

    sibling = plain_sibling(run_folder)
    run = report_input(run_folder)
    other = report_input(sibling) if sibling else None
    if other and not unlike(run, other):
        run = replace(run, against=other)
    return _written(compose(run), form, run_folder / "report")


def write_comparison(run_folders: Sequence[Path], form: str = "html") -> Path:
    """Write one page about several runs."""
    from concordant.app.report.compose import compose_several
    from concordant.app.report.reading import report_input

    runs = [report_input(folder) for folder in run_folders]
    report = compose_several(runs, partial(_duels, run_folders))
    return _written(report, form, run_folders[0].resolve().parent / "comparison")


def _duels(run_folders: Sequence[Path]) -> Mapping[str, Any]:
    from concordant.pipeline.duels import between_runs

    recipe = read_toml(run_folders[0] / "recipe.toml")
    return between_runs(run_folders, "sft" if "sft" in recipe else "base")


def _written(report: Report, form: str, stem: Path) -> Path:
    from concordant.app.report.html import page
    from concordant.app.report.json_form import as_json
    from concordant.app.report.markdown import markdown

    write: Callable[[Report], str] = {"html": page, "md": markdown, "json": as_json}[form]
    path = stem.with_name(f"{stem.name}.{form}")
    write_text(path, write(report))
    return path


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
    from concordant.evaluation.intervals import Mean

    half = f" ± {Mean.from_dict(mean).half:.{digits}f}" if mean.get("se") is not None else ""
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
