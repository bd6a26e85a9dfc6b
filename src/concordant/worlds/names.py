"""Errors for names that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from concordant.errors import UserError


def nearest(kind: str, name: str, known: Iterable[str], where: str = "") -> UserError:
    """The error for an unknown `name` of some `kind`, with the nearest known name as the way to mend it."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.0)  # one at any rate
    return UserError(
        f"unknown {kind} {name!r}",
        where=where,
        expected="one of " + ", ".join(names),
        fix=f"did you mean {close[0]!r}?",
    )
