"""What all drawings share: colours, fonts, and how a figure becomes an <svg> element."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

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


@contextmanager
def canvas(size: tuple[float, float], columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    """A figure and its axes (several side by side as an array), in the style of the report."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(ncols=columns)
        for one in axes if columns > 1 else (axes,):
            one.tick_params(length=0)
        yield figure, axes


def drawn(figure: Figure, key: str, title: str) -> str:
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
    head = f'<svg role="img" aria-labelledby="{key}-title" viewBox="0 0 {width:g} {height:g}">'
    return f'{head}<title id="{key}-title">{escape(title)}</title>{body.strip()}'


def short(text: str, limit: int = 18) -> str:
    """The beginning of a label that is too long."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def legend(axes: Any, **where: Any) -> None:
    """A legend without a frame."""
    axes.legend(frameon=False, fontsize=10, labelcolor=INK, handlelength=1.4, **where)
