"""A view of a store into a file that others read, written atomically."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from concordant.errors import UserError
from concordant.feedback.exchange import trl
from concordant.feedback.exchange.raw_votes import raw_votes
from concordant.feedback.exchange.rows import kto_rows, preference_rows, prompts, sft_rows, viewed
from concordant.feedback.exchange.trl import Row, Turns
from concordant.feedback.reading.views import DESIRABLE, Mode, Ties
from concordant.feedback.store import Store
from concordant.files import fresh_file, fresh_folder

View = Literal["preferences", "kto", "sft", "prompts", "votes"]
File = Literal["jsonl", "parquet", "datasets"]

LAYOUTS = {"explicit": trl.explicit, "implicit": trl.implicit}


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a store goes out, and how it is put."""

    view: View = "preferences"
    layout: str = "explicit"  # of preferences: prompt, chosen, rejected; or implicit: whole conversations
    turns: Turns = "messages"
    mode: Mode = "each"  # of preferences: a row per vote, or one per pair by the majority
    ties: Ties = "drop"
    threshold: float = DESIRABLE  # ratings from here on speak for a completion (kto, sft)
    dimension: str = ""  # of the rubric, whose votes count in place of those on the whole (preferences, kto)
    project: str | None = (
        None  # id; None: all that is for training, and of prompts and raw votes all there are
    )


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `left_out` are rows that have no form as strings: task, or prompt id."""

    rows: int
    columns: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    desirable: int | None = None  # rows of kto whose label is true


def export_view(store: Store, out: Path, file: File, settings: Settings | None = None) -> Exported:
    """Write a view of `store` to `out`: JSON lines, a Parquet file, or a folder that `datasets` loads.

    Errors: UserError where there is nothing to write, where `out` exists, and for votes in anything but JSON
    lines (their payloads have no common columns).
    """
    settings = settings or Settings()
    _check(out, file, settings)
    rows: list[Row] = []
    left_out: list[str] = []
    for key, row in _rows(store, settings):
        if row is None:
            left_out.append(key)
        else:
            rows.append(row)
    if not rows:
        raise UserError(
            f"the view {settings.view} of this store has no rows"
            + (f" that can be written as strings ({len(left_out)} cannot)" if left_out else ""),
            where=str(out),
            expected="at least one vote of the kind it is made from",
            fix="choose another view, or turns as messages" if left_out else "choose another view",
        )
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    # Every row has every column: readers of tables take the columns from the first.
    WRITERS[file](out, [{name: row.get(name) for name in columns} for row in rows])
    desirable = sum(row["label"] for row in rows) if settings.view == "kto" else None
    return Exported(len(rows), columns, tuple(left_out), desirable)


def json_lines(store: Store, settings: Settings) -> Iterator[str]:
    """The rows of a view as lines, one by one. Errors: UserError where there are none."""
    lines = (_line(row) for _, row in _rows(store, settings) if row is not None)
    first = next(lines, None)
    if first is None:
        raise UserError(
            f"the view {settings.view} has no rows yet",
            where="the votes of this store",
            expected="at least one vote of the kind it is made from",
            fix="choose another view, or wait for votes",
        )
    return chain((first,), lines)


def _check(out: Path, file: File, settings: Settings) -> None:
    if file not in WRITERS or settings.view not in VIEWS or settings.layout not in LAYOUTS:
        raise UserError(
            f"an export of {settings.view} as {file}, layout {settings.layout}",
            where=str(out),
            expected=f"a view of {', '.join(VIEWS)}; a file of {', '.join(WRITERS)}; a layout of "
            + ", ".join(LAYOUTS),
            fix="take one of each",
        )
    if settings.view == "votes" and file != "jsonl":
        raise UserError(
            f"raw votes as {file}",
            where=str(out),
            expected="jsonl: what votes say has no common columns",
            fix="name jsonl, or choose the view preferences, kto or sft",
        )
    if out.exists() and not (file == "datasets" and out.is_dir() and not any(out.iterdir())):
        raise UserError(
            "the destination exists", where=str(out), expected="a new name", fix="name another, or remove it"
        )


def _rows(store: Store, settings: Settings) -> Iterator[tuple[str, Row | None]]:
    """The rows with the task, or the prompt, they are of; None for one that has no form as strings."""
    return VIEWS[settings.view](store, settings)


def _preferences(store: Store, settings: Settings) -> Iterator[tuple[str, Row | None]]:
    put = LAYOUTS[settings.layout]
    for one, beside in preference_rows(
        viewed(store, settings.project, settings.dimension), settings.mode, settings.ties
    ):
        yield one.group, _joined(put(one, settings.turns), beside)


def _kto(store: Store, settings: Settings) -> Iterator[tuple[str, Row | None]]:
    for one, beside in kto_rows(viewed(store, settings.project, settings.dimension), settings.threshold):
        yield beside["task"], _joined(trl.judged(one, settings.turns), beside)


def _sft(store: Store, settings: Settings) -> Iterator[tuple[str, Row | None]]:
    seen = viewed(store, settings.project, settings.dimension)
    for one, beside in sft_rows(seen, settings.threshold):
        yield beside["task"], _joined(trl.answered(one.prompt, one.completion, settings.turns), beside)


def _prompts(store: Store, settings: Settings) -> Iterator[tuple[str, Row | None]]:
    for prompt in prompts(store, settings.project):
        yield prompt.id, _joined(trl.asked(prompt, settings.turns), {"source": prompt.where})


def _votes(store: Store, settings: Settings) -> Iterator[tuple[str, Row | None]]:
    for row in raw_votes(store, settings.project):
        yield row["task"]["id"] if "task" in row else row["event"]["id"], row


def _joined(row: Row | None, beside: Row) -> Row | None:
    return None if row is None else row | beside


VIEWS: Mapping[str, Callable[[Store, Settings], Iterator[tuple[str, Row | None]]]] = {
    "preferences": _preferences,
    "kto": _kto,
    "sft": _sft,
    "prompts": _prompts,
    "votes": _votes,
}


# The files


def _jsonl(out: Path, rows: Sequence[Row]) -> None:
    with fresh_file(out) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(map(_line, rows))


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _parquet(out: Path, rows: Sequence[Row]) -> None:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    with fresh_file(out) as partial:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), partial)


def _datasets(out: Path, rows: Sequence[Row]) -> None:
    import datasets

    made: Any = datasets.Dataset.from_list(list(rows))
    with fresh_folder(out) as partial:
        made.save_to_disk(str(partial))


WRITERS: Mapping[str, Callable[[Path, Sequence[Row]], None]] = {
    "jsonl": _jsonl,
    "parquet": _parquet,
    "datasets": _datasets,
}
