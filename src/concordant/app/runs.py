"""Where runs lie: which directory belongs to a recipe, and which recipe and models a directory holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from concordant.errors import UserError
from concordant.files import sha256_of
from concordant.pipeline.context import STORE
from concordant.pipeline.folder import read_json
from concordant.pipeline.recipe import PLACES, Recipe, load_recipe, parse_overrides

LONGEST_NAME = 180  # characters; file systems take 255 bytes


def demo_recipe() -> Path:
    """The recipe of the demo: in the repository, or inside the installed package."""
    package = Path(str(files("concordant")))
    for folder in (package.parents[1] / "recipes", package / "recipes"):
        if (folder / "demo.toml").is_file():
            return folder / "demo.toml"
    raise UserError(
        "the demo's recipe is missing",
        where=str(package),
        expected="recipes/demo.toml, which comes with the package",
        fix="install concordant again",
    )


def run_folder_of(recipe: Recipe, overrides: Mapping[str, Any], runs: Path) -> Path:
    """`runs/NAME`, with the overrides that make it another run in its name."""
    telling = {k: v for k, v in overrides.items() if k not in PLACES and k != "name"}
    parts = [f"{key}={value}" for key, value in sorted(telling.items())]
    name = re.sub(r"[^A-Za-z0-9._=+-]+", "_", "-".join([recipe.name, *parts]))
    if len(name) > LONGEST_NAME:  # two runs must not share a directory because their names begin alike
        name = f"{name[:LONGEST_NAME]}-{sha256_of(telling)[:8]}"
    return runs / name


def folder_of(recipe_path: Path, words: Sequence[str], runs: Path, given: Path | None) -> Path:
    """The directory of a recipe with these overrides, unless one is given."""
    overrides = parse_overrides(words)
    return given or run_folder_of(load_recipe(recipe_path, overrides), overrides, runs)


def recipe_of(run_folder: Path) -> tuple[Path, list[str]]:
    """The recipe a run was made from, and its overrides."""
    known = read_json(run_folder / "run.json")
    if known is None or not (run_folder / "recipe.toml").is_file():
        raise UserError(
            "this is not a run directory",
            where=str(run_folder),
            expected="a directory made by `concordant run`, such as runs/demo",
            fix="concordant run RECIPE makes one",
        )
    return run_folder / "recipe.toml", list(known.get("overrides", []))


def stage_model(run_folder: Path, stage: str, base: str) -> str:
    """The model folder of a finished stage."""
    for folder in sorted((run_folder / "stages").glob(f"*-{stage}")):
        if (folder / "stage.json").is_file() and (folder / "model").is_dir():
            return str(folder / "model")
    if stage == "base" and base:
        return base
    folders = sorted((run_folder / "stages").glob("*-*"))
    done = [
        f.name.partition("-")[2] for f in folders if (f / "stage.json").is_file() and (f / "model").is_dir()
    ]
    raise UserError(
        f"this run has no finished stage {stage!r}",
        where=str(run_folder),
        expected=f"one of {', '.join(done) or 'none yet'}",
        fix=f"--stage {([n for n in done if n != 'reward'] or done)[-1]}" if done else "run its recipe first",
    )


def store_at(given: str, *, new: bool = False) -> str | Path:
    """The store of a run directory, a file, or a database address; `new` lets the file be made."""
    if "://" in given:
        return given
    path = Path(given)
    if path.is_dir():
        if (path / STORE).is_file() or (new and (path / "run.json").is_file()):
            return path / STORE
        raise UserError(
            "there is no feedback store here",
            where=given,
            expected=f"a run directory that holds {STORE}, or the name of an SQLite file",
            fix="run its recipe first, or name a file",
        )
    if path.is_file() or (new and path.suffix in (".sqlite", ".db") and path.parent.is_dir()):
        return path
    raise UserError(
        "there is no such store",
        where=given,
        expected="a run directory, or an SQLite file" + (" (a new one ends in .sqlite)" if new else ""),
        fix="check the name",
    )
