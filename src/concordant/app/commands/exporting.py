"""Cards of models, and copying a model of a run out with its card."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.console import Console

from concordant.app.runs import recipe_of, stage_model
from concordant.errors import UserError
from concordant.files import fresh_folder, write_text
from concordant.pipeline.context import base_path
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
    with fresh_folder(destination) as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True)
        words = model_card(arguments.run_folder, arguments.stage, arguments.license)
        (fresh / "README.md").write_text(words, encoding="utf-8")
    kind = (
        "AutoModelForSequenceClassification (one label: the score)"
        if arguments.stage == "reward"
        else "AutoModelForCausalLM"
    )
    console.print(f"{destination} loads with {kind}.from_pretrained", markup=False, highlight=False)
    return 0


def card(arguments: argparse.Namespace, console: Console) -> int:
    """Write the card of a stage's model into the run directory."""
    path = arguments.run_folder / f"card-{arguments.stage}.md"
    write_text(path, model_card(arguments.run_folder, arguments.stage, arguments.license))
    console.print(f"card: {path}", markup=False, highlight=False)
    return 0


def model_card(run_folder: Path, stage: str, license_id: str) -> str:
    """What a reader of the model folder should know; of a run without results, what its recipe says."""
    from concordant.app.report.cards.write import card as written
    from concordant.app.report.reading import report_input

    return written(report_input(run_folder, measured=False), stage, license_id)
