"""What the models of a run said, written as logs of inspect."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from concordant.app.runs import recipe_of
from concordant.app.terminal import Terminal
from concordant.errors import UserError
from concordant.files import disk_errors
from concordant.pipeline.afterwards import finished_stages, model_id
from concordant.pipeline.extras import require
from concordant.pipeline.folder import read_json

FOLDER = "inspect"  # of a run, beside its stages


def inspect(arguments: argparse.Namespace, console: Console) -> int:
    """Write one log for each model and split of a run that was measured."""
    run: Path = arguments.run_folder
    recipe_of(run)
    require("inspect_ai", "inspect")
    evaluate = finished_stages(run).get("evaluate")
    if evaluate is None:
        raise UserError(
            "there are no answers to write: the models of this run have not been measured",
            where=str(run),
            expected="a finished evaluate stage",
            fix="run its recipe first",
        )
    from concordant.app.inspecting.logs import write_logs
    from concordant.pipeline.parts.measuring.files import recorded

    terminal = Terminal(console)
    folder: Path = arguments.to or run / FOLDER
    models = (read_json(run / "results.json") or {}).get("models", {})
    when = datetime.fromtimestamp((evaluate.path / "stage.json").stat().st_mtime, UTC)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        record = recorded(evaluate, "sft" if "sft" in models else "base")
        logs = write_logs(record, folder, run=str(run), key=model_id(evaluate), when=when)
        number = len({(answer.model, answer.split) for answer in record.answers})
        with terminal.activity("writing", number, "logs") as progress:
            for done, file in enumerate(logs, start=1):
                progress.to(done, file.name)
    terminal.say(f"{number} logs in {folder}; inspect view start --log-dir {folder}")
    return 0
