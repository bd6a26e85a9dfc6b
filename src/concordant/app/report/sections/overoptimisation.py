"""Reward against gold: what happens as the reward model is pressed harder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from concordant.app.report.document import Column, Figure, Figures, Row, Section, Table, Text
from concordant.app.report.drawings.canvas import GOLD, POLICY
from concordant.app.report.drawings.curves import Line, frontier
from concordant.app.report.drawings.reward import best_of_n as drawn_best_of_n
from concordant.app.report.lines import numbers
from concordant.app.report.phrases import mean_cell, number_cell, plain
from concordant.app.report.source import ReportInput, number
from concordant.evaluation.intervals import Mean


def section(run: ReportInput) -> Section | None:
    """Gold and proxy of the best of n, and of training, over the distance from SFT."""
    rows = run.at("best_of_n") or []
    if len(rows) < 2:
        return None
    drawn = (_best_of_n(run, rows), *_two_ways(run, rows))
    title = "How far the reward model can be trusted"
    return Section("best-of-n", title, "Best of n", (Text(best_of_n(rows)), Figures(drawn)))


def _best_of_n(run: ReportInput, rows: Sequence[Mapping[str, Any]]) -> Figure:
    note = "Read from left to right: the harder the choice, the more the two curves should agree. "
    alpha, beta, peak = (run.number("best_of_n_fit", name) for name in ("alpha", "beta", "d_star"))
    if alpha is not None and beta is not None and peak is not None:
        note += (
            f"Fit of gold: d ({alpha:.2f} − {beta:.2f} d) with d = √KL, which peaks at KL {peak**2:.1f} nats."
        )
    columns = (Column("KL"), Column("Gold"), Column("Proxy score"))
    lines = (
        Row(
            str(row["n"]),
            (number_cell(number(row.get("kl"))), *(_mean_cell(row, key) for key in ("gold", "proxy"))),
        )
        for row in rows
    )
    draw = partial(drawn_best_of_n, "best", rows)
    return Figure("Best of n", note, draw, Table(columns, tuple(lines), "n"))


def _mean_cell(row: Mapping[str, Any], key: str) -> Any:
    mean = _row_mean(row, key)
    return None if mean is None else mean_cell(mean)


def _two_ways(run: ReportInput, rows: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    """Gold over distance for best-of-n and for training, in one drawing."""
    chosen = [(float(row["kl"]), gold) for row in rows if (gold := number(row.get("gold"))) is not None]
    trained = run.over_kl("objective/gold")
    if len(chosen) >= 2 and len(trained) >= 2:
        lines = [
            Line("best of n", chosen, GOLD, dashed=True),
            Line(run.algorithm, trained, POLICY),
        ]
        note = (
            "Both move away from SFT to please the reward model. Higher is better, farther left is cheaper. "
            "The ring is the end."
        )
        draw = partial(frontier, "ways", lines, "gold reward")
        yield Figure("Two ways to spend distance", note, draw, numbers(lines, "KL"))


def best_of_n(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence about picking the best of more and more samples."""
    known = [row for row in rows if number(row.get("gold")) is not None]
    if len(known) < 2:
        return (
            "Without a gold reward only the proxy can be drawn, and it rises by construction. "
            "Whether the chosen answers are better, people have to say."
        )
    first, last, peak = known[0], known[-1], max(known, key=lambda row: float(row["gold"]))
    start, top, end = (plain(float(row["gold"])) for row in (first, peak, last))
    fall = _gold(peak).minus(_gold(last))
    if peak is not last and fall.sign > 0:
        return (
            f"Taking the best of {peak['n']} by proxy lifts gold from {start} to {top}; taking the best of "
            f"{last['n']} pleases the reward model even more, but gold falls back to {end}. Past the peak "
            "the choice finds the errors of the reward model: over-optimisation, without any training."
        )
    return (
        f"Gold goes from {start} to {end} at n = {last['n']}, with no measurable fall after its highest "
        "point. In this range choosing harder by the reward model does no harm: no over-optimisation yet."
    )


def _gold(row: Mapping[str, Any]) -> Mean:
    mean = _row_mean(row, "gold")
    assert mean is not None
    return mean


def _row_mean(row: Mapping[str, Any], key: str) -> Mean | None:
    value, se = number(row.get(key)), number(row.get(f"{key}_se"))
    return None if value is None else Mean(value, math.nan if se is None else se, 0)
