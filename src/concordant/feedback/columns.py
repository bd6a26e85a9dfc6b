"""What several columns of one table have in common."""

from __future__ import annotations

from collections.abc import Sized

from concordant.errors import UserError


def check_columns(*columns: Sized, of: str) -> None:
    """Raise UserError unless the columns have an entry each for the same rows, one or more."""
    lengths = sorted({len(column) for column in columns})
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(
            f"columns of {lengths} {of}",
            where="the arguments of a fit",
            expected="the same length, one or more",
            fix=f"give every column one entry for each of the {of}",
        )
