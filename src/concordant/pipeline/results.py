"""`results.json`: the figures of the evaluation, what the gate says of them, and what everything cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from concordant.files import write_json
from concordant.pipeline.context import store_address
from concordant.pipeline.folder import read_json
from concordant.pipeline.gate import gate_row, judged_by
from concordant.pipeline.plan import Planned
from concordant.pipeline.provenance import versions
from concordant.pipeline.recipe import Recipe

RESULTS_SCHEMA = 1


def write_results(recipe: Recipe, run_folder: Path, stages: list[Planned]) -> None:
    """Write `results.json`: the figures of the evaluation, what the gate says of them, and what everything cost."""
    done = {stage.name: stage.folder.finished() or {} for stage in stages}
    facts = {name: dict(stage.get("facts", {})) for name, stage in done.items()}
    figures = facts.pop("evaluate", {})
    before = figures.pop("gate_before", None)
    results = {
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
        "memory_mb": _peaks(done, "rss"),
        "device_memory_mb": _peaks(done, "device"),
        "peak_rss_mb": round(max((s.get("peak_mb", {}).get("rss", 0.0) for s in done.values()), default=0)),
        **figures,
        "stages": facts,
        "machine": next((s["machine"] for s in done.values() if "machine" in s), ""),
        "threads": next((s["threads"] for s in done.values() if "threads" in s), None),
        "versions": versions(),
    }
    if figures:
        from concordant.pipeline.duels import with_people
        from concordant.pipeline.tax import with_tax

        results = with_tax(with_people(results, store_address(recipe, run_folder), run_folder), run_folder)
        hashes = judged_by(run_folder, recipe.gate)
        if recipe.gate is not None:
            results["gate"] = gate_row(recipe.gate, results, before, hashes)
    write_json(run_folder / "results.json", results)


def _peaks(done: Mapping[str, Mapping[str, Any]], kind: str) -> dict[str, int]:
    """Peak memory of each stage that measured this kind of it."""
    found = {name: stage.get("peak_mb", {}).get(kind) for name, stage in done.items()}
    return {name: round(peak) for name, peak in found.items() if peak is not None}


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
