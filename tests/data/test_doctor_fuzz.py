"""Bad files: no traceback, nothing dropped in silence, counts that add up to the rows read."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings

from bad_files import hostile_file, hostile_rows, mutated, originals, try_file

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(hostile_rows)
def test_hostile_rows(rows: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        try_file(Path(folder), ".jsonl", hostile_file(rows))


def test_files_with_mistakes(tmp_path: Path) -> None:
    draw = random.Random(0)
    good = list(originals(REAL if REAL.is_dir() else None))
    usable = 0
    for case in range(250):
        suffix, content = draw.choice(good)
        usable += try_file(
            tmp_path, suffix, mutated(content, draw), packed=suffix == ".jsonl" and case % 10 == 0
        )
    assert usable > 50  # not all real files have a layout of ours; fewer, and mistakes would hide one another


def test_files_without_mistakes_are_usable(tmp_path: Path) -> None:
    for suffix, content in originals(None):
        assert try_file(tmp_path, suffix, content), content
