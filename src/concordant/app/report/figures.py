"""The drawings of the report as inline SVG. The only module that imports matplotlib.

Colours are written as the light theme's values and then replaced by CSS variables of the page, and text keeps
the page's font, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from concordant.app.report.source import MODELS, Points, number
from concordant.evaluation.intervals import Z95, Mean, wilson

# name of the CSS variable -> its value in the light theme (report.css defines both themes)
INK, MUTED, GRID, PAPER = "#1e2430", "#69707d", "#e4e2dc", "#fffefb"
BASE, SFT, POLICY, IDEAL = "#9aa0aa", "#5b84b1", "#0d8276", "#3b4252"
GOLD, PROXY, OTHER = "#b07d12", "#7a5cc0", "#c2567a"
VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", BASE: "base", SFT: "sft", POLICY: "policy",
    IDEAL: "ideal", GOLD: "gold", PROXY: "proxy", OTHER: "other",
}  # fmt: skip
MODEL_COLOURS = {"base": BASE, "sft": SFT, "policy": POLICY, "ideal": IDEAL}
MODEL_MARKERS = {"base": "o", "sft": "s", "policy": "o", "ideal": "D"}

SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "concordant",
    "text.parse_math": False,  # labels are data: a dollar sign is a dollar sign
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "lines.solid_capstyle": "round",
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
SMALL, MEDIUM = (4.4, 2.7), (5.0, 3.3)  # inches of 72 units; the page scales them


@dataclass(frozen=True)
class Line:
    """One line of a drawing."""

    label: str
    points: Points
    colour: str
    dashed: bool = False


def _canvas(size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.tick_params(length=0)
    return figure, axes


def _svg(figure: Figure, key: str, description: str) -> str:
    """The drawing as an <svg> element whose ids begin with `key`, without anything that points outside."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # glyphs that matplotlib's own font lacks: the reader's font draws them
        figure.savefig(stream, format="svg", transparent=True, metadata=NO_METADATA)
    body = stream.getvalue()
    width, height = (value * 72 for value in figure.get_size_inches())
    body = body[body.index(">", body.index("<svg")) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]*)"', rf'id="{key}-\1"', body)
    body = re.sub(r'href="#', f'href="#{key}-', body).replace("url(#", f"url(#{key}-")
    body = re.sub(r"font-family: [^;\"]*(; )?", "", body).replace(' transform="rotate(-0 ', ' data-r="(')
    body = re.sub(r' data-r="\([^"]*"', "", body)
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    body = re.sub(r"\s*\n\s*", " ", body)
    head = f'<svg role="img" aria-label="{_attribute(description)}" viewBox="0 0 {width:g} {height:g}">'
    return head + body.strip()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _short(text: str, limit: int = 18) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def curves(key: str, lines: Sequence[Line], *, levels: Mapping[str, float] | None = None, x: str = "") -> str:
    """Lines over steps; `levels` are dashed horizontal marks with a name, for example SFT and ideal."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _canvas(SMALL)
        for line in lines:
            _draw(axes, line, end_mark=True)
        for name, level in (levels or {}).items():
            axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
            axes.annotate(
                name, (1, level), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="right", fontsize=10, color=MUTED,
            )  # fmt: skip
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.12)
        if len(lines) > 1:
            _legend(axes)
        axes.set_xlabel(x)
        axes.locator_params(nbins=5)
        return _svg(figure, key, ", ".join(line.label for line in lines) + f" over {x or 'steps'}")


def _draw(axes: Any, line: Line, *, end_mark: bool = False) -> None:
    """One line; long noisy ones are drawn faint with their running mean on top."""
    xs, ys = zip(*line.points, strict=True)
    style = (0, (4, 2)) if line.dashed else "-"
    if len(xs) > 30:
        axes.plot(xs, ys, color=line.colour, linewidth=1, alpha=0.25)
        ys = _running_mean(ys, len(ys) // 15)
    axes.plot(xs, ys, color=line.colour, linewidth=2.2, linestyle=style, label=line.label)
    if end_mark:
        axes.plot(xs[-1:], ys[-1:], "o", color=line.colour, markersize=5)


def _running_mean(values: Sequence[float], reach: int) -> tuple[float, ...]:
    """Mean over up to `reach` neighbours on either side, as many on the left as on the right."""
    last = len(values) - 1
    reaches = (min(reach, i, last - i) for i in range(len(values)))
    windows = [values[i - r : i + r + 1] for i, r in enumerate(reaches)]
    return tuple(sum(window) / len(window) for window in windows)


def _legend(axes: Any, **where: Any) -> None:
    axes.legend(frameon=False, fontsize=10, labelcolor=INK, handlelength=1.4, **where)


def forest(key: str, rows: Mapping[str, Mapping[str, Mean]], names: Mapping[str, str], x: str) -> str:
    """One row per group, one mark with a 95 % interval per model: farther to the right is better."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _canvas((MEDIUM[0], 1.1 + 0.42 * len(rows)))
        for place, means in enumerate(rows.values()):
            for model in (model for model in MODELS if model in means):
                _interval_mark(axes, means[model], place, model)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [_short(label) for label in rows], color=INK, fontsize=11)
        axes.invert_yaxis()
        axes.set_ylim(len(rows) - 0.5, -0.6)
        axes.set_xlabel(x)
        axes.spines["left"].set_visible(False)
        seen = [model for model in MODELS if any(model in means for means in rows.values())]
        handles = [_interval_mark(axes, Mean(math.nan, math.nan, 0), 0, m, names[m]) for m in seen]
        figure.legend(
            handles=handles, loc="outside upper left", ncols=4, frameon=False, fontsize=10, labelcolor=INK,
            handletextpad=0.1, columnspacing=1.2,
        )  # fmt: skip
        return _svg(figure, key, f"{x} of {', '.join(names[m] for m in seen)} by {', '.join(rows)}")


