"""What every server of pages is made of: who may come in, what is refused and how that is said, and listening."""

from __future__ import annotations

import json
import logging
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from concordant import __version__
from concordant.app.web import login
from concordant.app.web.pages import page
from concordant.app.web.security import Guard, Limit
from concordant.errors import UserError
from concordant.feedback.accounts import Account
from concordant.feedback.store import Store

APP = Path(__file__).parents[1]
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def web_app(
    store: Store,
    *,
    title: str,
    description: str,
    static: Path,
    routers: Sequence[APIRouter],
    owner: Account | None,
    owner_token: str = "",
    hosts: Sequence[str] = LOOPBACK,
) -> FastAPI:
    """An application of pages on `store`, one of which is called `home`; scripts and styles of its own lie in `static`.

    `owner` comes in with `owner_token`; `hosts` are the names this server answers to.
    """
    app = FastAPI(
        title=title,
        version=__version__,
        description=description,
        docs_url=None,  # its page would load scripts from another site
        redoc_url=None,
    )
    app.state.store = store
    app.state.owner, app.state.owner_token = owner, owner_token or secrets.token_urlsafe(24)
    app.state.limits = (Limit(5, 60.0), Limit(30, 60.0))
    for router in (login.router, *routers):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=static), name="static")
    app.mount("/web", StaticFiles(directory=APP / "web" / "static"), name="web")
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _not_an_address)
    app.add_middleware(Guard)
    # Another name than ours in the Host header is a page elsewhere that has pointed its name at this machine.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


def _user_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, UserError)
    said = str(error)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": said}, 409)
    return page(request, "message.html.j2", title="That did not work", said=said, status=409)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
    if error.status_code == 401:
        return RedirectResponse(request.app.url_path_for("login"), status_code=303)
    return page(
        request,
        "message.html.j2",
        title="That did not work",
        said=str(error.detail),
        status=error.status_code,
    )


async def _not_an_address(request: Request, error: Exception) -> Response:
    """A page whose address makes no sense is a page that is not there; a program is told what is wrong."""
    assert isinstance(error, RequestValidationError)
    if request.url.path.startswith("/api/"):
        # What was sent is not sent back: it may hold what JSON cannot say.
        told = [{"loc": one["loc"], "msg": one["msg"], "type": one["type"]} for one in error.errors()]
        return JSONResponse({"detail": json.loads(json.dumps(told, default=str))}, 422)
    said = "There is no such page."
    return page(request, "message.html.j2", title="That did not work", said=said, status=404)


def free_port(host: str) -> int:
    """A port nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


def serve(app: FastAPI, host: str, port: int) -> None:
    """Answer requests until Ctrl-C."""
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # Not what uvicorn finds installed: another package must not change what serves the page.
    uvicorn.run(
        app, host=host, port=port, loop="asyncio", http="h11", log_level="warning", access_log=False,
        server_header=False,
    )  # fmt: skip
