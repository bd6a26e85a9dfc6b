"""The figures of a store that stand in a run's results, and the digest that tells two sets of votes apart."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from concordant.feedback.database.schema import labeler
from concordant.feedback.reading.agreement import Rate, agreement
from concordant.feedback.store import Store


def summarise(store: Store) -> dict[str, Any]:
    """Counts, agreement and the pulls of order and length, each with n and interval; JSON-able."""
    figures = agreement(store)
    return {
        **store.counts(),
        "labeler_names": _names(store),
        "agreement": _row(figures.raw),
        "implied_accuracy": _row(figures.accuracy),
        "first_chosen": _row(figures.first_chosen),
        "longer_chosen": _row(figures.longer_chosen),
    }


def _names(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(connection.scalars(select(labeler.c.name)))


def _row(rate: Rate) -> dict[str, Any] | None:
    """None where nothing was counted."""
    return None if math.isnan(rate.value) else asdict(rate)
