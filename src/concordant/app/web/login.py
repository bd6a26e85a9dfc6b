"""Coming in and going out: the link printed at the start, names with passwords, invitations."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from concordant.app.web.pages import page
from concordant.app.web.security import COOKIE, Limit, csrf_of, session_token, store_of
from concordant.errors import UserError
from concordant.feedback.accounts import SESSION_MS, accept, close_session, log_in, open_session

router = APIRouter(include_in_schema=False)

Line = Annotated[str, Form(max_length=1000, pattern=r"^[^\x00]*$")]
TOO_MANY = "Too many tries. Wait a minute."


def with_cookie(request: Request, token: str) -> Response:
    """To the first page, with a session."""
    answer = RedirectResponse(request.url_for("home"), status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, token, max_age=SESSION_MS // 1000, httponly=True, samesite="lax", secure=secure, path="/"
    )
    return answer


@router.get("/enter", name="enter")
def enter(request: Request, token: str = "") -> Response:
    """The link printed on the terminal: whoever can read the terminal is the owner."""
    state = request.app.state
    if state.owner is None or not hmac.compare_digest(token.encode(), state.owner_token.encode()):
        raise HTTPException(403, "this link is not the one printed on the terminal")
    return with_cookie(request, open_session(store_of(request), state.owner))


@router.get("/login", name="login")
def login_page(request: Request) -> HTMLResponse:
    """A form."""
    return page(request, "login.html.j2", said="")


@router.post("/login")
def login(request: Request, name: Line, password: Line) -> Response:
    """Check a name and a password; five tries a minute for a name, thirty for an address."""
    limits: tuple[Limit, Limit] = request.app.state.limits
    address = request.client.host if request.client else "?"
    if not (limits[0].allow(f"{address} {name}") and limits[1].allow(address)):
        return page(request, "login.html.j2", said=TOO_MANY, status=429)
    account = log_in(store_of(request), name, password)
    if account is None:
        return page(request, "login.html.j2", said="This name and password do not go together.", status=401)
    return with_cookie(request, open_session(store_of(request), account))


@router.get("/invitation", name="invitation")
def invitation_page(request: Request, token: str = "") -> HTMLResponse:
    """A form for a password."""
    return page(request, "invitation.html.j2", token=token, said="")


@router.post("/invitation")
def invitation(request: Request, token: Line, password: Line) -> Response:
    """Set the password of an invited account and come in."""
    address = request.client.host if request.client else "?"
    if not request.app.state.limits[1].allow(address):
        return page(request, "invitation.html.j2", token=token, said=TOO_MANY, status=429)
    try:
        account = accept(store_of(request), token, password)
    except UserError as error:
        told = f"{error.what[0].upper()}{error.what[1:]}: {error.fix} (expected: {error.expected})."
        return page(request, "invitation.html.j2", token=token, said=told, status=400)
    return with_cookie(request, open_session(store_of(request), account))


@router.post("/logout", name="logout")
def logout(request: Request, csrf: Annotated[str, Form()] = "") -> Response:
    """End the session."""
    token = session_token(request)
    if not hmac.compare_digest(csrf.encode(), csrf_of(token).encode()):
        raise HTTPException(403, "the page is out of date: load it again")
    close_session(store_of(request), token)
    answer = RedirectResponse(request.url_for("login"), status_code=303)
    answer.delete_cookie(COOKIE, path="/")
    return answer
