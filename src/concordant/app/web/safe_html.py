"""Text of models and strangers as HTML that can do nothing: Markdown, code and formulas, and no more.

Three fences stand one behind the other: the Markdown parser knows no HTML, the sanitiser lets a short list of
elements through, and the page's content security policy runs no script that is not ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import nh3
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape
from mdit_py_plugins.dollarmath import dollarmath_plugin

LONGEST = 100_000  # characters rendered; what is longer is cut, and says so

_TAGS = "p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong s a table thead tbody tr th td"
_MATHML = (
    "math mrow mi mn mo mtext mspace mfrac msqrt mroot msup msub msubsup munder mover munderover mtable mtr mtd "
    "mstyle mpadded mphantom menclose"
)
ALLOWED = frozenset(_TAGS.split()) | frozenset(_MATHML.split())
ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href"},
    "ol": {"start"},
    "math": {"display", "xmlns"},
    "mo": {"stretchy", "fence", "separator", "form"},
    "mi": {"mathvariant"},
    "mstyle": {"displaystyle", "scriptlevel"},
}


def safe_html(text: str) -> Markup:
    """`text` as HTML to be put into a page as it is."""
    shown = text[:LONGEST]
    html = nh3.clean(
        markdown().render(shown),
        tags=set(ALLOWED),
        attributes=ATTRIBUTES,
        url_schemes={"http", "https"},
        link_rel="noopener noreferrer ugc",
        url_relative="deny",  # of this server nothing is linked to from a model's text
        clean_content_tags={"script", "style"},
    )
    if len(text) > LONGEST:
        html += f"<p><em>({len(text) - LONGEST:,} more characters are not shown)</em></p>"
    return Markup(html)


@cache
def markdown() -> MarkdownIt:
    """The parser: CommonMark with tables and formulas, without HTML, pictures as links."""
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, renderer=_formula, allow_space=False, double_inline=True)
    parser.add_render_rule("image", _link_instead)
    return parser


def _formula(tex: str, options: dict[str, Any]) -> str:
    try:
        return str(convert(tex, display="block" if options["display_mode"] else "inline"))
    except (
        Exception
    ):  # the converter is no parser of strangers' text: whatever it trips over is shown as it was typed
        return f"<code>{escape(tex)}</code>"


def _link_instead(_self: Any, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    """A picture would be fetched from somebody's server as soon as it is shown."""
    address = escape(str(tokens[index].attrGet("src") or ""))
    label = escape(tokens[index].content or "picture")
    return f'<a href="{address}">[{label}]</a>'
