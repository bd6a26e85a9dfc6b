"""What was estimated of labelers, kept in the store: every fit stands beside the earlier ones for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select

from concordant.feedback.aggregation.bradley_terry import FLAGGED_BELOW, FLAGGED_FROM, LabelerStanding
from concordant.feedback.database.queries import audit, known
from concordant.feedback.database.schema import audit as trail
from concordant.feedback.database.schema import labeler, labeler_fit
from concordant.feedback.ids import new_id, now_ms
from concordant.feedback.missing import no_labeler
from concordant.feedback.store import Store

FITTED = "fit labelers"  # in the audit trail


@dataclass(frozen=True, slots=True)
class KeptFit:
    """The id of a fit, the labelers it has rows of, and those with too few votes to say anything about."""

    fit: str
    labelers: int
    hidden: int


@dataclass(frozen=True, slots=True)
class LabelerFit:
    """A row as kept: `reliability` is rho, `quality` the probability of agreeing with the estimated truth."""

    reliability: float
    quality: float | None
    n: int

    @property
    def flagged(self) -> bool:
        """Enough votes to say that this labeler mostly votes without looking."""
        return self.n >= FLAGGED_FROM and self.reliability < FLAGGED_BELOW


def keep_fit(
    store: Store,
    standings: Sequence[LabelerStanding],
    quality: Mapping[str, float] | None = None,
    *,
    project: str | None = None,
) -> KeptFit:
    """Append a fit of a project (id), or of all votes for training; `quality` is by labeler (id).

    A labeler whose rho is hidden gets no row, and is counted. Raises UserError for labelers the store does
    not know, and then keeps nothing.
    """
    now = now_ms()
    fit = new_id(now)
    agreed = quality or {}
    rows = [
        {
            "fit": fit,
            "labeler": one.labeler,
            "reliability": one.rho,
            "quality": agreed.get(one.labeler),
            "n": one.n,
            "created": now,
        }
        for one in standings
        if one.rho is not None
    ]
    with store.writing() as connection:
        names = [one.labeler for one in standings]
        strangers = sorted(set(names) - known(connection, labeler.c.id, names))
        if strangers:
            raise no_labeler(strangers[0])
        if rows:
            connection.execute(insert(labeler_fit), rows)
        hidden = len(standings) - len(rows)
        audit(connection, FITTED, fit, {"labelers": len(rows), "hidden": hidden, "project": project}, now)
    return KeptFit(fit, len(rows), hidden)


def latest_fit(store: Store, project: str | None = None) -> dict[str, LabelerFit]:
    """The newest fit of a project (id), or of all votes for training, by labeler (id); none where there is none."""
    newest = select(trail.c.object, trail.c.detail).where(trail.c.verb == FITTED)
    with store.reading() as connection:
        found = connection.execute(newest.order_by(trail.c.created.desc(), trail.c.id.desc())).all()
    for row in found:
        if row.detail.get("project") == project:
            return read_fit(store, row.object)
    return {}


def read_fit(store: Store, fit: str) -> dict[str, LabelerFit]:
    """The rows of a fit by labeler (id); none where it has none."""
    with store.reading() as connection:
        rows = connection.execute(select(labeler_fit).where(labeler_fit.c.fit == fit)).all()
    return {row.labeler: LabelerFit(row.reliability, row.quality, row.n) for row in rows}
