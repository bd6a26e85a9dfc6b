"""What a tracker is told, and which trackers there are.

A tracker shows runs while they train: TensorBoard, Weights & Biases, MLflow, trackio. It is told of one `Trail` for
each stage that has steps, and of one for the results. Each adapter imports its package when a trail is opened, in a
process that does nothing else (`process.py`): what the package prints, starts or breaks is none of the run's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from concordant.errors import UserError

RESULTS = "results"  # the trail of the whole run


@dataclass(frozen=True)
class Trail:
    """One run of a tracker: the steps of a stage, or the results of the whole."""

    project: str
    run: str  # what all trails of a run have in common
    stage: str  # or RESULTS
    attempt: int  # from 1: a stage that is made anew gets a trail of its own
    id: str  # the same whenever the trail is taken up again
    told: int  # rows of the log that it has already
    settings: Mapping[str, str | int | float | bool]  # dotted values of the recipe
    folder: Path  # where this tracker keeps what stays on this machine
    online: bool  # whether it may send anything to another

    @property
    def name(self) -> str:
        """Run and stage."""
        again = f" {self.attempt}" if self.attempt > 1 else ""
        return f"{self.run}/{self.stage}{again}"


class Tracker(Protocol):
    """A trail that is open. Figures may be infinite or NaN; texts are whatever a model wrote."""

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        """Figures of a step, which was over at this Unix time."""
        ...

    def alert(self, step: int, title: str, text: str, time: float) -> None:
        """Something that people should look at."""
        ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> None:
        """A few rows to read."""
        ...

    def artifact(self, file: Path) -> None:
        """Keep a copy of this file with the trail, where the tracker keeps files."""
        ...

    def flush(self) -> None:
        """Return when all that was told would outlive this process."""
        ...

    def finish(self, complete: bool) -> None:
        """Close the trail. A stage that is not `complete` goes on later."""
        ...


# By name, the package that has to be installed. A tracker is a line here, its name in `TrackerName`, and a module
# beside this one that has its name and a function `opened(trail)`.
TRACKERS: Mapping[str, str] = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
}


def opened(name: str, trail: Trail) -> Tracker:
    """A trail of the tracker of this name, begun or taken up again."""
    tracker: Tracker = import_module(f"concordant.pipeline.trackers.{name}").opened(trail)
    return tracker


def check_installed(names: Sequence[str], where: str) -> None:
    """Refuse trackers whose package is not there. Imports nothing."""
    for name in names:
        if find_spec(TRACKERS[name]) is None:
            raise UserError(
                f"the tracker {name} is not installed",
                where=where,
                expected=f"the package {TRACKERS[name]}",
                fix=f"pip install 'concordant[{name}]', or leave {name} out: `concordant track` can tell it later",
            )


def in_words(value: Any) -> str:
    """A cell of a table."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
