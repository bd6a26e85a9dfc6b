"""Lines over steps, and paths over the distance travelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.app.report.drawings.canvas import MEDIUM, MUTED, PAPER, SMALL, canvas, drawn, legend, short
from concordant.app.report.source import Points


@dataclass(frozen=True)
class Line:
    """One line of a drawing."""

    label: str
    points: Points
    colour: str
    dashed: bool = False


def curves(key: str, lines: Sequence[Line], *, levels: Mapping[str, float] | None = None, x: str = "") -> str:
    """Lines over steps; `levels` are dashed horizontal marks with a name, for example SFT and ideal."""
    with canvas(SMALL) as (figure, axes):
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
            legend(axes)
        axes.set_xlabel(x)
        axes.locator_params(nbins=5)
        return drawn(figure, key, ", ".join(line.label for line in lines) + f" over {x or 'steps'}")


def _draw(axes: Any, line: Line, *, end_mark: bool = False) -> None:
    """One line; long noisy ones are drawn faint with their running mean on top."""
    xs, ys = zip(*line.points, strict=True)
    style = (0, (4, 2)) if line.dashed else "-"
    if len(xs) > 30:
        axes.plot(xs, ys, color=line.colour, linewidth=1, alpha=0.25)
        ys = running_mean(ys, len(ys) // 15)
    axes.plot(xs, ys, color=line.colour, linewidth=2.2, linestyle=style, label=line.label)
    if end_mark:
        axes.plot(xs[-1:], ys[-1:], "o", color=line.colour, markersize=5)


def running_mean(values: Sequence[float], reach: int) -> tuple[float, ...]:
    """Mean over up to `reach` neighbours on either side, as many on the left as on the right."""
    last = len(values) - 1
    reaches = (min(reach, i, last - i) for i in range(len(values)))
    windows = [values[i - r : i + r + 1] for i, r in enumerate(reaches)]
    return tuple(sum(window) / len(window) for window in windows)


def frontier(key: str, lines: Sequence[Line], y: str) -> str:
    """Paths of training over the distance from SFT; the ring marks the end."""
    with canvas(MEDIUM) as (figure, axes):
        for line in lines:
            xs, ys = zip(*line.points, strict=True)
            axes.plot(xs, ys, "o", color=line.colour, markersize=3, alpha=0.35)
            ordered = sorted(line.points)
            smooth = running_mean([point[1] for point in ordered], len(ordered) // 10)
            style = (0, (4, 2)) if line.dashed else "-"
            axes.plot(
                [point[0] for point in ordered], smooth, color=line.colour, linewidth=2.2, linestyle=style,
                label=short(line.label, 30),
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
        legend(axes)
        axes.locator_params(nbins=6)
        return drawn(figure, key, f"{y} against KL for {' and '.join(line.label for line in lines)}")
