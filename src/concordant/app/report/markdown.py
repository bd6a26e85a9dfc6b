"""A report as Markdown: what the page says, with a table of numbers in place of every drawing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from concordant.app.report.document import (
    Block,
    Browser,
    Callout,
    Cell,
    Code,
    Facts,
    Figures,
    Fold,
    Notes,
    Report,
    Sample,
    Section,
    Stats,
    Table,
    Text,
)  # fmt: skip
from concordant.app.report.html import SHOWN_AS_MARKS

# Signs that begin markup anywhere, and those that do so at the beginning of a line.
_ANYWHERE = re.compile(r"([\\`*_\[\]<>#|~&$])")
_AT_FRONT = re.compile(r"^(\s*)([-+=])|^(\s*\d+)([.)])(?=\s|$)", re.MULTILINE)


def markdown(report: Report) -> str:
    """The whole report in GitHub's Markdown. Whatever came from models, recipes or data is escaped."""
    lines = [f"# {escaped(report.verdict.headline)}", "", escaped(" · ".join(report.overline)), ""]
    lines += [escaped(paragraph) for paragraph in report.verdict.paragraphs if paragraph]
    lines += _bullets(report.verdict.points)
    for callout in report.callouts:
        lines += ["", f"## {escaped(callout.headline)}", "", *_bullets(callout.points)]
    if report.caveats:
        lines += ["", "## Keep in mind", "", *_bullets(report.caveats)]
    for section in report.sections:
        lines += ["", *sectioned(section)]
    return "\n".join(lines).translate(SHOWN_AS_MARKS).rstrip() + "\n"


def sectioned(section: Section, level: int = 2) -> Iterator[str]:
    """The lines of one section."""
    yield f"{'#' * level} {escaped(section.title)}"
    for block in section.blocks:
        yield ""
        yield from _block(block, level + 1)


def escaped(text: str) -> str:
    """`text` as Markdown that shows it as it is: no markup, no HTML, no links, and line breaks kept."""
    safe = (
        _AT_FRONT.sub(r"\1\3\\\2\4", _ANYWHERE.sub(r"\\\1", text))
        .replace("://", r":\//")
        .replace("www.", r"www\.")
    )
    return safe.replace("\r", "").replace("\n", "<br>")


def _block(block: Block, level: int) -> Iterator[str]:
    writer: Callable[..., Iterator[str]] = _WRITERS[block.kind]
    yield from writer(block, level)


def _text(block: Text, _: int) -> Iterator[str]:
    yield escaped(block.text)


def _callout(block: Callout, _: int) -> Iterator[str]:
    yield f"> **{escaped(block.headline)}**"
    yield from (f">\n> {escaped(paragraph)}" for paragraph in block.paragraphs if paragraph)
    if block.points:
        yield ">"
        yield from (f"> {line}" for line in _bullets(block.points))


def _notes(block: Notes, _: int) -> Iterator[str]:
    yield from _bullets(block.items)


def _bullets(items: tuple[str, ...]) -> Iterator[str]:
    yield from (f"- {escaped(item)}" for item in items)


def _facts(block: Facts, level: int) -> Iterator[str]:
    yield from _heading(block.title, level)
    yield from _grid(["", ""], ([label, text] for label, text in block.rows))


def _stats(block: Stats, _: int) -> Iterator[str]:
    rows = ([stat.label, _cell(stat.cell), stat.note] for stat in block.items)
    yield from _grid(["figure", "value", "how to read it"], rows)


def _table(block: Table, level: int) -> Iterator[str]:
    yield from _heading(block.title, level)
    noted = any(row.note for row in block.rows)
    head = [block.corner, *(column.text for column in block.columns), *([""] if noted else [])]
    rows = (
        [row.label, *(_cell(cell) for cell in row.cells), *([row.note] if noted else [])]
        for row in block.rows
    )
    yield from _grid(head, rows)
    if block.note:
        yield from ("", escaped(block.note))


def _cell(cell: Cell | None) -> str:
    return "–" if cell is None else f"{cell.text} {cell.error.strip()}".strip()


def _grid(head: list[str], rows: Any) -> Iterator[str]:
    """A table; every cell stands on one line."""
    yield f"| {' | '.join(map(escaped, head))} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(map(escaped, row))} |" for row in rows)


def _figures(block: Figures, level: int) -> Iterator[str]:
    yield from _heading(block.title, level)
    deeper = level + 1 if block.title else level
    for place, figure in enumerate(block.items):
        if place:
            yield ""
        yield from (f"{'#' * deeper} {escaped(figure.title)}", "", escaped(figure.note), "")
        yield from _table(figure.numbers, deeper + 1)


def _browser(block: Browser, level: int) -> Iterator[str]:
    for place, view in enumerate(block.views):
        if place:
            yield ""
        yield from (f"{'#' * level} {escaped(view.title)}", "", escaped(view.note))
        for sample in view.samples:
            yield ""
            yield from _sample(sample)


def _sample(sample: Sample) -> Iterator[str]:
    family = f"{escaped(sample.family)}: " if sample.family else ""
    yield family + " → ".join(f"**{escaped(content)}**" for _, content in sample.turns if content)
    yield ""
    rows = (
        [
            reply.name,
            reply.text or "(nothing)",
            ", ".join(f"{mark.label} {mark.text}" for mark in reply.marks),
        ]
        for reply in sample.replies
    )
    yield from _grid(["model", "answer", "figures"], rows)


def _code(block: Code, level: int) -> Iterator[str]:
    yield from _heading(block.title, level)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block.text)), default=0))
    yield from (fence, block.text, fence)


def _fold(block: Fold, level: int) -> Iterator[str]:
    yield from _heading(block.title, level)
    for place, one in enumerate(block.blocks):
        if place:
            yield ""
        yield from _block(one, level + 1)


def _heading(title: str, level: int) -> Iterator[str]:
    if title:
        yield from (f"{'#' * level} {escaped(title)}", "")


_WRITERS: Mapping[str, Callable[..., Iterator[str]]] = {
    "text": _text,
    "callout": _callout,
    "notes": _notes,
    "facts": _facts,
    "stats": _stats,
    "table": _table,
    "figures": _figures,
    "browser": _browser,
    "code": _code,
    "fold": _fold,
}
