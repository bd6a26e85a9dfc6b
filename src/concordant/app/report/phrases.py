"""Numbers, names and shares as the report writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from concordant.app.report.document import Bar, Cell, Tone
from concordant.app.report.source import ReportInput
from concordant.evaluation.intervals import Mean, Rate

NAMES = {"base": "Base", "sft": "SFT", "reward": "Reward model", "ideal": "Ideal"}
SPLITS = {"train": "seen phrasings", "ood": "unseen phrasings", "heldout": "unseen objects"}
LONGEST_TEXT = 700  # characters of a model text that are shown; the rest is counted


def plain(value: float | None, digits: int = 2) -> str:
    """A number for people, with a true minus sign; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def signed(value: float, digits: int = 2) -> str:
    text = plain(value, digits)
    return text if text.startswith("−") or not float(text) else "+" + text


def error(mean: Mean, digits: int = 2) -> str:
    """Half of the 95 % interval after a ±; empty where it is unknown or the figure is exact."""
    return f" ± {plain(mean.half, digits)}" if math.isfinite(mean.se) and mean.se > 0 else ""


def change(mean: Mean, digits: int = 2) -> str:
    return signed(mean.mean, digits) + error(mean, digits)


def percent(share: float, digits: int = 0) -> str:
    return f"{plain(100 * share, digits)} %"


def span(low: float, high: float, digits: int = 1) -> str:
    """The ends of an interval of shares, in per cent without the sign."""
    return f"{plain(100 * low, digits)}–{plain(100 * high, digits)}"


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def model_name(run: ReportInput, model: str) -> str:
    return run.algorithm if model == "policy" else NAMES.get(model, model)


def tone(mean: Mean | None) -> Tone:
    """Whether a rise is shown, a fall, or neither."""
    signs: dict[int, Tone] = {1: "up", -1: "down", 0: "flat"}
    return "flat" if mean is None else signs[mean.sign]


def setting(value: Any) -> str:
    """A value of a recipe for people."""
    if isinstance(value, float):
        return f"{value:g}"
    return "unset" if value is None else str(value)


def shortened(text: str) -> str:
    """The beginning of a long text, and how much is left out."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} … ({len(text) - LONGEST_TEXT} more characters)"


def duration(seconds: float) -> str:
    """3.2 s, 1 min 40 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(value: float) -> str:
    """1234567 as 1.23 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def mean_cell(mean: Mean, digits: int = 2, bar: Bar | None = None) -> Cell:
    """A mean with half of its interval."""
    known = math.isfinite(mean.half)
    low, high = (mean.low, mean.high) if known else (None, None)
    return Cell(plain(mean.mean, digits), error(mean, digits), mean.mean, low, high, bar)


def rate_cell(rate: Rate, digits: int = 1) -> Cell:
    """A share in per cent with its interval and n."""
    beside = f" ({span(rate.low, rate.high, digits)}, n = {rate.n:.0f})"
    return Cell(percent(rate.rate, digits), beside, rate.rate, rate.low, rate.high)


def number_cell(value: float | None, digits: int = 2) -> Cell | None:
    """A bare number; None where there is none."""
    return None if value is None else Cell(plain(value, digits), value=value)


def bars(means: Mapping[str, Mean]) -> dict[str, Bar]:
    """Bars on one scale that holds zero and every interval."""
    halves = {model: mean.half if math.isfinite(mean.half) else 0.0 for model, mean in means.items()}
    low = min(0.0, *(mean.mean - halves[model] for model, mean in means.items()))
    high = max(0.0, *(mean.mean + halves[model] for model, mean in means.items()))
    whole = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / whole, 2)

    drawn = {}
    for model, mean in means.items():
        start, end = sorted((place(0.0), place(mean.mean)))
        known = math.isfinite(mean.half)
        ends = (place(mean.low), place(mean.high)) if known else (None, None)
        drawn[model] = Bar(start, round(end - start, 2), place(0.0), *ends)
    return drawn
