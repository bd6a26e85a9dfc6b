"""Options of `concordant track`."""

from __future__ import annotations

import argparse

from concordant.app.options.shared import names


def track(command: argparse.ArgumentParser) -> None:
    """Whom to tell, and where they keep it."""
    command.add_argument(
        "--to",
        type=names,
        default=[],
        metavar="NAMES",
        help="tensorboard, wandb, mlflow, trackio, or several, as in wandb,mlflow (default: those of the recipe)",
    )
    command.add_argument(
        "--project", help="what runs are collected under (default: as in the recipe, or its name)"
    )
    command.add_argument("--name", help="what the run is called there (default: as its directory)")
    command.add_argument(
        "--folder",
        metavar="FOLDER",
        help="where the trackers keep it (default: trackers/ beside the run's directory)",
    )
    command.add_argument(
        "--online",
        action="store_true",
        default=None,
        help="send it to where the trackers' own environment variables and logins say (default: send nothing)",
    )
    command.add_argument(
        "--again", action="store_true", help="tell everything anew, what they know already among it"
    )
