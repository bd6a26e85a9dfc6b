"""MLflow: one run for each trail. `mlflow ui --backend-store-uri sqlite:///runs/trackers/mlflow/mlflow.sqlite`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from concordant.pipeline.trackers.tracker import Trail, in_words

ID, GROUP, STAGE = "concordant.trail", "concordant.run", "concordant.stage"  # tags
STRANGE = re.compile(r"[^\w\-. :/]")  # what names of figures must not have
MOST_SETTINGS, MOST_FIGURES = 100, 1_000  # that a store takes at once
LONGEST = 6_000  # characters of a value it takes


def opened(trail: Trail) -> MLflow:
    """The run that has the trail's id for a tag, begun or gone on with."""
    return MLflow(trail)


class MLflow:
    """See `Tracker`. An infinite figure is kept as the largest number there is, as MLflow's databases do."""

    def __init__(self, trail: Trail) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunStatus

        trail.folder.mkdir(parents=True, exist_ok=True)
        self._metric, self._status = Metric, RunStatus
        self._untold: list[Any] = []
        # Without an address a client takes the one in MLFLOW_TRACKING_URI, if there is one.
        asked = trail.online and os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(
            None if asked else f"sqlite:///{trail.folder.resolve() / 'mlflow.sqlite'}"
        )
        files = None if asked else (trail.folder / "files").resolve().as_uri()
        self._run = _run_of(self._client, trail, files)
        if not trail.told:
            settings = [Param(key, str(value)[:LONGEST]) for key, value in trail.settings.items()]
            for some in _batches(settings, MOST_SETTINGS):
                self._client.log_batch(self._run, params=some)

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        """See `Tracker`."""
        at = round(1000 * time)
        self._untold += [
            self._metric(STRANGE.sub("_", name), value, at, step) for name, value in figures.items()
        ]

    def alert(self, step: int, title: str, text: str, time: float) -> None:
        """See `Tracker`: a tag, for MLflow has no alerts."""
        self._client.set_tag(self._run, STRANGE.sub("_", f"alert/step {step} {title}"), text[:LONGEST])

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> None:
        """See `Tracker`."""
        data = {column: [in_words(row[place]) for row in rows] for place, column in enumerate(columns)}
        self._client.log_table(self._run, data, f"{name}.json")

    def artifact(self, file: Path) -> None:
        """See `Tracker`."""
        self._client.log_artifact(self._run, str(file))

    def flush(self) -> None:
        """See `Tracker`. Each batch is a transaction of the store; one for each step would take far longer."""
        for some in _batches(self._untold, MOST_FIGURES):
            self._client.log_batch(self._run, metrics=some)
        self._untold = []

    def finish(self, complete: bool) -> None:
        """See `Tracker`."""
        self.flush()
        status = self._status.FINISHED if complete else self._status.KILLED
        self._client.set_terminated(self._run, status=self._status.to_string(status))


def _batches(all_of_them: list[Any], most: int) -> Iterator[list[Any]]:
    return (all_of_them[first : first + most] for first in range(0, len(all_of_them), most))


def _run_of(client: Any, trail: Trail, files: str | None) -> str:
    """MLflow's own id of the run with this trail, running; `files` is where a new experiment keeps its files."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(trail.project)
    try:
        place = experiment.experiment_id if experiment else client.create_experiment(trail.project, files)
    except MlflowException:  # another run was faster
        place = client.get_experiment_by_name(trail.project).experiment_id
    found = client.search_runs([place], f"tags.`{ID}` = '{trail.id}'")
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    tags = {ID: trail.id, GROUP: trail.run, STAGE: trail.stage}
    return str(client.create_run(place, tags=tags, run_name=trail.name).info.run_id)
