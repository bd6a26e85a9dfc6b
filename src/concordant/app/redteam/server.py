"""The server of the red team's page: one process, one store, two models behind one desk."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from concordant.app.redteam import api, pages
from concordant.app.redteam.desk import Answering, Asked, Desk
from concordant.app.web.server import APP, LOOPBACK, web_app
from concordant.feedback.accounts import Account
from concordant.feedback.answering.finds import Answer, keep_turn, red_team
from concordant.feedback.store import Store


def create_app(
    store: Store,
    models: Answering,
    *,
    train: bool,
    families: Sequence[str],
    owner: Account | None,
    owner_token: str = "",
    hosts: Sequence[str] = LOOPBACK,
) -> FastAPI:
    """The application; its desk (`app.state.desk`) is to be closed at the end.

    With `train` runs learn from what is reported. `families` are names of attacks to choose from. `owner` comes in
    with `owner_token`; `hosts` are the names this server answers to.
    """
    app = web_app(
        store,
        title="concordant red team",
        description="Talk to two models and report what they do wrong. Every change needs a session with its CSRF "
        "token, or a bearer token.",
        static=APP / "redteam" / "static",
        routers=(pages.router, api.router),
        owner=owner,
        owner_token=owner_token,
        hosts=hosts,
    )

    def keep(asked: Asked, said: tuple[Answer, Answer]) -> None:
        keep_turn(store, asked.labeler, asked.thread, asked.number, asked.prompt, said, asked.after)

    app.state.desk = Desk(models, keep)
    app.state.project = red_team(store, train=train)
    app.state.train, app.state.families = train, tuple(families)
    return app
