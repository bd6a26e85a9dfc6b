"""The pages of a lead: asking the questions of a file, what holds for a project, answers, and known answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from concordant.app.label.leading.api import PAGE, After
from concordant.app.label.leading.uploads import KINDS, MOST_BYTES
from concordant.app.label.pages import in_words
from concordant.app.web.pages import page
from concordant.app.web.security import Key, Lead, store_of
from concordant.feedback.asking.known import KINDS as KNOWABLE
from concordant.feedback.asking.known import known_answers, origins
from concordant.feedback.asking.project_settings import config_of
from concordant.feedback.exchange.questions import MOST_ROWS
from concordant.feedback.reading.answered import answered
from concordant.feedback.reading.projects import project_of

router = APIRouter(include_in_schema=False)


@router.get("/ask", name="ask_page")
def ask_page(request: Request, account: Lead) -> HTMLResponse:
    """A form for a file of questions."""
    limits = {"kinds": ",".join(KINDS), "megabytes": MOST_BYTES // 2**20, "rows": MOST_ROWS}
    return page(request, "ask.html.j2", account=account, limits=limits)


@router.get("/settings/{project}", name="settings_page")
def settings_page(request: Request, account: Lead, project: Key) -> HTMLResponse:
    """What holds for a project, and its votes as files."""
    one = project_of(store_of(request), project)
    return page(request, "settings.html.j2", account=account, project=one, config=config_of(one.settings))


@router.get("/known/{project}", name="known_page")
def known_page(request: Request, account: Lead, project: Key, after: After = 0) -> HTMLResponse:
    """The questions whose answer is known, and what each labeler said."""
    store = store_of(request)
    one = project_of(store, project)
    found = known_answers(store, project, PAGE + 1, after=after)
    shown = [
        (each, [in_words(each.question, payload) for _, payload in each.question.said])
        for each in found[:PAGE]
    ]
    return page(
        request,
        "known.html.j2",
        account=account,
        project=one,
        known=shown,
        every=config_of(one.settings).known_every,
        **_around(after, len(found)),
    )


@router.get("/answered/{project}", name="answered_page")
def answered_page(request: Request, account: Lead, project: Key, after: After = 0) -> HTMLResponse:
    """Answered questions, to be read or to be made ones with a known answer."""
    store = store_of(request)
    one = project_of(store, project)
    found = answered(store, project, PAGE + 1, after=after)
    shown = [(each, [in_words(each, payload) for _, payload in each.said]) for each in found[:PAGE]]
    return page(
        request,
        "answered.html.j2",
        account=account,
        project=one,
        answered=shown,
        knowable=KNOWABLE,
        known=origins(store, project),
        **_around(after, len(found)),
    )


def _around(after: int, found: int) -> dict[str, Any]:
    """Where the pages before and behind this one begin, or None; `found` is more than a page where there is another."""
    return {
        "newer": max(0, after - PAGE) if after else None,
        "older": after + PAGE if found > PAGE else None,
    }
