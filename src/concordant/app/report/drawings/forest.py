"""Marks with intervals, one row for each of several things."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.app.report.drawings.canvas import (
    INK,
    MEDIUM,
    MODEL_COLOURS,
    MODEL_MARKERS,
    MUTED,
    PAPER,
    canvas,
    drawn,
    short,
)


@dataclass(frozen=True)
class Series:
    """How the marks of one kind look."""

    name: str
    colour: str
    marker: str = "o"
    hollow: bool = False


@dataclass(frozen=True)
class Dot:
    """A mark with its 95 % interval; `at_most` where nothing was found and `high` is a bound of one side."""

    value: float
    low: float
    high: float
    at_most: bool = False


NOWHERE = Dot(math.nan, math.nan, math.nan)


def series_of(names: Mapping[str, str]) -> dict[str, Series]:
    """One kind of mark for each model."""
    return {
        model: Series(name, MODEL_COLOURS[model], MODEL_MARKERS[model], hollow=model == "ideal")
        for model, name in names.items()
    }


def forest(
    key: str,
    rows: Sequence[tuple[str, Mapping[str, Dot]]],
    series: Mapping[str, Series],
    x: str,
    *,
    line: float = 0.0,
    percent: bool = False,
    width: float = MEDIUM[0],
) -> str:
    """One row per thing and one mark per kind; `line` is where neither side is better."""
    with canvas((width, 1.1 + 0.42 * len(rows))) as (figure, axes):
        for place, (_, dots) in enumerate(rows):
            known = [name for name in series if name in dots]
            for number, name in enumerate(known):
                offset = 0.14 * (2 * number - len(known) + 1) if percent else 0.0
                _mark(axes, dots[name], place + offset, series[name])
        axes.axvline(line, color=MUTED, linewidth=0.8)
        axes.set_yticks(
            range(len(rows)),
            [short(label, 34 if width < 7 else 46) for label, _ in rows],
            color=INK,
            fontsize=11,
        )
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(x)
        if percent:
            axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.spines["left"].set_visible(False)
        seen = [name for name in series if any(name in dots for _, dots in rows)]
        handles = [_mark(axes, NOWHERE, 0, series[name], series[name].name) for name in seen]
        figure.legend(
            handles=handles, loc="outside upper left", ncols=4, frameon=False, fontsize=10, labelcolor=INK,
            handletextpad=0.1, columnspacing=1.2,
        )  # fmt: skip
        named = ", ".join(series[name].name for name in seen)
        return drawn(figure, key, f"{x}: {named}, by {', '.join(label for label, _ in rows)}")


def _mark(axes: Any, dot: Dot, place: float, look: Series, label: str = "") -> Any:
    """A mark with its interval; returns the mark, for the legend."""
    if math.isfinite(dot.low) and math.isfinite(dot.high):
        axes.plot([dot.low, dot.high], [place, place], color=look.colour, linewidth=5, alpha=0.28)
    face = PAPER if look.hollow else look.colour
    style = (
        {"marker": "|", "markersize": 11, "markeredgewidth": 2.4}
        if dot.at_most
        else {"marker": look.marker, "markersize": 7}
    )
    return axes.plot([dot.value], [place], linestyle="", color=look.colour, mfc=face, label=label, **style)[0]
