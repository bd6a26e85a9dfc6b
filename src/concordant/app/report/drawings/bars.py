"""Bars in pairs, and how values are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from concordant.app.report.drawings.canvas import INK, MODEL_COLOURS, MUTED, SMALL, canvas, drawn, legend
from concordant.app.report.drawings.forest import Dot


def paired(
    key: str, groups: Sequence[tuple[str, Mapping[str, Dot]]], names: Mapping[str, str], title: str
) -> str:
    """Shares of several models, one group of bars for each kind of question, with 95 % intervals."""
    with canvas(SMALL) as (figure, axes):
        models = [model for model in names if any(model in dots for _, dots in groups)]
        width = 0.7 / len(models)
        for number, model in enumerate(models):
            for place, (_, dots) in enumerate(groups):
                if (dot := dots.get(model)) is None:
                    continue
                at, colour = place + width * (number - (len(models) - 1) / 2), MODEL_COLOURS[model]
                label = names[model] if place == 0 else None
                axes.bar([at], [dot.value], width * 0.9, color=colour, alpha=0.75, label=label)
                axes.plot([at, at], [dot.low, dot.high], color=INK, linewidth=1.4)
        axes.set_xticks(range(len(groups)), [label for label, _ in groups], color=INK)
        axes.set_ylim(0, 1.16)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.grid(visible=False, axis="x")
        legend(axes, loc="upper center", ncols=len(models))
        return drawn(figure, key, title)


def spread(
    key: str, values: Mapping[str, Sequence[float]], names: Mapping[str, str], edges: Sequence[float], x: str
) -> str:
    """The share of answers in each bin, one outline for each model; a short line marks the mean."""
    with canvas(SMALL) as (figure, axes):
        for model, found in values.items():
            heights, _ = np.histogram(found, bins=np.asarray(edges))
            colour = MODEL_COLOURS[model]
            shares = heights / len(found)
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.22)
            axes.stairs(shares, edges, color=colour, linewidth=2, label=names[model])
            axes.axvline(float(np.mean(found)), ymax=0.06, color=colour, linewidth=3)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("share of answers", color=MUTED)
        axes.set_xlabel(x)
        axes.margins(y=0.16)
        legend(axes)
        return drawn(figure, key, f"{x}: how {' and '.join(names[model] for model in values)} are spread")
