"""Who labelled, how far they agree, and what draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from concordant.app.report.document import Facts, Section
from concordant.app.report.phrases import plain, rate_cell
from concordant.app.report.source import ReportInput


def section(run: ReportInput) -> Section | None:
    """Counts of votes and rates of agreement."""
    rows = tuple(feedback(run))
    return Section("labels", "The labels", "Labels", (Facts(rows),)) if rows else None


def feedback(run: ReportInput) -> Iterator[tuple[str, str]]:
    """Who gave how many votes, and how far they agree."""
    if not run.table("feedback"):
        return
    votes = run.number("feedback", "votes")
    people = run.at("feedback", "labelers")
    named = people if isinstance(people, list | tuple) else run.at("feedback", "labeler_names") or ()
    rows = [
        ("Votes", f"{votes:,.0f}" if votes is not None else ""),
        ("Labelers", "; ".join(_labeler(person) for person in named)),
        ("First answer chosen", _rate(run, "first_chosen")),
        ("Longer answer chosen", _rate(run, "longer_chosen")),
        ("Agreement", _rate(run, "agreement") or "not measured: no two votes on one pair"),
    ]
    rows.insert(4, ("Same answer in both orders", _rate(run, "swap_consistent")))
    rows += _alpha(run)
    for name in run.table("feedback").get("against_gold") or ():
        rows.append((f"{name}: better by gold", _rate(run, "against_gold", name)))
    yield from ((label, text) for label, text in rows if text)


def _alpha(run: ReportInput) -> list[tuple[str, str]]:
    """Krippendorff's alpha: 1 is full agreement, 0 that of chance."""
    value, low, high = (run.number("feedback", "alpha", key) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return []
    return [("Krippendorff's alpha", f"{plain(value)} ({plain(low)} to {plain(high)}); 0 is chance")]


def _labeler(person: Any) -> str:
    if not isinstance(person, Mapping):
        return str(person)
    name = str(person.get("name") or person.get("id") or "labeler")
    extra = ", ".join(f"{key} {value}" for key, value in person.items() if key not in {"name", "id"})
    return f"{name} ({extra})" if extra else name


def _rate(run: ReportInput, *path: str) -> str:
    """A rate with its interval and n, in one text."""
    rate = run.rate("feedback", *path)
    if rate is None:
        return ""
    cell = rate_cell(rate)
    return cell.text + cell.error
