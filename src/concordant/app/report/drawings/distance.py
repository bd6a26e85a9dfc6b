"""Paths over the distance from SFT, with the curves fitted to them and where those turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from concordant.app.report.drawings.canvas import MEDIUM, MUTED, PAPER, canvas, drawn, legend, short
from concordant.app.report.drawings.curves import running_mean
from concordant.app.report.source import Points


@dataclass(frozen=True)
class Path:
    """Points in the order in which they were passed; `fit` is drawn through them, `turn` is its highest point."""

    label: str
    points: Points
    colour: str
    noisy: bool = False  # one of many updates, drawn faint with their running mean on top
    fit: Callable[[float], float] | None = None
    turn: float | None = None


def paths(key: str, found: Sequence[Path], x: str, y: str, *, mark_d: bool = True) -> str:
    """All paths; the ring is the end of a path, a dashed line a fit, a dotted one where the fit turns."""
    with canvas(MEDIUM) as (figure, axes):
        most = max(at for path in found for at, _ in path.points)
        for path in found:
            _draw(axes, path)
            if path.fit is not None:
                over = np.linspace(0.0, most, 80)
                axes.plot(
                    over,
                    [path.fit(at) for at in over],
                    color=path.colour,
                    linewidth=1.3,
                    linestyle=(0, (4, 2)),
                )
            if mark_d and path.turn is not None and path.turn <= 1.15 * most:
                axes.axvline(path.turn, color=path.colour, linewidth=1.3, linestyle=(0, (1, 2)))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.locator_params(nbins=6)
        legend(axes)
        return drawn(figure, key, f"{y} against {x} for {' and '.join(path.label for path in found)}")


def _draw(axes: Any, path: Path) -> None:
    xs, ys = zip(*path.points, strict=True)
    label = short(path.label, 30)
    if path.noisy:
        axes.plot(xs, ys, "o", color=path.colour, markersize=3, alpha=0.3)
        xs, ys = (running_mean(values, len(values) // 12) for values in (xs, ys))
        axes.plot(xs, ys, color=path.colour, linewidth=2.2, label=label)
    else:
        axes.plot(xs, ys, "o-", color=path.colour, linewidth=2.2, markersize=4, label=label)
    axes.plot(xs[-1:], ys[-1:], "o", color=path.colour, mfc=PAPER, markersize=9, markeredgewidth=2.2)


def stacked(key: str, parts: Sequence[tuple[str, float, str]], title: str) -> str:
    """Shares of a whole in one bar; what takes away stands left of zero."""
    with canvas((MEDIUM[0], 1.6)) as (figure, axes):
        ends = {True: 0.0, False: 0.0}
        for name, share, colour in parts:
            side = share >= 0
            axes.barh([0], [share], left=[ends[side]], color=colour, alpha=0.8, height=0.5, label=name)
            ends[side] += share
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks([])
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=10)
        return drawn(figure, key, title)
