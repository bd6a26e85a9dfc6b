"""Copying a model of a run out, with a card that says what it is."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from concordant.app.runs import recipe_of, stage_model
from concordant.errors import UserError
from concordant.files import fresh_folder
from concordant.pipeline.context import base_path
from concordant.pipeline.folder import read_json
from concordant.pipeline.recipe import load_recipe, parse_overrides


def export(arguments: argparse.Namespace, console: Console) -> int:
    """Copy the stage's transformers folder and write README.md beside it."""
    destination: Path = arguments.destination
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UserError(
            "the destination is not an empty folder",
            where=str(destination),
            expected="a new folder",
            fix="name another",
        )
    recipe_path, overrides = recipe_of(arguments.run_folder)
    recipe = load_recipe(recipe_path, parse_overrides(overrides))
    source = Path(stage_model(arguments.run_folder, arguments.stage, base_path(recipe)))
    if not source.is_dir():
        raise UserError(
            f"{arguments.stage} is a model on the hub; there is nothing of this run to export",
            where=str(source),
            expected="a stage that was trained here",
            fix="name one with --stage, such as --stage sft",
        )
    results = read_json(arguments.run_folder / "results.json") or {}
    with fresh_folder(destination) as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True)
        (fresh / "README.md").write_text(model_card(arguments.stage, results), encoding="utf-8")
    kind = (
        "AutoModelForSequenceClassification (one label: the score)"
        if arguments.stage == "reward"
        else "AutoModelForCausalLM"
    )
    console.print(f"{destination} loads with {kind}.from_pretrained", markup=False, highlight=False)
    return 0


def model_card(stage: str, results: dict[str, Any]) -> str:
    """What a reader of the model folder should know, from the run's results."""
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {'text-classification' if stage == 'reward' else 'text-generation'}",
        "tags: [rlhf, concordant]",
        "---",
        "",
        f"# {results.get('name', 'model')}: {stage}",
        "",
        f"Made by concordant {results.get('versions', {}).get('concordant', '')}, seed {results.get('seed')}.",
        "",
    ]
    if stage == "reward":
        lines += _reward_card(results.get("reward_model") or {})
    else:
        lines += _policy_card(results.get("models", {}).get(stage) or {})
    lines += ["", "## Limits", "", *_limits(results)]
    return "\n".join(lines) + "\n"


def _reward_card(figures: dict[str, Any]) -> list[str]:
    if not figures:
        return ["Not evaluated yet."]
    low, high = figures["accuracy_ci"]
    return [
        f"- accuracy on {figures['n']} held-out pairs: {figures['accuracy']:.3f} (95 % {low:.3f} to {high:.3f})",
        f"- log-loss {figures['log_loss']:.3f}; a coin has {figures['chance_log_loss']:.3f}",
        f"- calibration error {figures['ece']:.3f}",
    ]


def _policy_card(figures: dict[str, Any]) -> list[str]:
    if not figures:
        return ["Not evaluated yet."]
    rows = ["| figure | mean | standard error | n |", "|---|---|---|---|"]
    for name in ("gold", "score", "kl", "length"):
        if name in figures:
            mean = figures[name]
            error = "" if mean["se"] is None else f"{mean['se']:.3f}"
            rows.append(f"| {name} | {mean['mean']:.3f} | {error} | {mean['n']} |")
    return rows


def _limits(results: dict[str, Any]) -> list[str]:
    votes = (results.get("feedback") or {}).get("live_votes")
    labelers = ", ".join((results.get("feedback") or {}).get("labeler_names", []))
    lines = [f"- Preferences: {votes} votes by {labelers}."] if votes else []
    if results.get("world"):
        lines.append(
            "- Trained and measured in an embedded world with simulated labelers: a demonstration, not a product."
        )
    return [
        *lines,
        "- The score of the reward model is no evidence of quality: the policy was optimised for it.",
    ]
