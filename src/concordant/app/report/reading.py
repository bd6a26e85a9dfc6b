"""What a report is made from, read from the directory of a run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from concordant.app.report.source import ReportInput
from concordant.app.runs import recipe_of
from concordant.errors import UserError
from concordant.pipeline.folder import read_json, read_jsonl
from concordant.pipeline.recipe import read_toml


def plain_sibling(run_folder: Path) -> Path | None:
    """The finished run of the same recipe without overrides beside this one, if there is one."""
    known = read_json(run_folder / "run.json") or {}
    if not known.get("overrides"):
        return None
    sibling = run_folder.parent / str(known.get("name"))
    same = sibling.resolve() == run_folder.resolve()
    return sibling if not same and (sibling / "results.json").is_file() else None


def report_input(run_folder: Path, *, measured: bool = True) -> ReportInput:
    """Everything the report reads, from the run directory alone.

    Raises UserError for what is no run directory, and for a run without results unless `measured` is False.
    """
    recipe_of(run_folder)  # says so if this is not a run directory
    results = read_json(run_folder / "results.json")
    if results is None and measured:
        raise UserError(
            "this run has no results yet",
            where=str(run_folder),
            expected="results.json, which the last stage writes",
            fix=f"concordant run {run_folder / 'recipe.toml'} --run {run_folder}",
        )
    stages = [folder for folder in sorted((run_folder / "stages").iterdir()) if folder.is_dir()]
    steps, notices, probes = (
        {folder.name.partition("-")[2]: read_jsonl(folder / name) for folder in stages}
        for name in ("steps.jsonl", "notices.jsonl", "probes.jsonl")
    )
    resolved = run_folder / "resolved.toml"
    answers, unique = _sampled(run_folder)
    return ReportInput(
        name=run_folder.resolve().name,
        recipe=read_toml(resolved) if resolved.is_file() else {},
        results=results or {},
        steps=steps,
        notices=notices,
        samples=(results or {}).get("samples", []),
        answers=answers,
        unique=unique,
        probes=[row for rows in probes.values() for row in rows],
        redteam=read_json(run_folder / "redteam" / "results.json") or {},
        tax=read_json(run_folder / "tax" / "results.json") or {},
    )


def _sampled(run_folder: Path) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """What the evaluate stage sampled on the split that is reported first; and how many texts differ of each prompt
    that was answered many times, by model."""
    rows = [row for file in run_folder.glob("stages/*-evaluate/samples.jsonl") for row in read_jsonl(file)]
    texts: dict[str, dict[Any, list[str]]] = {}
    for row in rows:
        if row.get("split") == "repeated":
            texts.setdefault(str(row["model"]), {}).setdefault(row["draw"], []).append(str(row["text"]))
    unique = {model: [float(len(set(found))) for found in draws.values()] for model, draws in texts.items()}
    return [row for row in rows if row.get("split") == rows[0].get("split")], unique
