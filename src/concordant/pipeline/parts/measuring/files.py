"""Records on the disk: all figures of an evaluation can be computed again from its folder."""

from __future__ import annotations

from concordant.evaluation.record import Record
from concordant.pipeline.folder import StageFolder, read_jsonl


def keep(record: Record, folder: StageFolder) -> None:
    """Write what was measured, one file for each kind of row, in place of what an earlier attempt wrote."""
    files = (folder.samples, folder.pairs, folder.demonstrations, folder.documents)
    for file, rows in zip(files, record.rows(), strict=True):
        file.unlink(missing_ok=True)
        folder.append(file, rows)


def recorded(folder: StageFolder, start: str) -> Record:
    """What `keep` wrote in the folder of a finished stage."""
    files = (folder.samples, folder.pairs, folder.demonstrations, folder.documents)
    return Record.from_rows(start, *map(read_jsonl, files))
