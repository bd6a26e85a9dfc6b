"""Telling one tracker of a run, from its directory alone: what it does not know yet, stage after stage.

What it knows is kept in `trackers/NAME.json` of the run. So it is the same whether a run is followed while it goes on,
taken up again after a stop, or told of years later; and a step is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from concordant.files import sha256_of, write_json
from concordant.pipeline.folder import StageFolder, figures_of, read_json
from concordant.pipeline.trackers.config import TrackConfig
from concordant.pipeline.trackers.story import (
    COLUMNS,
    Clock,
    Tail,
    result_figures,
    sample_rows,
    settings_of,
)
from concordant.pipeline.trackers.tracker import RESULTS, Tracker, Trail, opened

MARKS = "trackers"  # folder of a run
FILES = ("results.json", "report.html")  # kept with the results


@dataclass
class Mark:
    """How far a trail has been told."""

    source: str  # fingerprint of what it is told of
    attempt: int = 1
    rows: int = 0
    notices: int = 0
    complete: bool = False


@dataclass
class StageLog:
    """The files of a stage that are read."""

    steps: Tail
    notices: Tail
    clock: Clock

    @classmethod
    def of(cls, folder: StageFolder) -> StageLog:
        begun = folder.path / "begun.json"
        return cls(Tail(folder.steps), Tail(folder.notices), Clock(begun.stat().st_mtime))


class Follower:
    """One tracker, one run. `again` tells everything anew, into trails of its own."""

    def __init__(
        self,
        name: str,
        run_folder: Path,
        config: TrackConfig,
        *,
        again: bool = False,
        begin: Callable[[str, Trail], Tracker] = opened,
    ) -> None:
        self.name, self.run_folder, self.config, self._begin = name, run_folder, config, begin
        self.told = 0  # rows and results, by this follower
        self._marks_file = run_folder / MARKS / f"{name}.json"
        self._marks = self._kept_marks()
        if again:
            self._marks = {stage: Mark("", mark.attempt) for stage, mark in self._marks.items()}
        self._logs: dict[str, StageLog] = {}
        self._open: tuple[str, Tracker] | None = None  # the one trail under way, and its stage

    @property
    def folder(self) -> Path:
        """Where the tracker keeps what stays on this machine."""
        shared = self.config.folder or self.run_folder.resolve().parent / "trackers"
        return Path(shared) / self.name

    @property
    def place(self) -> str:
        """Where people find what was told."""
        return f"project {self._project}" if self.config.online else str(self.folder)

    def look(self) -> None:
        """Tell what is new in the stages."""
        for path in sorted(self.run_folder.glob("stages/[0-9][0-9]-*")):
            self._stage(StageFolder(path))

    def close(self) -> None:
        """Tell what is new, the results among it, and let the tracker go."""
        self.look()
        self._results()
        self._finish(complete=False)

    def _stage(self, folder: StageFolder) -> None:
        stage = folder.path.name.partition("-")[2]
        source = folder.begun()
        if source is None or not folder.steps.is_file():
            return
        mark = self._mark(stage, source)
        if mark.complete:
            return
        complete = folder.finished() is not None  # before the rows: then these are all
        log = self._logs.setdefault(stage, StageLog.of(folder))
        seen = [(number, row, log.clock.after(row)) for number, row in log.steps.new()]
        rows = [(row, time) for number, row, time in seen if number >= mark.rows]
        notices = [row for number, row in log.notices.new() if number >= mark.notices]
        if rows or notices or complete:
            self._tell(stage, mark, log, rows, notices)
        if complete:
            mark.complete = True
            self._finish(complete=True)

    def _tell(
        self,
        stage: str,
        mark: Mark,
        log: StageLog,
        rows: list[tuple[dict[str, Any], float]],
        notices: list[dict[str, Any]],
    ) -> None:
        tracker = self._tracker(stage, mark)
        for row, time in rows:
            tracker.log(row["step"], figures_of(row), time)
        for notice in notices:
            time = log.clock.times.get(notice["step"], log.clock.begin)
            tracker.alert(notice["step"], notice["detector"], _alarm(notice), time)
        tracker.flush()
        mark.rows += len(rows)
        mark.notices += len(notices)
        self.told += len(rows) + len(notices)
        self._keep_marks()

    def _results(self) -> None:
        results = read_json(self.run_folder / "results.json")
        if results is None:
            return
        mark = self._mark(RESULTS, sha256_of(results))
        if mark.complete:
            return
        tracker = self._tracker(RESULTS, mark)
        now = (self.run_folder / "results.json").stat().st_mtime
        tracker.log(0, result_figures(results), now)
        verdict = (results.get("gate") or {}).get("verdict", "GO")
        if verdict != "GO":
            tracker.alert(0, "release gate", verdict, now)
        tracker.table("samples", COLUMNS, sample_rows(results))
        for file in FILES:
            if (self.run_folder / file).is_file():
                tracker.artifact(self.run_folder / file)
        tracker.flush()
        mark.complete = True
        self.told += 1
        self._finish(complete=True)

    def _mark(self, stage: str, source: str) -> Mark:
        """How far this trail is; a new one where the stage was made anew, which ends the old one."""
        mark = self._marks.get(stage)
        if mark is not None and mark.source == source:
            return mark
        if self._open is not None and self._open[0] == stage:
            self._finish(complete=False)
        self._logs.pop(stage, None)
        self._marks[stage] = Mark(source, 1 if mark is None else mark.attempt + 1)
        return self._marks[stage]

    def _tracker(self, stage: str, mark: Mark) -> Tracker:
        """The tracker with this trail open, and no other."""
        if self._open is not None and self._open[0] == stage:
            return self._open[1]
        self._finish(complete=False)
        tracker = self._begin(self.name, self._trail(stage, mark))
        self._open = (stage, tracker)
        return tracker

    def _trail(self, stage: str, mark: Mark) -> Trail:
        run = self.config.name or self.run_folder.resolve().name
        identity = (self._known.get("created"), self._project, run, stage, mark.source, mark.attempt)
        return Trail(
            project=self._project,
            run=run,
            stage=stage,
            attempt=mark.attempt,
            id=sha256_of(identity)[:16],
            told=mark.rows,
            settings=settings_of(self.run_folder),
            folder=self.folder,
            online=self.config.online,
        )

    @property
    def _known(self) -> Mapping[str, Any]:
        return read_json(self.run_folder / "run.json") or {}

    @property
    def _project(self) -> str:
        return self.config.project or str(self._known["name"])

    def _finish(self, *, complete: bool) -> None:
        """Close the trail that is open, if one is."""
        if self._open is not None:
            tracker, self._open = self._open[1], None
            tracker.finish(complete)
            self._keep_marks()

    @property
    def _destination(self) -> dict[str, Any]:
        return self.config.model_dump(mode="json", exclude={"to"}) | {"folder": str(self.folder)}

    def _kept_marks(self) -> dict[str, Mark]:
        """What is known of the trails; nothing where they went elsewhere."""
        kept: Mapping[str, Any] = read_json(self._marks_file) or {}
        if kept.get("destination") != self._destination:
            return {}
        return {stage: Mark(**mark) for stage, mark in kept["trails"].items()}

    def _keep_marks(self) -> None:
        trails = {stage: asdict(mark) for stage, mark in self._marks.items()}
        write_json(self._marks_file, {"destination": self._destination, "trails": trails})


def _alarm(notice: Mapping[str, Any]) -> str:
    """A notice for people, with what it was seen in."""
    lines = [f"{notice['saw']}. Likely: {notice['causes']}"]
    lines += [
        "\n".join(f"{key}: {value}" for key, value in one.items()) for one in notice.get("examples", ())
    ]
    return "\n\n".join(lines)
