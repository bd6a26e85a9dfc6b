"""Figures of a data set in memory that does not grow with it: lengths, scripts, and which answer is the longer one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

EXACT = 2**14  # lengths up to here are counted as they are, longer ones to three digits
LOOKED_AT = 2_000  # characters of a text whose script is counted

SCRIPTS = {
    "Latin": re.compile("[A-Za-z\u00aa-\u024f\u1e00-\u1eff]"),
    "Greek": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "Cyrillic": re.compile("[\u0400-\u052f]"),
    "Armenian": re.compile("[\u0530-\u058f]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Arabic": re.compile("[\u0600-\u06ff\u0750-\u077f]"),
    "Indic": re.compile("[\u0900-\u0dff]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
    "Georgian": re.compile("[\u10a0-\u10ff]"),
    "Korean": re.compile("[\u1100-\u11ff\uac00-\ud7af]"),
    "Japanese": re.compile("[\u3040-\u30ff]"),
    "Chinese": re.compile("[\u4e00-\u9fff\u3400-\u4dbf]"),
}
_KANA_SHARE = 0.1  # of Chinese characters: from here on a text is Japanese


def script_of(text: str) -> str:
    """The script most letters of a text are written in; empty where it has no letters of a known one."""
    text = text[:LOOKED_AT]
    if text.isascii():
        return "Latin" if SCRIPTS["Latin"].search(text) else ""
    letters = {name: len(pattern.findall(text)) for name, pattern in SCRIPTS.items()}
    if letters["Japanese"] > _KANA_SHARE * letters["Chinese"]:
        letters["Japanese"] += letters.pop("Chinese")
    name = max(letters, key=letters.__getitem__)
    return name if letters[name] else ""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Percentiles of a length."""

    n: int
    p5: int
    p50: int
    p95: int
    longest: int

    @classmethod
    def of(cls, values: Iterable[int]) -> Lengths:
        """Nearest-rank percentiles; all zero if there is nothing."""
        counts = LengthCounts()
        for value in values:
            counts.add(value)
        return counts.lengths


class LengthCounts:
    """How often each length occurs; long ones are counted together, so that there are a few thousand at most."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._longest = 0

    def add(self, length: int) -> None:
        step = 10 ** max(0, len(str(length)) - 3) if length > EXACT else 1
        self._counts[length // step * step] += 1
        self._longest = max(self._longest, length)

    @property
    def lengths(self) -> Lengths:
        n = self._counts.total()
        ranks = [round(q * (n - 1)) for q in (0.05, 0.5, 0.95)]
        p5, p50, p95 = self._at(ranks) if n else (0, 0, 0)
        return Lengths(n, p5, p50, p95, self._longest)

    def _at(self, ranks: list[int]) -> list[int]:
        """The lengths at these ranks, which rise."""
        found: list[int] = []
        below = 0
        for length, count in sorted(self._counts.items()):
            below += count
            while len(found) < len(ranks) and ranks[len(found)] < below:
                found.append(length)
        return found


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `n`, with its 95 % interval (Wilson 1927)."""

    hits: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        if not self.n:
            return 0.0, 1.0
        z, p = 1.96, self.hits / self.n
        middle = (p + z * z / (2 * self.n)) / (1 + z * z / self.n)
        half = z * sqrt(p * (1 - p) / self.n + z * z / (4 * self.n**2)) / (1 + z * z / self.n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits / max(1, self.n):.0%} ({low:.0%} to {high:.0%}, n = {self.n:,})"


class Figures:
    """What is counted of the rows of one source."""

    def __init__(self) -> None:
        self.characters: dict[str, LengthCounts] = {}
        self.tokens: dict[str, LengthCounts] = {}
        self.scripts: dict[str, Counter[str]] = {}  # by part of a row
        self.longer = self.shorter = 0  # pairs whose chosen side is the longer, the shorter one
        self.desirable = 0

    def text(self, part: str, text: str, script: str) -> None:
        self.characters.setdefault(part, LengthCounts()).add(len(text))
        self.scripts.setdefault(part, Counter())[script or "no letters"] += 1

    def token_lengths(self, lengths: dict[str, int]) -> None:
        for part, length in lengths.items():
            self.tokens.setdefault(part, LengthCounts()).add(length)

    def pair(self, chosen: str, rejected: str) -> None:
        self.longer += len(chosen) > len(rejected)
        self.shorter += len(chosen) < len(rejected)


def skews(figures: Figures) -> list[str]:
    """What a model would learn beside what the rows are meant to teach, in words."""
    found = []
    share = Share(figures.longer, figures.longer + figures.shorter)
    low, high = share.interval
    if low > 0.6 or high < 0.4:
        found.append(
            f"the chosen answer is the longer one in {share} of pairs: length alone predicts the choice"
        )
    for part, counts in figures.scripts.items():
        if len(counts) > 1:
            n = counts.total()
            shares = ", ".join(f"{name} {count / n:.1%}" for name, count in counts.most_common(5))
            found.append(f"scripts of {part}: {shares}")
    return found


def drifts(ours: Figures, others: Figures) -> list[str]:
    """How the prompts of two sources differ, in words."""
    found = []
    for name in sorted({*ours.scripts.get("prompt", ()), *others.scripts.get("prompt", ())}):
        here, there = (
            side.scripts["prompt"][name] / side.scripts["prompt"].total() if "prompt" in side.scripts else 0.0
            for side in (ours, others)
        )
        if abs(here - there) > 0.1:
            found.append(f"{name} prompts are {here:.0%} here and {there:.0%} of those held out")
    if "prompt" in ours.characters and "prompt" in others.characters:
        here, there = (side.characters["prompt"].lengths.p50 for side in (ours, others))
        if max(here, there) > 2 * max(1, min(here, there)):
            found.append(
                f"half of the prompts are longer than {here} characters here, than {there} of those held out"
            )
    return found
