"""Whatever is sent to an API, a server answers and is not at fault: never a 5xx."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from parrots import Parrots
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from test_label_api import questions, session

from concordant.app.label.server import create_app
from concordant.app.redteam import server as redteam
from concordant.app.redteam.consent import remember
from concordant.feedback.accounts import add_account
from concordant.feedback.store import Store

EXAMPLES = 40  # bodies for each operation, in the form it asks for and in none


def answered(app: FastAPI, headers: dict[str, str], *, last: str = "") -> dict[str, set[int]]:
    """The states that came back for each operation of an application; the test fails where one is a 5xx.

    The operation called `last` ends what the others need.
    """
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers)
    tried: dict[str, set[int]] = {}

    def try_out(operation: Any, mode: GenerationMode) -> None:
        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        def sent(case: schemathesis.Case) -> None:
            answer = case.call(headers=headers)
            case.validate_response(answer, checks=[not_a_server_error])
            tried.setdefault(operation.label, set()).add(answer.status_code)

        # Where nothing is asked for, nothing can be sent in the wrong form.
        with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
            sent()

    operations = sorted((one.ok() for one in schema.get_all_operations()), key=lambda one: one.label == last)
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try_out(operation, mode)
    return tried


def test_no_body_makes_the_labeling_server_fail(tmp_path: Path) -> None:
    with Store.open(tmp_path / "feedback.sqlite") as store:
        questions(store, 50)
        headers = session(store, add_account(store, "owner", "admin")) | {"host": "127.0.0.1"}
        tried = answered(create_app(store, owner=None), headers)
    assert len(tried) >= 9
    assert 200 in tried["GET /api/me"]
    assert 422 in tried["POST /api/votes"], "bodies of no sense were tried"


def test_no_body_makes_the_server_of_the_red_team_fail(tmp_path: Path) -> None:
    with Store.open(tmp_path / "feedback.sqlite") as store:
        owner = add_account(store, "owner", "admin")
        remember(store, owner, "agreed")
        headers = session(store, owner) | {"host": "127.0.0.1"}
        app = redteam.create_app(store, Parrots(), train=False, families=(), owner=None)
        try:
            tried = answered(app, headers, last="POST /api/leave")
        finally:
            app.state.desk.close()
    assert {202, 422} <= tried["POST /api/conversations/{thread}/messages"]
    assert {409, 422} <= tried["POST /api/reports"]
