"""Where the run comes from: stages, time, versions, and every value in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from concordant.app.report.document import Bar, Cell, Code, Column, Facts, Fold, Row, Section, Table, blocks
from concordant.app.report.phrases import count, duration, setting
from concordant.app.report.source import ReportInput, flat, number


def section(run: ReportInput) -> Section:
    """What another person needs to get the same figures."""
    known, values = facts(run), tuple((key, setting(value)) for key, value in flat(run.recipe))
    command = str(run.at("command") or f"concordant run runs/{run.name}/recipe.toml")
    found = blocks(
        stages(run),
        Facts(known, "Run") if known else None,
        Code(command, "To make it again"),
        Fold("The recipe, every value in force", (Facts(values, look="values"),)) if values else None,
    )
    return Section("made", "How it was made", "How it was made", found)


def stages(run: ReportInput) -> Table | None:
    """Time and speed of every stage, in the order of the results."""
    table = run.table("seconds", "stages")
    rows = {name: row if isinstance(row, Mapping) else {"seconds": row} for name, row in table.items()}
    spent = {name: number(row.get("seconds")) or 0.0 for name, row in rows.items()}
    total = sum(spent.values()) or 1.0
    columns = tuple(Column(text) for text in ("Time", "Tokens", "Speed", "Spent on"))
    lines = []
    for name, row in rows.items():
        bar = Bar(0.0, round(100 * spent[name] / total, 1), 0.0, None, None)
        tokens, speed = _tokens(run, name, row)
        time = Cell(duration(spent[name]), value=spent[name], bar=bar)
        parts = ", ".join(_activities(run, name, row))
        lines.append(Row(name, (time, Cell(tokens), Cell(speed), Cell(parts)), model="sft"))
    return Table(columns, tuple(lines), "Stage") if lines else None


def _tokens(run: ReportInput, name: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """How many tokens a stage went through, and how many a second."""
    tokens, speed = number(row.get("tokens")), number(row.get("tokens_per_s"))
    if tokens is None:
        activities = run.table("throughput", name)
        tokens = sum(run.number("throughput", name, activity, "tokens") or 0.0 for activity in activities)
        seconds = sum(run.number("throughput", name, activity, "seconds") or 0.0 for activity in activities)
        speed = tokens / seconds if seconds else None
    return count(tokens) if tokens else "–", f"{count(speed)}/s" if tokens and speed else "–"


def _activities(run: ReportInput, name: str, row: Mapping[str, Any]) -> Iterator[str]:
    """Sampling, scoring and training apart, where the stage measured them."""
    for activity in ("sample", "score", "train"):
        seconds = number(row.get(f"{activity}_s")) or run.number("throughput", name, activity, "seconds")
        if seconds:
            yield f"{activity} {duration(seconds)}"


def facts(run: ReportInput) -> tuple[tuple[str, str], ...]:
    """Seed, machine, versions and the digest of the code."""
    total, memory = run.number("seconds", "total"), run.number("peak_rss_mb")
    versions = ", ".join(f"{name} {version}" for name, version in run.table("versions").items())
    rows = (
        ("World", f"{run.at('world')} (embedded, with an exact gold reward)" if run.at("world") else ""),
        ("Seed", "" if run.at("seed") is None else str(run.at("seed"))),
        ("Total time", duration(total) if total is not None else ""),
        ("Peak memory", f"{memory:,.0f} MB" if memory is not None else ""),
        ("Device", str(run.at("device") or run.at("machine") or "")),
        ("Threads", "" if run.at("threads") is None else str(run.at("threads"))),
        ("Versions", versions),
        ("Code", str(run.setting("fingerprints", "code") or "")),
        ("Gate", str(run.at("gate", "hash") or "")),
    )
    return tuple((label, text) for label, text in rows if text)