def _interval_mark(axes: Any, mean: Mean, place: float, model: str, label: str = "") -> Any:
    """A mark with its interval; returns the mark, for the legend."""
    colour = MODEL_COLOURS[model]
    if math.isfinite(mean.half):
        axes.plot([mean.low, mean.high], [place, place], color=colour, linewidth=5, alpha=0.28)
    face = PAPER if model == "ideal" else colour
    marker = MODEL_MARKERS[model]
    return axes.plot([mean.mean], [place], marker, color=colour, mfc=face, markersize=7, label=label)[0]


def best_of_n(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Gold (left scale) and proxy (right scale) of the best of n by proxy, with the peak of gold marked."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _canvas(MEDIUM)
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
        return _svg(figure, key, "Gold and proxy score of the best of n samples")


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
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _canvas(MEDIUM)
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
        return _svg(figure, key, "Reliability curve of the reward model")


def margins(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy in groups of equal size, from close calls to clear ones, with 95 % intervals."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _canvas(MEDIUM)
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
        return _svg(figure, key, "Accuracy of the reward model by score difference")


def frontier(key: str, lines: Sequence[Line], y: str) -> str:
    """Paths of training over the distance from SFT; the ring marks the end."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _canvas(MEDIUM)
        for line in lines:
            xs, ys = zip(*line.points, strict=True)
            axes.plot(xs, ys, "o", color=line.colour, markersize=3, alpha=0.35)
            ordered = sorted(line.points)
            smooth = _running_mean([point[1] for point in ordered], len(ordered) // 10)
            style = (0, (4, 2)) if line.dashed else "-"
            axes.plot(
                [point[0] for point in ordered], smooth, color=line.colour, linewidth=2.2, linestyle=style,
                label=_short(line.label, 30),
            )  # fmt: skip
            axes.plot(
                xs[-1:],
                ys[-1:],
                "o",
                color=line.colour,
                markerfacecolor=PAPER,
                markersize=8,
                markeredgewidth=2,
            )
        axes.set_xlabel("KL to the SFT model, nats per answer")
        axes.set_ylabel(y)
        _legend(axes)
        axes.locator_params(nbins=6)
        return _svg(figure, key, f"{y} against KL for {' and '.join(line.label for line in lines)}")
