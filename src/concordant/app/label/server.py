"""The server of the labeling page: one process, one store."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from concordant.app.label import api, pages
from concordant.app.label.leading import api as leading_api
from concordant.app.label.leading import pages as leading_pages
from concordant.app.web.server import APP, LOOPBACK, web_app
from concordant.feedback.accounts import Account
from concordant.feedback.asking.practice import add_practice
from concordant.feedback.store import Store


def create_app(
    store: Store, *, owner: Account | None, owner_token: str = "", hosts: Sequence[str] = LOOPBACK
) -> FastAPI:
    """The application. `owner` comes in with `owner_token`; `hosts` are the names this server answers to."""
    app = web_app(
        store,
        title="concordant label",
        description="Compare answers. Every change needs a session with its CSRF token, or a bearer token.",
        static=APP / "label" / "static",
        routers=(pages.router, leading_pages.router, api.router, leading_api.router),
        owner=owner,
        owner_token=owner_token,
        hosts=hosts,
    )
    app.state.practice = add_practice(store)
    return app
