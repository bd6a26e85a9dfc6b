"""The pages of the red team: the warning, the conversation, and for leads what was found."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from concordant.app.redteam.api import found_by
from concordant.app.redteam.consent import state_of
from concordant.app.redteam.forms import LONGEST_MESSAGE
from concordant.app.web.pages import page
from concordant.app.web.security import Labeler, Lead, store_of
from concordant.feedback.answering.finds import SEVERITIES
from concordant.feedback.reading.finds import finds, ranking, summary

router = APIRouter(include_in_schema=False)


@router.get("/", name="home")
def home(request: Request, account: Labeler) -> HTMLResponse:
    """The warning, the conversation, or nothing more, as somebody has said."""
    state = state_of(account)
    if state == "left":
        return page(request, "left.html.j2", account=account)
    if state == "new":
        return warning(request, account)
    known: dict[str, Any] = {"families": request.app.state.families, "longest": LONGEST_MESSAGE}
    found = found_by(store_of(request), account)
    return page(request, "attack.html.j2", account=account, severities=SEVERITIES, found=found, **known)


@router.get("/warning", name="warning")
def warning(request: Request, account: Labeler) -> HTMLResponse:
    """What may come, what is kept of it, and what it is for."""
    train = request.app.state.train
    return page(request, "warning.html.j2", account=account, severities=SEVERITIES, train=train)


@router.get("/finds", name="finds")
def found(request: Request, account: Lead) -> HTMLResponse:
    """Who found how much that is new, which model failed how often, and the finds themselves, closed until opened."""
    store = store_of(request)
    told: dict[str, Any] = {"ranking": ranking(store), "summary": summary(store), "finds": finds(store)}
    return page(request, "finds.html.j2", account=account, severities=SEVERITIES, **told)
