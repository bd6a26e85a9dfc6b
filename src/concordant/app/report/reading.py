"""What a report is made from, read from the directory of a run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from concordant.app.report.source import ReportInput
from concordant.app.runs import recipe_of
from concordant.errors import UserError
from concordant.pipeline.afterwards import same_models
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
    stages = [folder for folder in sorted(run_folder.glob("stages/*")) if folder.is_dir()]
    steps, notices, probes = (
        {folder.name.partition("-")[2]: read_jsonl(folder / name) for folder in stages}
        for name in ("steps.jsonl", "notices.jsonl", "probes.jsonl")
    )
    resolved = run_folder / "resolved.toml"
    answers, unique = _sampled(run_folder)
    (redteam, old_attacks), (tax, old_tasks) = (
        _of_these_models(run_folder, *of) for of in (("redteam", "sets"), ("tax", "tasks"))
    )
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
        redteam=redteam,
        tax=tax,
        outdated=(*old_attacks, *old_tasks),
    )


def _of_these_models(run_folder: Path, command: str, parts: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a command found of the models that the run has now, and the names of what it found of earlier ones."""
    results = read_json(run_folder / command / "results.json") or {}
    found = results.get(parts) or {}
    same = {name: one for name, one in found.items() if same_models(run_folder, one.get("models") or {})}
    old = tuple(f"{name} ({command})" for name in found if name not in same)
    return ({**results, parts: same} if same else {}), old


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
