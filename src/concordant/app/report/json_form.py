"""A report as JSON: its sections and blocks as they are, with the numbers behind every drawing."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

from concordant import __version__
from concordant.app.report.document import Report
from concordant.app.report.html import SHOWN_AS_MARKS

SCHEMA = 1  # of this file
LEFT_OUT = ("draw", "bar", "look", "small", "wide")  # what only a page has a use for


def as_json(report: Report) -> str:
    """One object: schema, concordant (the version), report; every block says its kind. Figures come without drawing."""
    found = {"schema": SCHEMA, "concordant": __version__, "report": _plain(report)}
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False).translate(SHOWN_AS_MARKS) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        parts = {one.name: getattr(value, one.name) for one in fields(value) if one.name not in LEFT_OUT}
        return kind | {name: _plain(part) for name, part in parts.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
