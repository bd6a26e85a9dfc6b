"""What stands between a page and the world: headers, the origin of requests, and who is asking."""

from __future__ import annotations

import hmac
import time
from collections import defaultdict, deque
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Path, Request
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from concordant.feedback.accounts import Account, of_session, of_token
from concordant.feedback.store import Store

COOKIE = "concordant"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    # Not no-referrer: then browsers send "Origin: null" with our own forms, and they could not be told from others.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """Puts the headers on every answer, and refuses changes that another site asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["method"] not in SAFE_METHODS and not _same_origin(scope):
            refusal = PlainTextResponse("this request comes from another site\n", 403)
            await refusal(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)


def _same_origin(scope: Scope) -> bool:
    """Browsers send Origin with every change; programs without one cannot be tricked into sending a cookie."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin")
    return origin is None or urlsplit(origin.decode("latin-1")).netloc == headers.get(b"host", b"").decode(
        "latin-1"
    )


def csrf_of(token: str) -> str:
    """What a page of this session has to send along with every change; another site cannot know it."""
    return hmac.new(token.encode(), b"csrf", sha256).hexdigest()


def store_of(request: Request) -> Store:
    """The store this server works on."""
    store: Store = request.app.state.store
    return store


def session_token(request: Request) -> str:
    """The secret in the cookie; empty where there is none."""
    return request.cookies.get(COOKIE, "")


def who(request: Request) -> Account:
    """Who is asking: by a token in the Authorization header, or by the session's cookie.

    A change that comes with a cookie has to bring the page's own secret too. Errors: 401, 403.
    """
    store = store_of(request)
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        account = of_token(store, secret.strip())
        if account is None:
            raise HTTPException(401, "this token is not known, or is too old")
        return account
    token = session_token(request)
    account = of_session(store, token) if token else None
    if account is None:
        raise HTTPException(401, "log in first")
    if request.method not in SAFE_METHODS:
        sent = request.headers.get("x-csrf-token", "")
        if not hmac.compare_digest(sent.encode(), csrf_of(token).encode()):
            raise HTTPException(403, "the page is out of date: load it again")
    return account


def may(role: str, scope: str) -> Any:
    """A dependency: the account that asks, which must have at least this role."""

    def check(account: Annotated[Account, Depends(who)]) -> Account:
        if not account.may(role, scope):
            raise HTTPException(403, f"this needs the role {role}")
        return account

    return Depends(check)


Labeler = Annotated[Account, may("labeler", "vote")]
Reader = Annotated[Account, may("viewer", "read")]
Lead = Annotated[Account, may("lead", "lead")]
Admin = Annotated[Account, may("admin", "lead")]
Key = Annotated[str, Path(pattern=r"^[A-Za-z0-9_:.-]{1,80}$")]


class Limit:
    """At most `n` tries within `seconds` for one key; the oldest are forgotten."""

    def __init__(self, n: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.n, self.seconds, self.clock = n, seconds, clock
        self.tries: dict[str, deque[float]] = defaultdict(deque)

    def allow(self, key: str) -> bool:
        """Count a try; False if there were too many."""
        now, tries = self.clock(), self.tries[key]
        while tries and tries[0] <= now - self.seconds:
            tries.popleft()
        if len(tries) >= self.n:
            return False
        tries.append(now)
        if len(self.tries) > 10_000:  # somebody tries many names
            self.tries = defaultdict(
                deque, {k: v for k, v in self.tries.items() if v and v[-1] > now - self.seconds}
            )
        return True
