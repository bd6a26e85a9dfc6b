"""Weights & Biases: one run for each trail, grouped. `wandb sync runs/trackers/wandb/wandb/offline-*` sends it on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from concordant.pipeline.trackers.tracker import Trail, in_words

LONGEST_TITLE = 63  # characters of an alert's


def opened(trail: Trail) -> WeightsAndBiases:
    """The run of the trail's id, begun or gone on with."""
    return WeightsAndBiases(trail)


class WeightsAndBiases:
    """See `Tracker`. It keeps its own clock: figures stand at the time when they were told."""

    def __init__(self, trail: Trail) -> None:
        trail.folder.mkdir(parents=True, exist_ok=True)
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        for place in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
            if not trail.online:  # the login of somebody who wants to be online is in CONFIG
                os.environ[f"WANDB_{place}_DIR"] = str(trail.folder.resolve())
        import wandb

        self._wandb = wandb
        # Of the machine nothing is told: this is not the process that trains, and finding out asks the network.
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True,
            x_disable_stats=True, x_disable_machine_info=True,
        )  # fmt: skip
        self._run = wandb.init(
            project=trail.project,
            group=trail.run,
            job_type=trail.stage,
            name=trail.name,
            id=trail.id,
            resume="allow" if trail.online else None,
            config=dict(trail.settings),
            dir=str(trail.folder),
            mode="online" if trail.online else "offline",
            settings=settings,
        )

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        """See `Tracker`."""
        self._run.log(dict(figures), step=step, commit=True)

    def alert(self, step: int, title: str, text: str, time: float) -> None:
        """See `Tracker`."""
        titled = f"step {step}: {title}"[:LONGEST_TITLE]
        self._run.alert(title=titled, text=text, level="WARN", wait_duration=0)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> None:
        """See `Tracker`."""
        data = [[in_words(value) for value in row] for row in rows]
        self._run.log({name: self._wandb.Table(columns=list(columns), data=data)})

    def artifact(self, file: Path) -> None:
        """See `Tracker`."""
        self._run.log_artifact(str(file), name=f"{self._run.id}-{file.name}", type="report")

    def flush(self) -> None:
        """See `Tracker`: the service of the package, a process of its own, has it by now."""

    def finish(self, complete: bool) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=0 if complete else 1)
