"""Reward against gold: what happens as the reward model is pressed harder, by choosing and by training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from concordant.app.report.document import (
    Callout,
    Cell,
    Column,
    Figure,
    Figures,
    Row,
    Section,
    Table,
    Text,
    Tone,
    blocks,
)  # fmt: skip
from concordant.app.report.drawings.canvas import BASE, GOLD, IDEAL, OTHER, POLICY, PROXY, SFT
from concordant.app.report.drawings.distance import Path, paths, stacked
from concordant.app.report.drawings.reward import best_of_n as drawn_best_of_n
from concordant.app.report.lines import thinned
from concordant.app.report.phrases import mean_cell, number_cell, percent, plain, span
from concordant.app.report.source import Points, ReportInput, number
from concordant.evaluation.intervals import Mean

Rows = Sequence[Mapping[str, Any]]

TRUTHS = {
    "gold": "its gold",
    "probe": "the share preferred in blind probes",
    "held_out": "the second reward model",
}
QUANTITIES = {"gold": "Gold", "held_out": "Second reward model", "score": "Score of the reward model"}
LEAST_SHARE = 0.005  # of a part that is drawn
X = "d = √KL to the SFT model"


def section(run: ReportInput) -> Section | None:
    """Where this run stands, gold and score over the distance from SFT, and what the score was paid for."""
    rows = run.at("best_of_n") or []
    drawn = tuple(_drawings(run, rows))
    exploited = _exploited(run)
    if not drawn and exploited is None:
        return None
    said = best_of_n(rows) if len(rows) >= 2 else ""
    title = "How far the reward model can be trusted"
    found = blocks(
        Text(said) if said else None,
        _standing(run),
        Figures(drawn) if drawn else None,
        Figures((exploited,)) if exploited else None,
    )
    return Section("best-of-n", title, "Over-optimisation", found)


def _standing(run: ReportInput) -> Callout | None:
    """Whether the policy has come past the highest point of gold."""
    stands, d = run.at("over_optimisation", "stands"), run.table("over_optimisation", "d")
    truth = run.at("over_optimisation", "truth")
    where, low, high = (number(d.get(key)) for key in ("mean", "low", "high"))
    if stands is None or where is None or truth is None:
        return None
    tones: dict[str, Tone] = {"before": "up", "past": "down"}
    what = TRUTHS.get(str(truth), str(truth))
    turn, inside = run.number("over_optimisation", "fit", "d_star"), ""
    said = {
        "before": f"It stops before the point at which {what} would turn."
        if turn is not None
        else f"Along its training {what} did not turn.",
        "past": f"It has gone past the point at which {what} turns.",
    }
    if low is not None and high is not None:
        inside = f" (95 % interval {plain(low)} to {plain(high)})"
    details = f"It ended at d = {plain(where)}{inside}, with d = √KL in nats an answer."
    details += (
        f" The curve fitted to its own path is highest at d = {plain(turn)}."
        if turn is not None
        else " The curve fitted to its own path has no highest point."
    )
    headline = said.get(str(stands), f"Whether {what} has turned cannot be told from this run.")
    return Callout(tones.get(str(stands), "flat"), headline, (details,))


def _drawings(run: ReportInput, rows: Rows) -> Iterator[Figure]:
    if len(rows) >= 2:
        yield _best_of_n(rows)
    for quantity, title in QUANTITIES.items():
        found = list(_paths(run, rows, quantity))
        if len(found) == 2 or (found and quantity != "score"):
            note = (
                _distance_note(found)
                if quantity != "score"
                else "What both are paid for: up by construction."
            )
            draw = partial(paths, f"{quantity}-over-d", found, X, title.lower())
            yield Figure(f"{title} over distance", note, draw, _numbers(found, "d"))
    both = list(_score_against_gold(run, rows))
    if both:
        note = "On the way up both agree. Where a path bends back to the left, a higher score is worth less gold."
        draw = partial(paths, "score-against-gold", both, "gold", "score", mark_d=False)
        yield Figure("Score against gold", note, draw, _numbers(both, "gold"))


def _distance_note(found: Sequence[Path]) -> str:
    turns = [f"{path.label} at d = {plain(path.turn)}" for path in found if path.turn is not None]
    turning = f" Fitted curves are highest for {' and for '.join(turns)} (dotted)." if turns else ""
    return f"Higher is better, farther left is cheaper; the ring is the end.{turning}"


def _paths(run: ReportInput, rows: Rows, quantity: str) -> Iterator[Path]:
    """Best of n and the policy's own way, over d, with the curves fitted to gold."""
    column = "proxy" if quantity == "score" else quantity
    chosen = _over_d((row.get("kl"), row.get(column)) for row in rows)
    trained = _over_d((kl, value) for kl, value in run.over_kl(f"objective/{quantity}"))
    chosen_by, walked_by = (run.at(key, "truth") or "gold" for key in ("best_of_n_fit", "over_optimisation"))
    if len(chosen) >= 2:
        table = run.table("best_of_n_fit") if quantity == chosen_by else {}
        fit, turn = _fit_of(table, chosen[0][1], float)
        yield Path("best of n", chosen, PROXY if quantity == "score" else GOLD, fit=fit, turn=turn)
    if len(trained) >= 2:
        table, before = run.table("over_optimisation", "fit"), run.mean("models", run.start, quantity)
        begins = number(table.get("start", before and before.mean))
        fit, turn = (None, None)
        if quantity == walked_by and begins is not None:
            fit, turn = _fit_of(table, begins, math.log)
        yield Path(run.algorithm, trained, POLICY, noisy=len(trained) > 12, fit=fit, turn=turn)


