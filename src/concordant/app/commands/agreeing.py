"""feedback agreement: how far the labelers of a store agree, and how far each can be trusted."""

from __future__ import annotations

import argparse
import math

from rich.console import Console

from concordant.app.runs import store_at
from concordant.feedback.agreement import Alpha, Rate
from concordant.feedback.standing import fit_project, standing
from concordant.feedback.store import Store


def agree(arguments: argparse.Namespace, console: Console) -> int:
    """Print the figures of all votes that are for training; a fit of the labelers is kept in the store."""
    with Store.open(store_at(arguments.store)) as store:
        found = standing(store)
        labelers = fit_project(store)
    fleiss = "some labelled not everything" if math.isnan(found.fleiss) else f"{found.fleiss:.3f}"
    rows = [
        ("two labelers prefer the same side", _rate(found.figures.raw)),
        ("all say the same", _rate(found.unanimous)),
        ("Krippendorff's alpha", _alpha(found.alpha)),
        ("Fleiss' kappa", fleiss),
        *((f"Cohen's kappa, {a} and {b}", f"{kappa:.3f}, n = {n:,}") for a, b, kappa, n in found.cohen),
        ("what was shown first wins", _rate(found.figures.first_chosen)),
        ("what is longer wins", _rate(found.figures.longer_chosen)),
    ]
    for one in labelers:
        rows.append((f"reliability of {found.names[one.labeler]}", _reliability(one.rho, one.n, one.flagged)))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.print(f"{name:<{width}}  {text}", markup=False, highlight=False)
    return 0


def _alpha(one: Alpha) -> str:
    if not one.units:
        return "nothing to count"
    pairs = f"{one.units:,} pairs of {one.clusters:,} prompts"
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}], {pairs}"


def _rate(one: Rate) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}], n = {one.n:,}" if one.n else "nothing to count"


def _reliability(rho: float | None, n: int, flagged: bool) -> str:
    if rho is None:
        return f"too few votes to say ({n})"
    return f"{rho:.2f} of {n:,} pairs" + (": mostly votes without looking" if flagged else "")
