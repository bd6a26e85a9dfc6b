"""Pages from templates. Everything that is put in is escaped, but for what `safe_html` has made."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from concordant.app.web.safe_html import safe_html
from concordant.app.web.security import csrf_of, session_token

APP = Path(__file__).parents[1]


@cache
def templates() -> Environment:
    """Templates of all pages."""
    folders = [APP / room / "templates" for room in ("web", "label", "redteam")]
    found = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["safe_html"] = safe_html
    found.filters["thousands"] = lambda n: f"{n:,}"
    return found


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page."""
    token = session_token(request)
    common = {
        "request": request,
        "url": lambda name, **parts: str(request.app.url_path_for(name, **parts)),
        "csrf": csrf_of(token) if token else "",
        "account": None,
    }
    return HTMLResponse(templates().get_template(template).render({**common, **values}), status)
