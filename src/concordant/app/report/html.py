"""A report as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from concordant import __version__
from concordant.app.report.document import Figure, Report

# Characters that hide or reorder what stands beside them: controls, halves of surrogates, direction marks.
_HIDING = [*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0), *range(0xD800, 0xE000)]
_INVISIBLE = [
    0xAD,
    0x200B,
    0x2028,
    0x2029,
    0x2060,
    0xFEFF,
    *range(0xE0000, 0xE0080),
]  # but joiners make emoji
_REORDERING = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
SHOWN_AS_MARKS = dict.fromkeys([*_HIDING, *_INVISIBLE, *_REORDERING], "\ufffd")


def page(report: Report) -> str:
    """The page. Everything in it is escaped but the drawings, and it forbids itself any script and any request."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["draw"] = _draw
    template = environment.get_template("report.html.j2")
    return template.render(report=report, version=__version__).translate(SHOWN_AS_MARKS)


def _draw(figure: Figure) -> Markup:
    return Markup(figure.draw())
