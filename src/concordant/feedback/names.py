"""Names that people give: to themselves and to projects."""

from __future__ import annotations

from concordant.errors import UserError

LONGEST = 80  # characters


def checked_name(name: str, of: str) -> str:
    """The name without space around it. Errors: UserError for one that is empty, too long or not to be kept."""
    name = name.strip()
    if not 1 <= len(name) <= LONGEST or "\x00" in name:  # which PostgreSQL takes in no text
        raise UserError(
            "a name of no use", where=of, expected=f"1 to {LONGEST} characters", fix="choose another name"
        )
    return name
