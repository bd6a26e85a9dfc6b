"""Marks with intervals, one row for each of several things."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from concordant.app.report.source import MODELS
from concordant.evaluation.intervals import Mean


def forest(key: str, rows: Mapping[str, Mapping[str, Mean]], names: Mapping[str, str], x: str) -> str:
    """One row per group, one mark with a 95 % interval per model: farther to the right is better."""
    with canvas((MEDIUM[0], 1.1 + 0.42 * len(rows))) as (figure, axes):
        for place, means in enumerate(rows.values()):
            for model in (model for model in MODELS if model in means):
                _interval_mark(axes, means[model], place, model)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [short(label) for label in rows], color=INK, fontsize=11)
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
        return drawn(figure, key, f"{x} of {', '.join(names[m] for m in seen)} by {', '.join(rows)}")


def _interval_mark(axes: Any, mean: Mean, place: float, model: str, label: str = "") -> Any:
    """A mark with its interval; returns the mark, for the legend."""
    colour = MODEL_COLOURS[model]
    if math.isfinite(mean.half):
        axes.plot([mean.low, mean.high], [place, place], color=colour, linewidth=5, alpha=0.28)
    face = PAPER if model == "ideal" else colour
    marker = MODEL_MARKERS[model]
    return axes.plot([mean.mean], [place], marker, color=colour, mfc=face, markersize=7, label=label)[0]
