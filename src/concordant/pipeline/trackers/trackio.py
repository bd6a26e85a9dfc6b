"""trackio: one run for each trail, grouped. `TRACKIO_DIR=runs/trackers/trackio trackio show`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from concordant.pipeline.trackers.tracker import Trail, in_words

# Where else it would send to: unset, unless the user wants to be online.
ELSEWHERE = ("SPACE_ID", "SERVER_URL", "WRITE_TOKEN", "BUCKET_ID", "DATASET_ID", "WEBHOOK_URL")
SENDING = 1.0  # seconds; its thread writes what is queued twice in this time


def opened(trail: Trail) -> Trackio:
    """The run of the trail's name, begun or gone on with."""
    return Trackio(trail)


class Trackio:
    """See `Tracker`. It keeps its own clock: figures stand at the time when they were told."""

    def __init__(self, trail: Trail) -> None:
        if not trail.online:
            trail.folder.mkdir(parents=True, exist_ok=True)
            os.environ["TRACKIO_DIR"] = str(trail.folder.resolve())
            os.environ["HF_HUB_OFFLINE"] = "1"  # it would ask the hub whose token there is on this machine
            for name in ELSEWHERE:
                os.environ.pop(f"TRACKIO_{name}", None)
        import trackio

        self._trackio = trackio
        self._run = trackio.init(
            project=trail.project,
            name=trail.name,
            group=trail.run,
            config=dict(trail.settings),
            resume="allow" if trail.told else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        """See `Tracker`."""
        self._run.log(dict(figures), step=step)

    def alert(self, step: int, title: str, text: str, time: float) -> None:
        """See `Tracker`."""
        self._run.alert(title=title, text=text, step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> None:
        """See `Tracker`."""
        data = [[in_words(value) for value in row] for row in rows]
        self._run.log({name: self._trackio.Table(columns=list(columns), data=data)}, step=0)

    def artifact(self, file: Path) -> None:
        """See `Tracker`."""
        self._run.log_artifact(str(file), type="report")

    def flush(self) -> None:
        """See `Tracker`."""
        time.sleep(SENDING)

    def finish(self, complete: bool) -> None:
        """See `Tracker`."""
        self._run.finish()
