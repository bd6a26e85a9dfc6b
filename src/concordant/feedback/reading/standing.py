"""What a lead is told of agreement and of labelers, computed from the live votes of a project."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from sqlalchemy import select

from concordant.feedback.aggregation.bradley_terry import LabelerStanding, fit_labelers
from concordant.feedback.aggregation.contests import from_live_votes
from concordant.feedback.aggregation.fits import keep_fit
from concordant.feedback.database.schema import labeler
from concordant.feedback.reading.agreement import (
    Agreement,
    Alpha,
    Rate,
    agreement_of,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    pair_labels,
    unanimous,
)
from concordant.feedback.reading.live_votes import LiveVotes, dimensions_said, of_dimension, read_live_votes
from concordant.feedback.store import Store

NOTHING = Alpha(math.nan, math.nan, math.nan, 0, 0)
MOST_PAIRS = 5  # labelers up to which Cohen's kappa is told for every two of them


@dataclass(frozen=True)
class Standing:
    """Agreement of a project: as it is, and beyond chance."""

    figures: Agreement
    alpha: Alpha
    unanimous: Rate
    fleiss: float  # nan unless everybody labelled everything
    cohen: tuple[tuple[str, str, float, int], ...]  # names of two labelers, kappa, pairs both labelled
    names: dict[str, str]  # of labelers, by id
    by_dimension: tuple[tuple[str, Rate, Alpha], ...] = ()  # name, two labelers prefer the same side, alpha


def standing(store: Store, project: str | None = None) -> Standing:
    """The agreement of a project (id), or of all votes that are for training."""
    live = read_live_votes(store, project)
    labels, prompts = pair_labels(live)
    voters = sorted({one.labeler for one in live.votes})
    with store.reading() as connection:
        names = {row.id: row.name for row in connection.execute(select(labeler.c.id, labeler.c.name))}
    figures = agreement_of(live)
    if labels.size == 0:
        return Standing(figures, NOTHING, Rate(math.nan, 0, 0.0, 1.0), math.nan, (), names)
    complete = labels.shape[1] > 1 and bool(np.isfinite(labels).all())
    cohen = []
    for a, b in combinations(range(len(voters)), 2) if len(voters) <= MOST_PAIRS else ():
        both = np.isfinite(labels[:, [a, b]]).all(axis=1)
        if both.any():
            first, second = (labels[both, column].astype(int).tolist() for column in (a, b))
            kappa = cohen_kappa(first, second)
            cohen.append((names[voters[a]], names[voters[b]], kappa, int(both.sum())))
    return Standing(
        figures,
        krippendorff_alpha(labels, clusters=prompts),
        unanimous(labels),
        fleiss_kappa(labels) if complete else math.nan,
        tuple(cohen),
        names,
        tuple(_of_dimension(live, name) for name in dimensions_said(live)),
    )


def _of_dimension(live: LiveVotes, name: str) -> tuple[str, Rate, Alpha]:
    """How far labelers agree on one dimension of the rubric."""
    said = of_dimension(live, name)
    labels, prompts = pair_labels(said)
    alpha = krippendorff_alpha(labels, clusters=prompts) if labels.size else NOTHING
    return name, agreement_of(said).raw, alpha


def fit_project(store: Store, project: str | None = None) -> tuple[LabelerStanding, ...]:
    """Estimate how far each labeler of a project can be trusted, and keep what was found.

    Tasks that one labeler answered alone say nothing of how far to trust it, and are left out; where there are
    no others, nothing is estimated.
    """
    live = read_live_votes(store, project)
    voters: dict[str, set[str]] = {}
    for one in live.votes:
        voters.setdefault(one.task_id, set()).add(one.labeler)
    shared = replace(live, votes=tuple(one for one in live.votes if len(voters[one.task_id]) > 1))
    if not shared.votes:
        return ()
    contests = from_live_votes(shared, {key: key for key in shared.completions})
    found = fit_labelers(contests).labelers
    keep_fit(store, found, project=project)
    return found
