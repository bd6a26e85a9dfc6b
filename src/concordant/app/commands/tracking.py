"""Telling trackers of a run when it is over, or when they were forgotten."""

from __future__ import annotations

import argparse

from rich.console import Console

from concordant.app.runs import recipe_of
from concordant.app.terminal import Terminal
from concordant.errors import UserError
from concordant.pipeline.recipe import make_recipe, parse_overrides, read_toml, with_overrides
from concordant.pipeline.trackers.process import Following
from concordant.pipeline.trackers.tracker import TRACKERS, check_installed

OPTIONS = ("to", "project", "name", "folder", "online")  # that stand for the settings of [track]


def track(arguments: argparse.Namespace, console: Console) -> int:
    """Tell trackers what they do not know yet of a run; the status is 1 where one could not be told."""
    recipe_path, words = recipe_of(arguments.run_folder)
    given = {f"track.{name}": value for name in OPTIONS if (value := getattr(arguments, name))}
    values = with_overrides(read_toml(recipe_path), {**parse_overrides(words), **given})
    config = make_recipe(values, where="the command line").track
    if not config.to:
        raise UserError(
            "no tracker is named",
            where="--to",
            expected=f"one of {', '.join(TRACKERS)}, or several with commas between them",
            fix=f"concordant track {arguments.run_folder} --to tensorboard",
        )
    check_installed(config.to, where="--to")
    with Following(config, arguments.run_folder, Terminal(console).say) as following:
        following.begin(again=arguments.again)
    return following.status