def _over_d(found: Any) -> Points:
    known = ((number(kl), number(value)) for kl, value in found)
    return [(math.sqrt(max(kl, 0.0)), value) for kl, value in known if kl is not None and value is not None]


def _fit_of(
    table: Mapping[str, Any], begins: float, form: Callable[[float], float]
) -> tuple[Callable[[float], float] | None, float | None]:
    """The curve d (alpha - beta form(d)), of best-of-n with d itself, of training with ln d, and where it turns."""
    alpha, beta = number(table.get("alpha")), number(table.get("beta"))
    if alpha is None or beta is None:
        return None, None

    def curve(d: float) -> float:
        return begins + (d * (alpha - beta * form(d)) if d > 0 else 0.0)

    return curve, number(table.get("d_star"))


def _score_against_gold(run: ReportInput, rows: Rows) -> Iterator[Path]:
    chosen = [
        (gold, proxy)
        for row in rows
        if (gold := number(row.get("gold"))) is not None and (proxy := number(row.get("proxy"))) is not None
    ]
    score = dict(run.series("policy", "objective/score"))
    trained = [(gold, score[step]) for step, gold in run.series("policy", "objective/gold") if step in score]
    if len(chosen) >= 2:
        yield Path("best of n", chosen, GOLD)
    if len(trained) >= 2:
        yield Path(run.algorithm, trained, POLICY, noisy=len(trained) > 12)


def _numbers(found: Sequence[Path], x: str) -> Table:
    several = len(found) > 1
    rows = (
        Row(plain(at), (number_cell(value, 3),), path.label if several else "")
        for path in found
        for at, value in thinned(path.points)
    )
    return Table((Column("" if several else found[0].label),), tuple(rows), x)


def _best_of_n(rows: Rows) -> Figure:
    columns = (Column("KL"), Column("Gold"), Column("Proxy score"))
    lines = (
        Row(
            str(row["n"]),
            (number_cell(number(row.get("kl"))), *(_mean_cell(row, key) for key in ("gold", "proxy"))),
        )
        for row in rows
    )
    note = "Read from left to right: the harder the choice, the more the two curves should agree."
    draw = partial(drawn_best_of_n, "best", rows)
    return Figure("Best of n", note, draw, Table(columns, tuple(lines), "n"))


def _exploited(run: ReportInput) -> Figure | None:
    """What the rise of the score was paid for, part by part."""
    parts = [row for row in run.at("exploits", "parts") or () if number(row.get("share")) is not None]
    if not parts:
        return None
    parts = [row for row in parts if abs(row["share"]) >= LEAST_SHARE]
    colours = iter((PROXY, OTHER, SFT, POLICY, IDEAL) * len(parts))
    fixed = {"gold": GOLD, "rest": BASE}
    shares = [
        (str(row["part"]), float(row["share"]), fixed.get(str(row["part"])) or next(colours)) for row in parts
    ]
    named = [f"{one.get('words')} ({percent(one['share'])})" for one in run.at("exploits", "named") or ()]
    note = (
        f"Beside the truth it was paid for {', '.join(named)}."
        if named
        else "No feature beside the truth explains a share of it that could be told from none."
    )
    lines = (Row(str(row["part"]), (_share(row),)) for row in parts)
    draw = partial(stacked, "paid-for", shares, "What the rise of the score was paid for")
    return Figure(
        "What the rise of the score was paid for", note, draw, Table((Column("share"),), tuple(lines))
    )


def _share(row: Mapping[str, Any]) -> Cell:
    share, low, high = (number(row.get(key)) for key in ("share", "share_low", "share_high"))
    inside = f" ({span(low, high, 0)})" if low is not None and high is not None else ""
    return Cell(percent(share or 0.0), inside, share, low, high)


def _mean_cell(row: Mapping[str, Any], key: str) -> Cell | None:
    mean = _row_mean(row, key)
    return None if mean is None else mean_cell(mean)


def best_of_n(rows: Rows) -> str:
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
    if peak is first and fall.sign > 0:
        return (
            f"Choosing by the reward model lifts gold nowhere: it is {start} without a choice and {end} for the best "
            f"of {last['n']}. What the reward model likes here is not what is better."
        )
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
