"""feedback agreement: how far the labelers of a store agree, and how far each can be trusted."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping

from rich.console import Console

from concordant.app.runs import store_at
from concordant.errors import UserError
from concordant.feedback.aggregation.influence import Absence
from concordant.feedback.asking.known import gold_scores
from concordant.feedback.reading.agreement import Alpha, Rate
from concordant.feedback.reading.board import Board, board
from concordant.feedback.reading.standing import fit_project, standing
from concordant.feedback.store import Store


def agree(arguments: argparse.Namespace, console: Console) -> int:
    """Print the figures of all votes that are for training; a fit of the labelers is kept in the store."""
    with Store.open(store_at(arguments.store)) as store:
        found = standing(store)
        labelers = fit_project(store)
        ranked = _board(store, arguments.most)
        known = gold_scores(store)
    fleiss = "some labelled not everything" if math.isnan(found.fleiss) else f"{found.fleiss:.3f}"
    rows = [
        ("two labelers prefer the same side", _rate(found.figures.raw)),
        ("all say the same", _rate(found.unanimous)),
        ("Krippendorff's alpha", _alpha(found.alpha)),
        ("Fleiss' kappa", fleiss),
        *((f"Cohen's kappa, {a} and {b}", f"{kappa:.3f}, n = {n:,}") for a, b, kappa, n in found.cohen),
        *(
            (f"{name}: the same side; alpha", f"{_rate(raw)}; {_alpha(alpha)}")
            for name, raw, alpha in found.by_dimension
        ),
        ("what was shown first wins", _rate(found.figures.first_chosen)),
        ("what is longer wins", _rate(found.figures.longer_chosen)),
    ]
    for one in labelers:
        rows.append((f"reliability of {found.names[one.labeler]}", _reliability(one.rho, one.n, one.flagged)))
    for labeler, given in known.items():
        rows.append((f"known answers given by {found.names[labeler]}", _rate(given)))
    rows += ranked if isinstance(ranked, list) else _board_rows(ranked, found.names)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.print(f"{name:<{width}}  {text}", markup=False, highlight=False)
    return 0


def _board(store: Store, most: int | None) -> Board | list[tuple[str, str]] | None:
    """The board, or a row that says why there is none."""
    try:
        return board(store, most=most)
    except UserError as error:
        return [("board", error.what)]


def _board_rows(found: Board | None, names: Mapping[str, str]) -> list[tuple[str, str]]:
    if found is None:
        return []
    rows = []
    for number, place in enumerate(found.places, start=1):
        score = place.score
        text = f"{score.value:+.2f} [{score.low:+.2f}, {score.high:+.2f}], at best rank {place.rank_bound}"
        rows.append((f"{number}. {place.item}", text))
    resting = [one for one in found.absences if one.matters]
    rows += [(f"without {names[one.labeler]}", _absence(one)) for one in resting]
    if not resting:
        rows.append(("without any one labeler", "no rank changes with a score that moves clearly"))
    return rows


def _absence(one: Absence) -> str:
    if one.needed:
        return f"no board: only the {one.n:,} votes of this labeler connect it"
    ranks = "rank" if one.ranks == 1 else "ranks"
    return f"{one.item} moves by {one.shift:+.2f} ({one.errors:.1f} standard errors), somebody by {one.ranks} {ranks}"


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
