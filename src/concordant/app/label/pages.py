"""The pages: projects, the question at hand, progress, people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import ascii_uppercase
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from concordant.app.label.api import labeler_rows
from concordant.app.web.pages import page
from concordant.app.web.security import Admin, Key, Labeler, Lead, Reader, store_of
from concordant.feedback.accounts import accounts
from concordant.feedback.answering.disputes import disputes
from concordant.feedback.asking.known import asked_for
from concordant.feedback.asking.project_settings import config_of
from concordant.feedback.asking.rubric import dimensions_of, latest_rubric
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.ids import content_id
from concordant.feedback.reading.answered import Answered
from concordant.feedback.reading.projects import Project, done_by, pace, passed_over, project_of, projects
from concordant.feedback.reading.standing import standing
from concordant.feedback.reading.versus import is_versus, result
from concordant.feedback.votes import Payload

router = APIRouter(include_in_schema=False)

Then = Annotated[str, Query(pattern=r"^[A-Za-z0-9_:.-]{0,80}$")]


@router.get("/", name="home")
def home(request: Request, account: Reader) -> HTMLResponse:
    """What there is to do."""
    store = store_of(request)
    found = [one for one in projects(store) if one.purpose in ("training", "evaluation")]
    mine = {one.id: done_by(store, one.id, account.labeler)[0] for one in found}
    return page(request, "home.html.j2", account=account, projects=found, mine=mine)


@router.get("/label/{project}", name="label")
def label(request: Request, account: Labeler, project: Key) -> Response:
    """The question at hand; before the first one the instructions and three exercises."""
    store = store_of(request)
    one = project_of(store, asked_for(store, project))
    if not account.settings.get("practised") and one.purpose != "practice":
        return RedirectResponse(f"{request.app.url_path_for('welcome')}?then={one.id}", status_code=303)
    return page(request, "label.html.j2", account=account, project=one, then="", **_instructions(one))


def _instructions(project: Project) -> dict[str, Any]:
    """What a lead has written for labelers, and what tells it from an earlier text."""
    text = config_of(project.settings).instructions.strip()
    return {"instructions": text, "edition": content_id(text) if text else ""}


@router.get("/welcome", name="welcome")
def welcome(request: Request, account: Labeler, then: Then = "") -> HTMLResponse:
    """What is asked of a labeler, before the exercises."""
    store = store_of(request)
    with store.reading() as connection:
        rubric = latest_rubric(connection, then or DEFAULT_PROJECT)
    dimensions = dimensions_of(rubric)
    return page(request, "welcome.html.j2", account=account, dimensions=dimensions, then=then)


@router.get("/practice", name="practice")
def practice(request: Request, account: Labeler, then: Then = "") -> HTMLResponse:
    """The exercises."""
    one = project_of(store_of(request), request.app.state.practice)
    return page(request, "label.html.j2", account=account, project=one, then=then, **_instructions(one))


@router.get("/progress/{project}", name="progress")
def progress(request: Request, account: Lead, project: Key) -> HTMLResponse:
    """How far a project is, how well labelers agree, and how far to trust each."""
    store = store_of(request)
    one = project_of(store, project)
    figures: dict[str, Any] = {
        "standing": standing(store, project),
        "rows": labeler_rows(store, project),
        "won": result(store, project) if is_versus(one.settings) else None,
        "pace": pace(store, project),
        "passed": passed_over(store, project),
    }
    return page(request, "progress.html.j2", account=account, project=one, **figures)


@router.get("/disputes/{project}", name="disputes")
def disputed(request: Request, account: Lead, project: Key) -> HTMLResponse:
    """Questions on which labelers do not agree."""
    store = store_of(request)
    found = [(one, [in_words(one, payload) for _, payload in one.said]) for one in disputes(store, project)]
    return page(
        request, "disputes.html.j2", account=account, project=project_of(store, project), disputes=found
    )


def in_words(question: Answered, payload: Payload) -> str:
    """A verdict as a lead reads it, with the reason where one was given."""
    letters = {one.id: letter for one, letter in zip(question.completions, ascii_uppercase, strict=False)}
    said = _IN_WORDS[payload["type"]](payload, letters)
    return f"{said} (“{payload['rationale']}”)" if payload.get("rationale") else said


def _pair_in_words(payload: Payload, letters: Mapping[str, str]) -> str:
    if payload["verdict"] == "prefer":
        return f"{letters[payload['winner']]} is better"
    return "both are as good" if payload["verdict"] == "tie" else "neither will do"


def _ranking_in_words(payload: Payload, letters: Mapping[str, str]) -> str:
    order = " > ".join(" = ".join(letters[key] for key in tier) for tier in payload["tiers"])
    bad = ", ".join(letters[key] for key in payload.get("unacceptable", ()))
    return f"{order}; will not do: {bad}" if bad else order


def _rating_in_words(payload: Payload, letters: Mapping[str, str]) -> str:
    given = sorted((letters[key], scores) for key, scores in payload["scores"].items())
    return "; ".join(
        f"{letter}: {', '.join(f'{name} {score:g}' for name, score in scores.items())}"
        for letter, scores in given
    )


def _edit_in_words(payload: Payload, _letters: Mapping[str, str]) -> str:
    if payload.get("accept"):
        return "good as it is"
    return "wrote another version" if payload.get("parent") else "wrote an answer"


_IN_WORDS: Mapping[str, Callable[[Payload, Mapping[str, str]], str]] = {
    "pairwise": _pair_in_words,
    "ranking": _ranking_in_words,
    "rating": _rating_in_words,
    "edit": _edit_in_words,
}


@router.get("/people", name="people")
def people(request: Request, account: Admin) -> HTMLResponse:
    """Who may log in."""
    return page(request, "people.html.j2", account=account, accounts=accounts(store_of(request)))
