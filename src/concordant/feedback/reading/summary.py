"""The figures of a store that stand in a run's results, and the digest that tells two sets of votes apart."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from concordant.feedback.database.schema import labeler
from concordant.feedback.reading.agreement import (
    Rate,
    agreement_of,
    krippendorff_alpha,
    pair_labels,
    swap_consistency,
)
from concordant.feedback.reading.live_votes import LiveVotes, read_live_votes
from concordant.feedback.store import Store


def summarise(store: Store) -> dict[str, Any]:
    """Counts, agreement and the pulls of order and length, each with n and interval; JSON-able."""
    live = read_live_votes(store)
    figures = agreement_of(live)
    return {
        **store.counts(),
        "labeler_names": _names(store),
        "agreement": _row(figures.raw),
        "alpha": _alpha(live) if figures.raw.n else None,
        "implied_accuracy": _row(figures.accuracy),
        "swap_consistent": _row(swap_consistency(live)),
        "first_chosen": _row(figures.first_chosen),
        "longer_chosen": _row(figures.longer_chosen),
    }


def _names(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(connection.scalars(select(labeler.c.name)))


def _alpha(live: LiveVotes) -> dict[str, Any] | None:
    """Agreement beyond chance; None where labelers said one thing throughout."""
    labels, prompts = pair_labels(live)
    found = krippendorff_alpha(labels, clusters=prompts)
    return None if math.isnan(found.value) else asdict(found)


def _row(rate: Rate) -> dict[str, Any] | None:
    """None where nothing was counted."""
    return None if math.isnan(rate.value) else asdict(rate)
