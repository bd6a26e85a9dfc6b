"""TensorBoard: one folder of event files for each trail. `tensorboard --logdir runs/trackers/tensorboard`."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from concordant.pipeline.trackers.tracker import Trail, in_words

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~&$!])")


def opened(trail: Trail) -> TensorBoard:
    """The next event file of the trail's folder."""
    return TensorBoard(trail)


class TensorBoard:
    """See `Tracker`. Numbers are kept in single precision, as the format has them; files are named, not copied."""

    def __init__(self, trail: Trail) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary, self._text = Event, Summary, text_pb
        self._writer = EventFileWriter(str(trail.folder / trail.name))
        # Readers forget what an earlier session left of the steps that come now.
        start = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(step=trail.told + 1, wall_time=time.time(), session_log=start))
        if not trail.told:
            rows = [(key, str(value)) for key, value in trail.settings.items()]
            self.table("settings", ("setting", "value"), rows)

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        """See `Tracker`."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        self._add(step, self._summary(value=values), time)

    def alert(self, step: int, title: str, text: str, time: float) -> None:
        """See `Tracker`: a text under `alerts`."""
        self._add(step, self._text(f"alerts/{title}", _quoted(text)), time)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> None:
        """See `Tracker`."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
        self._add(0, self._text(name, text), time.time())

    def artifact(self, file: Path) -> None:
        """See `Tracker`: its place, for TensorBoard keeps no files."""
        self._add(0, self._text(f"files/{file.name}", _quoted(str(file))), time.time())

    def flush(self) -> None:
        """See `Tracker`."""
        self._writer.flush()

    def finish(self, complete: bool) -> None:
        """See `Tracker`."""
        self._writer.close()

    def _add(self, step: int, summary: Any, wall_time: float) -> None:
        self._writer.add_event(self._event(step=step, wall_time=wall_time, summary=summary))


def _cell(value: Any) -> str:
    """A value in a cell of a table: whatever Markdown would read as markup is escaped, and links are no links."""
    plain = _MARKUP.sub(r"\\\1", " ⏎ ".join(in_words(value).splitlines()))
    return plain.replace("://", ":\\//").replace("www.", "www\\.")


def _quoted(text: str) -> str:
    """A block of Markdown that shows the text as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())
