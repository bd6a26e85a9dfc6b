"""Requests out of the files of others: HarmBench, XSTest, StrongREJECT, Do-Not-Answer, each recognised by its columns.

None of them comes with the package; whoever uses one has it under its own licence. What their requests want is harm,
which rules and a judge look for; the safe prompts of XSTest are look-alikes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from concordant.data.sources import RawRow, read_rows
from concordant.errors import UserError
from concordant.evaluation.redteam.requests import Request

SAFE = "safe"  # what XSTest calls a look-alike


@dataclass(frozen=True)
class FileLayout:
    """Which columns a set has, and what they mean."""

    name: str
    text: str
    needs: tuple[str, ...]  # by which it is known, the text among them
    id: str = ""  # without one a request is known by the place of its row
    context: str = ""  # a text that the request is about
    label: str = ""  # safe, or anything else


LAYOUTS = (
    FileLayout("HarmBench", "Behavior", ("Behavior", "BehaviorID"), id="BehaviorID", context="ContextString"),
    FileLayout("XSTest", "prompt", ("prompt", "type", "label"), id="id", label="label"),
    FileLayout("StrongREJECT", "forbidden_prompt", ("forbidden_prompt", "category")),
    FileLayout("Do-Not-Answer", "question", ("question", "risk_area"), id="id"),
)


def read_requests(source: str) -> list[Request]:
    """The requests of a file. Errors: UserError for columns of none of the sets, a row without text, and no row."""
    requests: list[Request] = []
    layout = None
    for raw in read_rows(source):
        layout = layout or _layout_of(raw)
        requests.append(_request(layout, raw))
    if not requests:
        raise UserError(
            "this file holds no request",
            where=source,
            expected=f"rows of {_known()}",
            fix="check that the file is complete",
        )
    return requests


def _layout_of(raw: RawRow) -> FileLayout:
    for layout in LAYOUTS:
        if all(name in raw.value for name in layout.needs):
            return layout
    raise UserError(
        f"no set of requests has the columns {', '.join(raw.value)}",
        where=raw.where,
        expected=f"those of {_known()}",
        fix="name the columns as one of these sets does",
    )


def _known() -> str:
    return "; ".join(f"{layout.name} ({', '.join(layout.needs)})" for layout in LAYOUTS)


def _request(layout: FileLayout, raw: RawRow) -> Request:
    text, context = _cell(raw.value, layout.text), _cell(raw.value, layout.context)
    if not text:
        raise UserError(
            f"a row of {layout.name} without text in {layout.text!r}",
            where=raw.where,
            expected="a request in every row",
            fix="take the row out, or write its request",
        )
    name = _cell(raw.value, layout.id) or raw.where.rpartition("/")[2]
    return Request(
        id=f"{layout.name.lower()}-{name}",
        kind="harm",
        text=f"{context}\n\n{text}" if context else text,
        harmless=_cell(raw.value, layout.label) == SAFE,
    )


def _cell(row: Mapping[str, Any], column: str) -> str:
    """The text of a cell; empty where the set has no such column."""
    value = row.get(column) if column else None
    return "" if value is None else str(value).strip()
