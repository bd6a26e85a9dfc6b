"""How far a reward model can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from concordant.app.report.drawings.canvas import GOLD, MEDIUM, MUTED, PAPER, PROXY, canvas, drawn
from concordant.app.report.source import Points, number
from concordant.evaluation.intervals import Z95, wilson


def best_of_n(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Gold (left scale) and proxy (right scale) of the best of n by proxy, with the peak of gold marked."""
    with canvas(MEDIUM) as (figure, axes):
        right = axes.twinx()
        right.grid(visible=False)
        right.spines["left"].set_visible(False)
        right.tick_params(length=0, labelcolor=PROXY)
        _band(right, rows, "proxy", PROXY)
        gold = _band(axes, rows, "gold", GOLD)
        axes.set_xscale("log", base=2)
        axes.set_xticks([n for n, _ in gold] or [row["n"] for row in rows])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
        axes.tick_params(axis="y", labelcolor=GOLD)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("n: the best of how many samples, chosen by the proxy")
        axes.set_title("gold", loc="left", fontsize=11, color=GOLD)
        right.set_title("proxy score", loc="right", fontsize=11, color=PROXY)
        if gold:
            n, top = max(gold, key=lambda point: point[1])
            axes.plot([n], [top], "o", color=GOLD, markersize=10, markerfacecolor=PAPER, markeredgewidth=2.2)
            axes.annotate(f"peak at n = {n:.0f}", (n, top), (0, 10), textcoords="offset points", ha="center")
            axes.margins(y=0.16)
        else:
            axes.yaxis.set_visible(False)
        return drawn(figure, key, "Gold and proxy score of the best of n samples")


def _band(axes: Any, rows: Sequence[Mapping[str, Any]], quantity: str, colour: str) -> Points:
    """A line with its 95 % band; returns the points drawn."""
    known = [row for row in rows if number(row.get(quantity)) is not None]
    if not known:
        return []
    xs, ys = [row["n"] for row in known], [float(row[quantity]) for row in known]
    half = [Z95 * (number(row.get(f"{quantity}_se")) or 0.0) for row in known]
    low = [y - h for y, h in zip(ys, half, strict=True)]
    high = [y + h for y, h in zip(ys, half, strict=True)]
    axes.fill_between(xs, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(xs, ys, "o-", color=colour, linewidth=2.2, markersize=4)
    return list(zip(xs, ys, strict=True))


def reliability(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """How often the predicted winner won against how sure the model was; bigger circles hold more pairs."""
    with canvas(MEDIUM) as (figure, axes):
        axes.plot([0.5, 1], [0.5, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        xs, ys = [row["predicted"] for row in rows], [row["observed"] for row in rows]
        most = max(row["n"] for row in rows)
        for row in rows:
            rate = wilson(row["observed"] * row["n"], row["n"])
            axes.plot([row["predicted"]] * 2, [rate.low, rate.high], color=PROXY, linewidth=3, alpha=0.25)
        axes.plot(xs, ys, color=PROXY, linewidth=1.5)
        axes.scatter(xs, ys, s=[18 + 110 * row["n"] / most for row in rows], color=PROXY, zorder=3)
        for row in rows:
            axes.annotate(
                f"{row['n']}", (row["predicted"], 0), (0, 4), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", fontsize=9, color=MUTED,
            )  # fmt: skip
        axes.set_ylim(min(0.4, *ys) - 0.08, 1.03)
        axes.set_xlabel("how sure it was of the winner")
        axes.set_ylabel("how often that won")
        return drawn(figure, key, "Reliability curve of the reward model")


def margins(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy in groups of equal size, from close calls to clear ones, with 95 % intervals."""
    with canvas(MEDIUM) as (figure, axes):
        rates = [wilson(row["accuracy"] * row["n"], row["n"]) for row in rows]
        places = range(len(rows))
        axes.bar(places, [rate.rate for rate in rates], color=PROXY, alpha=0.35, width=0.62)
        for place, rate in zip(places, rates, strict=True):
            axes.plot([place] * 2, [rate.low, rate.high], color=PROXY, linewidth=2)
        axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        axes.set_xticks(places, [f"{row['low']:.1f}–{row['high']:.1f}" for row in rows])
        axes.set_ylim(min(0.4, *(rate.low for rate in rates)) - 0.05, 1.03)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("difference of the two scores")
        axes.set_ylabel("accuracy")
        return drawn(figure, key, "Accuracy of the reward model by score difference")
