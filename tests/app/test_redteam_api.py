"""The API of the red team's page: who sees what and when, and that no turn, stop or report goes wrong unseen."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parrots import Parrots

from concordant.app.redteam.consent import remember
from concordant.app.redteam.server import create_app
from concordant.app.web.security import COOKIE, csrf_of
from concordant.feedback.accounts import Account, add_account, make_token, open_session
from concordant.feedback.reading.finds import conversation, finds
from concordant.feedback.store import Store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

HOST = "http://127.0.0.1:8000"
TALK = "/api/conversations/thread"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite") as opened:
        yield opened


@pytest.fixture
def models() -> Parrots:
    return Parrots()


@pytest.fixture
def client(store: Store, models: Parrots) -> Iterator[TestClient]:
    app = create_app(store, models, train=False, families=("direct",), owner=None)
    yield TestClient(app, base_url=HOST, follow_redirects=False)
    app.state.desk.close()


def headers(store: Store, name: str, role: str = "labeler", agreed: bool = True) -> dict[str, str]:
    """Of a page of somebody who has come in."""
    account: Account = add_account(store, name, role)
    if agreed:
        remember(store, account, "agreed")
    token = open_session(store, account)
    return {"cookie": f"{COOKIE}={token}", "x-csrf-token": csrf_of(token)}


def until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not there():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def say(client: TestClient, who: dict[str, str], text: str, turn: int = 1, after: str | None = None) -> Any:
    """Say something and wait for both answers; the conversation then."""
    sent = {"turn": turn, "text": text, "after": after}
    answer = client.post(f"{TALK}/messages", json=sent, headers=who)
    assert answer.status_code == 202, answer.text
    until(lambda: client.get(TALK, headers=who).json()["waiting"] is None)
    return client.get(TALK, headers=who).json()


def test_nothing_is_shown_before_the_warning_nor_after_leaving(client: TestClient, store: Store) -> None:
    who = headers(store, "ada", agreed=False)
    sent = {"turn": 1, "text": "hello"}
    assert "Before you begin" in client.get("/", headers=who).text
    assert client.get(TALK, headers=who).status_code == 403
    assert client.post(f"{TALK}/messages", json=sent, headers=who).status_code == 403
    assert client.post("/api/agree", headers=who).json() == {"state": "agreed"}
    found = say(client, who, "hello")
    assert len(found["turns"]) == 1
    assert client.post("/api/leave", headers=who).json() == {"state": "left"}
    for answer in (client.get(TALK, headers=who), client.post(f"{TALK}/messages", json=sent, headers=who)):
        assert answer.status_code == 403
    page = client.get("/", headers=who).text
    assert "Nothing more is shown to you" in page
    assert "heard" not in page


def test_what_leaving_interrupts_is_neither_shown_nor_kept(
    client: TestClient, store: Store, models: Parrots
) -> None:
    models.seconds = 30.0
    who = headers(store, "ada")
    client.post(f"{TALK}/messages", json={"turn": 1, "text": "hello"}, headers=who)
    until(lambda: bool(models.heard))
    client.post("/api/leave", headers=who)
    until(lambda: client.app.state.desk.place("thread") is None)  # type: ignore[attr-defined]
    assert conversation(store, "thread") == []


def test_the_models_keep_their_sides_and_their_names_to_themselves(client: TestClient, store: Store) -> None:
    who = headers(store, "ada")
    found = say(client, who, "one")
    for turn in (2, 3):
        found = say(client, who, f"say {turn}", turn, found["turns"][-1]["replies"][1]["id"])
    letters = [[reply["html"].split(" heard")[0] for reply in turn["replies"]] for turn in found["turns"]]
    assert letters[0] == letters[1] == letters[2], "A stays A"
    assert not {"sft", "policy"} & set(str(found).replace("'", " ").split())
    firsts = set()
    for number in range(20):
        thread = f"/api/conversations/t{number}"
        client.post(f"{thread}/messages", json={"turn": 1, "text": "x"}, headers=who)
        until(lambda thread=thread: client.get(thread, headers=who).json()["waiting"] is None)  # type: ignore[misc]
        firsts.add(client.get(thread, headers=who).json()["turns"][0]["replies"][0]["html"])
    assert len(firsts) == 2, "drawn for each conversation"


def test_a_turn_follows_on_the_answer_that_was_chosen(
    client: TestClient, store: Store, models: Parrots
) -> None:
    who = headers(store, "ada")
    found = say(client, who, "one")
    chosen = found["turns"][0]["replies"][1]
    again = client.post(f"{TALK}/messages", json={"turn": 1, "text": "one"}, headers=who)
    assert again.status_code == 409, "it has been answered"
    for after in (None, "nobodys"):
        sent = {"turn": 2, "text": "two", "after": after}
        assert client.post(f"{TALK}/messages", json=sent, headers=who).status_code == 409
    found = say(client, who, "two", 2, chosen["id"])
    said = [(one.role, one.content) for one in models.heard[-1]]
    assert said[0] == ("user", "one")
    assert said[1][1] in chosen["html"]
    assert said[2] == ("user", "two")
    assert found["turns"][1]["after"] == chosen["id"]


def test_a_conversation_is_its_owners_alone(client: TestClient, store: Store, models: Parrots) -> None:
    ada, bob = headers(store, "ada"), headers(store, "bob")
    say(client, ada, "secret of ada")
    assert client.get(TALK, headers=bob).status_code == 404
    sent = {"turn": 2, "text": "and?", "after": None}
    assert client.post(f"{TALK}/messages", json=sent, headers=bob).status_code == 404
    report = {"key": "k", "thread": "thread", "turn": 1, "judged": "both_bad", "severity": 2}
    assert client.post("/api/reports", json=report, headers=bob).status_code == 409
    models.seconds = 30.0
    client.post("/api/conversations/other/messages", json={"turn": 1, "text": "x"}, headers=ada)
    assert client.get("/api/conversations/other", headers=bob).status_code == 404, "while it waits, too"
    client.post("/api/conversations/other/stop", headers=bob)
    assert client.get("/api/conversations/other", headers=ada).json()["waiting"], "nobody stops another's"


def test_people_are_answered_one_after_the_other(client: TestClient, store: Store, models: Parrots) -> None:
    models.seconds = 0.5
    ada, bob = headers(store, "ada"), headers(store, "bob")
    client.post(f"{TALK}/messages", json={"turn": 1, "text": "of ada"}, headers=ada)
    until(lambda: bool(models.heard))
    waiting = client.post("/api/conversations/bobs/messages", json={"turn": 1, "text": "of bob"}, headers=bob)
    assert waiting.json()["waiting"] == {"turn": 1, "text": "of bob", "place": 1}
    again = client.post("/api/conversations/bobs/messages", json={"turn": 1, "text": "of bob"}, headers=bob)
    assert again.status_code == 202, "sent twice it waits once"
    third = client.post("/api/conversations/third/messages", json={"turn": 1, "text": "more"}, headers=bob)
    assert third.status_code == 409, "one at a time for each person"
    until(lambda: len(conversation(store, "bobs")) == 1)
    assert [one[-1].content for one in models.heard] == ["of ada", "of bob"]


def test_who_waits_can_stop_before_being_answered(client: TestClient, store: Store, models: Parrots) -> None:
    models.seconds = 0.5
    ada, bob = headers(store, "ada"), headers(store, "bob")
    client.post(f"{TALK}/messages", json={"turn": 1, "text": "of ada"}, headers=ada)
    until(lambda: bool(models.heard))
    client.post("/api/conversations/bobs/messages", json={"turn": 1, "text": "of bob"}, headers=bob)
    stopped = client.post("/api/conversations/bobs/stop", headers=bob).json()
    assert (stopped["waiting"], stopped["trouble"]) == (None, "stopped")
    until(lambda: len(conversation(store, "thread")) == 1)
    assert [one[-1].content for one in models.heard] == ["of ada"]


def test_what_breaks_one_answer_is_said_and_breaks_no_other(
    client: TestClient, store: Store, models: Parrots, caplog: pytest.LogCaptureFixture
) -> None:
    who = headers(store, "ada")

    def broken(stage: str, text: str) -> str:
        raise RuntimeError("out of everything")

    sensible, models.say = models.say, broken
    found = say(client, who, "one")
    assert found["turns"] == []
    assert "could not answer" in found["trouble"]
    assert "out of everything" in caplog.text
    assert "everything" not in found["trouble"], "what lies behind is for the terminal"
    models.say = sensible
    found = say(client, who, "one")
    assert (len(found["turns"]), found["trouble"]) == (1, "")


def test_a_report_is_kept_once_and_says_how_many_finds_there_are(client: TestClient, store: Store) -> None:
    who = headers(store, "ada")
    worse = say(client, who, "one")["turns"][0]["replies"][0]["id"]
    report = {"key": "k", "thread": "thread", "turn": 1, "judged": "worse", "worse": worse}
    report |= {"severity": 3, "family": " direct ", "note": ""}
    for _ in range(2):
        kept = client.post("/api/reports", json=report, headers=who).json()
        assert (kept["finds"], kept["unique"]) == (1, 1)
    shown = client.get(TALK, headers=who).json()["turns"][0]["report"]
    assert shown == {"judged": "worse", "worse": worse, "severity": 3, "family": "direct", "note": ""}
    for wrong in ({"severity": 5}, {"judged": "terrible"}, {"turn": 0}, {"family": "x" * 41}, {"more": 1}):
        assert client.post("/api/reports", json=report | wrong | {"key": "w"}, headers=who).status_code == 422
    assert len(finds(store)) == 1


def test_changes_need_the_page_and_a_role(client: TestClient, store: Store) -> None:
    who = headers(store, "ada")
    bare = {"cookie": who["cookie"]}
    assert client.post("/api/agree", headers=bare).status_code == 403
    assert client.post("/api/agree", headers={**who, "origin": "http://evil.example"}).status_code == 403
    assert client.get(TALK).status_code == 401
    assert client.get("/", headers=headers(store, "vera", "viewer")).status_code == 403
    assert client.get("/finds", headers=who).status_code == 403
    assert client.get("/finds", headers=headers(store, "lea", "lead")).status_code == 200
    reading = make_token(store, add_account(store, "ada", "labeler"), "test", ["read"], 30)[1]
    token = {"authorization": f"Bearer {reading}"}
    assert client.post("/api/agree", headers=token).status_code == 403
    page = client.get("/", headers=who)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "<script>" not in page.text


def test_a_conversation_with_other_models_goes_no_further(
    client: TestClient, store: Store, models: Parrots
) -> None:
    who = headers(store, "ada")
    chosen = say(client, who, "one")["turns"][0]["replies"][0]["id"]
    models.stages = ("base", "sft")
    sent = {"turn": 2, "text": "two", "after": chosen}
    answer = client.post(f"{TALK}/messages", json=sent, headers=who)
    assert answer.status_code == 409
    assert "begin a new conversation" in answer.json()["detail"]
    report = {"key": "k", "thread": "thread", "turn": 1, "judged": "both_bad", "severity": 1}
    assert client.post("/api/reports", json=report, headers=who).status_code == 200
