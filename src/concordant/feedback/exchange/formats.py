"""The formats of votes, and how the one of a file is found: by the columns of its first row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from concordant.data.sources import nearest
from concordant.errors import UserError
from concordant.feedback.exchange.argilla import ARGILLA
from concordant.feedback.exchange.ballots import Format
from concordant.feedback.exchange.helpsteer import HELPSTEER_2, HELPSTEER_3, HELPSTEER_RATINGS
from concordant.feedback.exchange.label_studio import LABEL_STUDIO
from concordant.feedback.exchange.layouts import JUDGED, PAIRS
from concordant.feedback.exchange.lmsys import LMSYS, LMSYS_COLUMNS
from concordant.feedback.exchange.oasst import OASST, OASST_FLAT
from concordant.feedback.exchange.pandalm import PANDALM
from concordant.feedback.exchange.raw_votes import VOTES
from concordant.feedback.exchange.ultrafeedback import ULTRAFEEDBACK


def format_of(first: Mapping[str, Any], source: str, name: str | None = None) -> Format:
    """The format called `name`, or the first that fits the first row.

    Errors: UserError for an unknown name, and for a row that does not have what its format needs.
    """
    known = {one.name: one for one in FORMATS}
    if name is not None and name not in known:
        like = nearest(name, known)
        raise UserError(
            f"no format of votes is called {name!r}",
            where="--format",
            expected=", ".join(known),
            fix=f"did you mean {like[0]!r}?" if like else "name one of them, or none to have it recognised",
        )
    found = known[name] if name is not None else next((one for one in FORMATS if one.fits(first)), None)
    if found is None or not found.fits(first):
        needed = [found] if found is not None else FORMATS
        raise UserError(
            f"{source} has [{', '.join(map(str, first))}], which is not a file of "
            + (f"the format {found.name}" if found is not None else "votes in any format known here"),
            where=source,
            expected="; ".join(f"{one.needs} ({one.name})" for one in needed),
            fix="rename its columns, or leave --format out to have the format recognised"
            if found is not None
            else "rename its columns to one of these",
        )
    return found


# The first that fits is taken, so that formats with columns of their own stand before the general ones.
FORMATS: tuple[Format, ...] = (
    VOTES,
    ULTRAFEEDBACK,
    HELPSTEER_3,
    HELPSTEER_2,
    HELPSTEER_RATINGS,
    PANDALM,
    LMSYS,
    LMSYS_COLUMNS,
    OASST,
    OASST_FLAT,
    LABEL_STUDIO,
    ARGILLA,
    PAIRS,
    JUDGED,
)
