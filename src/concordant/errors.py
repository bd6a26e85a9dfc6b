"""The one error that is meant for the user; everything else is a defect and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake the user can mend: what happened, where, what was expected and what to do.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, what: str, *, where: str = "", expected: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        labelled = (("where", self.where), ("expected", self.expected), ("do", self.fix))
        lines += [f"  {label}: {text}" for label, text in labelled if text]
        return "\n".join(lines)


@contextmanager
def located(place: str) -> Iterator[None]:
    """Say `place`, such as the key of a recipe, in the errors for the user that come out of the block."""
    try:
        yield
    except UserError as error:
        where = f"{error.where} ({place})" if error.where else place
        raise UserError(error.what, where=where, expected=error.expected, fix=error.fix) from error
