"""What a run would do and need, without doing it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from concordant.app.runs import folder_of
from concordant.app.terminal import quiet_libraries
from concordant.data.sources import hub_needs
from concordant.pipeline.context import base_path
from concordant.pipeline.forecast.amounts import Amount, Range, in_bytes
from concordant.pipeline.forecast.disk import DiskNeed
from concordant.pipeline.forecast.forecast import Forecast, forecast
from concordant.pipeline.forecast.work import Work
from concordant.pipeline.origins import Value
from concordant.pipeline.recipe import Recipe, load_recipe, parse_overrides
from concordant.train.config import ScoredConfig

MANY = 100_000  # from here on what is not exact is told in millions


def plan_only(arguments: argparse.Namespace, console: Console) -> int:
    """Say what would be run and why, with which values, what it would need, and what would be downloaded."""
    overrides = parse_overrides(arguments.overrides)
    recipe = load_recipe(arguments.recipe, overrides)
    folder = folder_of(arguments.recipe, arguments.overrides, arguments.runs, arguments.run)
    text = arguments.recipe.read_text(encoding="utf-8")
    if arguments.probe:
        quiet_libraries()
    found = forecast(recipe, folder, text, overrides, probe=arguments.probe)
    if arguments.json:
        told = found.as_dict() | {"downloads": downloads(recipe)}
        console.print(json.dumps(told, indent=2), markup=False, highlight=False, soft_wrap=True)
        return 0
    console.print(stage_table(found))
    console.print(value_table(found.values, arguments.recipe, every=arguments.values))
    if found.works:
        console.print(batch_table(found.works))
    if found.measured or found.skipped:
        console.print(probe_table(found))
    for line in (
        *data_lines(found),
        *memory_lines(found),
        *disk_lines(found.disk, found.folder, known=found.size is not None),
        *download_lines(recipe),
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def stage_table(found: Forecast) -> Table:
    """Which stages are run, and why."""
    table = Table(title=escape(f"{found.recipe.name} into {found.folder}"), title_justify="left")
    for column in ("stage", "action", "why", "folder"):
        table.add_column(column)
    for stage in found.stages:
        table.add_row(stage.name, stage.action, escape(stage.why), stage.folder.path.name)
    return table


def value_table(values: Sequence[Value], recipe: Path, *, every: bool) -> Table:
    """Values in force and where each comes from; without `every` those that no default in general decides."""
    shown = [value for value in values if every or value.origin != "default"]
    left = len(values) - len(shown)
    title = "Values" if every else f"Values that are no defaults ({left} others are: --values)"
    table = _plain(title, "value", "", "from")
    algorithm = next((value.value for value in values if value.key == "policy.algorithm"), "")
    for value in shown:
        origin = {
            "recipe": f"{recipe.name}:{value.line}" if value.line else recipe.name,
            "override": "the command line",
            "hardware": "this machine",
            "algorithm": f"default of {algorithm}",
            "default": "default",
        }[value.origin]
        table.add_row(escape(value.key), escape(json.dumps(value.value, ensure_ascii=False)), escape(origin))
    return table


def batch_table(works: Sequence[Work]) -> Table:
    """What each stage does per optimiser step, how often, and on how many tokens."""
    table = _plain(
        "Batches", "stage", "optimiser steps", "each of", "a pass", "learning rate", "tokens in all"
    )
    for work in works:
        settings = work.settings
        table.add_row(
            _titled(work),
            _steps(work),
            f"{work.batch} {work.unit}" if settings else "",
            f"{settings.tokens:,} tokens" if settings else "",
            _rate(settings) if settings else "",
            ", ".join(f"{name} {_number(amount)}" for name, amount in work.spent.items()),
        )
    return table


def _titled(work: Work) -> str:
    return f"{work.stage}: {work.objective}" if work.stage != work.objective else work.stage


def _steps(work: Work) -> str:
    if work.settings is None:
        return ""
    steps = _number(work.steps)
    if not work.rollouts:
        return steps
    what = "rollouts" if work.unit == "completions" else "rounds"
    kind = f"{work.rollouts} {what} of {work.completions} completions, {work.updates:g} on each"
    if isinstance(work.settings, ScoredConfig) and getattr(work.settings, "group", 1) > 1:
        kind += f", groups of {work.settings.group}"  # type: ignore[attr-defined]
    return f"{steps} ({kind})"


def _rate(settings: Any) -> str:
    optimizer = settings.optimizer
    warmup = f", {optimizer.warmup} of warm-up" if optimizer.warmup else ""
    return f"{optimizer.lr:g} {optimizer.schedule}{warmup}"


def probe_table(found: Forecast) -> Table:
    """Time and memory of the stages as measured."""
    table = _plain(f"Probe on {found.machine}", "stage", "time", "peak memory", "not covered")
    for work in found.making:
        measured = found.measured.get(work.stage)
        if measured is None:
            table.add_row(work.stage, "not measured", "", found.skipped.get(work.stage, ""))
            continue
        table.add_row(
            work.stage,
            _range(measured.seconds, duration),
            _range(measured.memory, in_bytes),
            "; ".join(measured.notes),
        )
    whole = sum((one.seconds for one in found.measured.values()), start=Range(0, 0, 0))
    table.add_row("together", _range(whole, duration), "", "starting, reading data, logs")
    return table


def data_lines(found: Forecast) -> Iterator[str]:
    """How sure the amounts are."""
    if found.look.measured:
        yield (
            f"Tokens are an estimate from the lengths of {found.look.measured:,} rows, counted by "
            f"{found.look.counting}; completions are taken to be as long as the answers of the data."
        )
    if any(work.settings is not None and (work.steps is None or not work.shapes) for work in found.works):
        yield "What is not known here depends on data that would be downloaded first."


def memory_lines(found: Forecast) -> Iterator[str]:
    """What analysis alone says of memory."""
    if found.size is None:
        yield (
            f"Parameters, memory and disk cannot be known without the configuration of {found.recipe.model.path}, "
            "which is not here."
        )
        return
    about = "" if found.size.exact else "about "
    yield f"The model has {about}{found.size.parameters:,} parameters. Held at once, beside activations:"
    for work in found.making:
        parts = found.memory[work.stage]
        told = ", ".join(f"{name} {in_bytes(number)}" for name, number in parts.items())
        yield f"  {work.stage}: {in_bytes(sum(parts.values()))} ({told})"
    if not found.measured and found.making:
        yield "Time, and memory with activations, are measured in some seconds by --probe."


def disk_lines(disk: DiskNeed, folder: Path, *, known: bool) -> Iterator[str]:
    """What is written, beside what is free."""
    if not disk.most:
        return
    parts = [f"votes, answers and logs about {in_bytes(disk.logs)}"]
    if known:
        parts = [f"models {in_bytes(disk.models)}", f"checkpoints up to {in_bytes(disk.checkpoints)}", *parts]
    yield f"Disk: {', '.join(parts)}; {in_bytes(disk.free)} are free at {folder}."
    if disk.too_little:
        yield f"WARNING: that is too little: {in_bytes(disk.most)} are needed at one time."


def downloads(recipe: Recipe) -> list[str]:
    """What a run of this recipe would fetch from the hub, found without asking the hub."""
    needed = []
    if recipe.model.path and not Path(base_path(recipe)).is_dir():
        needed.append(f"model {recipe.model.path}: weights, configuration and tokenizer")
    sources = [source for some in recipe.data.sources.values() for source in some]
    for source in dict.fromkeys(source.path for source in sources):
        need = hub_needs(source, Path(recipe.data_root))
        if need:
            needed.append(need)
    return needed


def download_lines(recipe: Recipe) -> list[str]:
    """The same in words."""
    needed = downloads(recipe)
    if not needed:
        return ["Nothing would be downloaded."]
    return [
        "Would be downloaded from the Hugging Face hub, unless it is in the local cache already:",
        *(f"  {n}" for n in needed),
        "Nothing was downloaded or asked for by this command.",
    ]


def _plain(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _number(amount: Amount | None) -> str:
    if amount is None:
        return "unknown"
    if amount.sure and amount.number >= MANY:
        return f"{amount.sure} {amount.number / 1e6:,.2f} M"
    return f"{amount.sure} {amount.number:,.0f}".strip()


def _range(estimate: Range, told: Any) -> str:
    return f"about {told(estimate.middle)} ({told(estimate.low)} to {told(estimate.high)})"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
