"""The API of the labeling server: who may do what, what is refused, and that nothing is counted twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from clocks import Clock
from concordant.app.label.server import create_app
from concordant.app.web.security import COOKIE, HEADERS, Limit, csrf_of
from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.accounts import (
    DAY_MS,
    INVITATION_MS,
    SESSION_MS,
    Account,
    accept,
    add_account,
    invite,
    log_in,
    make_token,
    of_session,
    of_token,
    open_session,
    set_disabled,
)
from concordant.feedback.asking.known import gold_scores
from concordant.feedback.asking.practice import add_gold
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.store import Store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

HOST = "http://127.0.0.1:8000"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Any, clock: Clock) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite", clock=clock) as opened:
        yield opened


@pytest.fixture
def client(store: Store) -> TestClient:
    """Somebody at the other end who keeps no cookies."""
    return TestClient(create_app(store, owner=None), base_url=HOST, follow_redirects=False)


def questions(store: Store, n: int = 5) -> list[str]:
    prompts = [Prompt.user(f"question {i}") for i in range(n)]
    sampled = [(p, Completion(f"answer {j}"), {}, True) for p in prompts for j in (0, 1)]
    ids = store.add_completions(sampled)
    made = store.create_tasks("pairwise", [ids[i : i + 2] for i in range(0, 2 * n, 2)])
    return [task for task in made.ids if task]


def session(store: Store, account: Account) -> dict[str, str]:
    """The headers of a page of somebody who is logged in."""
    token = open_session(store, account)
    return {"cookie": f"{COOKIE}={token}", "x-csrf-token": csrf_of(token)}


def bearer(store: Store, account: Account, *scopes: str) -> dict[str, str]:
    return {"authorization": f"Bearer {make_token(store, account, 'test', scopes, 30)[1]}"}


def leased(client: TestClient, headers: dict[str, str], n: int = 2) -> list[dict[str, Any]]:
    answer = client.post("/api/leases", json={"project": DEFAULT_PROJECT, "n": n}, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["questions"]
    return found


def vote(question: dict[str, Any], key: str = "key", **changed: Any) -> dict[str, Any]:
    payload = {"type": "pairwise", "verdict": "prefer", "winner": question["completions"][0]["id"]}
    return {"token": question["token"], "task": question["task"], "key": key, "payload": payload} | changed


def test_every_route_of_the_api_needs_somebody(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert len(paths) >= 9
    for path, methods in paths.items():
        for method in methods:
            status = client.request(method, path.replace("{", "").replace("}", ""), json={}).status_code
            assert status == 401, f"{method} {path}"


def test_headers_stand_on_every_answer(client: TestClient) -> None:
    for path in ("/", "/login", "/static/label.js", "/nowhere", "/api/me", "/openapi.json"):
        found = client.get(path).headers
        assert {name: found[name] for name in HEADERS} == HEADERS, path


def test_another_host_and_another_origin_are_refused(client: TestClient, store: Store) -> None:
    assert client.get("/login", headers={"host": "evil.example"}).status_code == 400
    ada = session(store, add_account(store, "ada", "labeler"))
    questions(store)
    asked = {"project": DEFAULT_PROJECT}
    for origin, status in (("http://evil.example", 403), ("null", 403), (HOST, 200)):
        answer = client.post("/api/leases", json=asked, headers=ada | {"origin": origin})
        assert answer.status_code == status, origin
    form = {"name": "x", "password": "y"}
    assert client.post("/login", data=form, headers={"origin": "http://evil.example"}).status_code == 403


def test_a_cookie_alone_changes_nothing(client: TestClient, store: Store) -> None:
    headers = session(store, add_account(store, "ada", "labeler"))
    del headers["x-csrf-token"]
    questions(store)
    assert client.post("/api/leases", json={"project": DEFAULT_PROJECT}, headers=headers).status_code == 403
    assert client.get("/api/me", headers=headers).status_code == 200
    assert client.post("/logout", data={"csrf": "wrong"}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("viewer", {"me", "projects"}),
        ("labeler", {"me", "projects", "leases"}),
        ("lead", {"me", "projects", "leases", "labelers"}),
        ("admin", {"me", "projects", "leases", "labelers", "accounts"}),
    ],
)
def test_roles(client: TestClient, store: Store, role: str, may: set[str]) -> None:
    questions(store)
    headers = session(store, add_account(store, "ada", role))
    calls = {
        "me": ("GET", "/api/me", None),
        "projects": ("GET", "/api/projects", None),
        "leases": ("POST", "/api/leases", {"project": DEFAULT_PROJECT}),
        "labelers": ("GET", f"/api/projects/{DEFAULT_PROJECT}/labelers", None),
        "accounts": ("POST", "/api/accounts", {"name": "bob"}),
    }
    for name, (method, path, body) in calls.items():
        status = client.request(method, path, json=body, headers=headers).status_code
        assert status == (200 if name in may else 403), name


def test_a_token_does_what_its_scopes_say_and_makes_no_other(
    client: TestClient, store: Store, clock: Clock
) -> None:
    questions(store)
    ada = add_account(store, "ada", "admin")
    reads, votes = bearer(store, ada, "read"), bearer(store, ada, "vote")
    assert client.get("/api/me", headers=reads).status_code == 200
    assert client.post("/api/leases", json={"project": DEFAULT_PROJECT}, headers=reads).status_code == 403
    assert len(leased(client, votes)) == 2
    assert (
        client.post("/api/tokens", json={"name": "x", "scopes": ["lead"]}, headers=reads).status_code == 403
    )
    page = session(store, ada)
    made = client.post("/api/tokens", json={"name": "x", "scopes": ["read"], "days": 1}, headers=page).json()
    fresh = {"authorization": f"Bearer {made['token']}"}
    assert client.get("/api/me", headers=fresh).status_code == 200
    clock.now += DAY_MS + 1
    assert client.get("/api/me", headers=fresh).status_code == 401
    assert client.get("/api/me", headers={"authorization": "Bearer cc_wrong"}).status_code == 401


def test_a_vote_arrives_once_and_may_be_taken_back(client: TestClient, store: Store) -> None:
    questions(store, 3)
    headers = session(store, add_account(store, "ada", "labeler"))
    question = leased(client, headers)[0]
    given = vote(question, active_ms=5_000, wall_ms=3_000)
    first = client.post("/api/votes", json=given, headers=headers).json()
    again = client.post("/api/votes", json=given, headers=headers).json()
    assert (first["repeated"], again["repeated"], first["vote"]) == (False, True, again["vote"])
    assert store.counts()["votes"] == 1
    taken = client.post(f"/api/votes/{first['vote']}/retract", headers=headers).json()
    assert taken["questions"][0]["task"] == question["task"]
    assert store.counts()["live_votes"] == 0
    again = client.post(f"/api/votes/{first['vote']}/retract", headers=headers)
    assert again.json()["questions"][0]["task"] == question["task"], "asked for twice, done once"
    assert store.counts()["votes"] == 2


def test_nobody_votes_or_takes_back_for_another(client: TestClient, store: Store) -> None:
    questions(store)
    ada, bob = (session(store, add_account(store, name, "labeler")) for name in ("ada", "bob"))
    question = leased(client, ada)[0]
    assert client.post("/api/votes", json=vote(question), headers=bob).status_code == 409
    assert client.post(f"/api/leases/{question['token']}/heartbeat", headers=bob).status_code == 404
    assert client.post(f"/api/leases/{question['token']}/heartbeat", headers=ada).status_code == 200
    kept = client.post("/api/votes", json=vote(question), headers=ada).json()
    assert client.post(f"/api/votes/{kept['vote']}/retract", headers=bob).status_code == 409
    assert store.counts()["live_votes"] == 1


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "pairwise", "verdict": "prefer", "winner": "somebody else's"},
        {"type": "pairwise", "verdict": "prefer"},
        {"type": "pairwise", "verdict": "perhaps"},
        {"type": "pairwise", "verdict": "tie", "strength": 9},
        {"type": "pairwise", "verdict": "tie", "extra": 1},
        {"type": "ranking", "tiers": [["x"]]},
        {"type": "ranking", "tiers": []},
        {"type": "rating", "scores": {"x": {"y": 99}}},
        {"type": "edit", "text": "x"},
        {"type": "skip", "reason": "nul \x00"},
        {"type": "skip", "reason": "x" * 20_000},
        {},
        "text",
        None,
    ],
)
def test_answers_that_are_none_are_refused_and_leave_the_question(
    client: TestClient, store: Store, payload: Any
) -> None:
    questions(store)
    headers = session(store, add_account(store, "ada", "labeler"))
    question = leased(client, headers)[0]
    answer = client.post("/api/votes", json=vote(question, payload=payload), headers=headers)
    assert answer.status_code in (409, 422)
    assert store.counts()["votes"] == 0
    assert client.post("/api/votes", json=vote(question), headers=headers).status_code == 200


def test_a_late_vote_is_kept(client: TestClient, store: Store, clock: Clock) -> None:
    questions(store, 1)
    ada, bob = (session(store, add_account(store, name, "labeler")) for name in ("ada", "bob"))
    question = leased(client, ada)[0]
    clock.now += 20 * 60 * 1000
    other = leased(client, bob)[0]
    assert client.post("/api/votes", json=vote(other), headers=bob).json()["extra"] is False
    assert client.post("/api/votes", json=vote(question), headers=ada).json()["extra"] is True
    assert store.counts()["live_votes"] == 2


def test_few_questions_are_held_near_the_end(client: TestClient, store: Store) -> None:
    questions(store, 100)
    headers = session(store, add_account(store, "ada", "labeler"))
    assert len(leased(client, headers, n=10)) == 5
    for _ in range(90):
        question = leased(client, headers, n=1)[0]
        assert (
            client.post("/api/votes", json=vote(question, question["token"]), headers=headers).status_code
            == 200
        )
    assert len(leased(client, headers, n=10)) == 2


def test_known_answers_make_a_score_and_exercises_do_not_count(client: TestClient, store: Store) -> None:
    tasks = questions(store, 3)
    ada = add_account(store, "ada", "labeler")
    headers = session(store, ada)
    found = leased(client, headers, n=3)
    found += [one for one in leased(client, headers, n=3) if one not in found]
    for number, question in enumerate(found):
        better = question["completions"][number % 2]["id"]
        add_gold(store, question["task"], better, "because")
        assert (
            client.post("/api/votes", json=vote(question, f"k{number}"), headers=headers).status_code == 200
        )
    assert len(tasks) == 3
    practice = client.app.state.practice  # type: ignore[attr-defined]
    asked = client.post("/api/leases", json={"project": practice, "n": 1}, headers=headers).json()[
        "questions"
    ][0]
    kept = client.post("/api/votes", json=vote(asked, "p"), headers=headers).json()
    assert kept["lesson"]["why"]
    score = gold_scores(store)[ada.labeler]
    assert (score.n, score.value) == (2, 0.5)


def test_passwords_invitations_and_sessions_end(store: Store, clock: Clock) -> None:
    ada = add_account(store, "ada", "lead")
    assert log_in(store, "ada", "") is None
    first, second = invite(store, ada), invite(store, ada)
    accept(store, first, "correct horse battery")
    found = log_in(store, "ada", "correct horse battery")
    assert found is not None
    assert found.role == "lead"
    assert log_in(store, "ada", "correct horse") is None
    assert log_in(store, "nobody", "correct horse battery") is None
    clock.now += INVITATION_MS + 1
    with pytest.raises(Exception, match="too old"):
        accept(store, second, "another long password")
    token = open_session(store, ada)
    assert of_session(store, token) is not None
    set_disabled(store, ada.id, True)
    assert of_session(store, token) is None
    assert log_in(store, "ada", "correct horse battery") is None
    set_disabled(store, ada.id, False)
    clock.now += SESSION_MS + 1
    assert of_session(store, token) is None
    with store.reading() as connection:
        kept = str(connection.exec_driver_sql("SELECT * FROM account").all())
        kept += str(connection.exec_driver_sql("SELECT * FROM invitation").all())
        kept += str(connection.exec_driver_sql("SELECT * FROM session").all())
    for secret in (first, second, token, "correct horse battery"):
        assert secret not in kept, "secrets are kept as hashes"


def test_a_revoked_token_is_none(client: TestClient, store: Store) -> None:
    ada, bob = (add_account(store, name, "lead") for name in ("ada", "bob"))
    page = session(store, ada)
    made = client.post("/api/tokens", json={"name": "x", "scopes": ["read"]}, headers=page).json()
    assert of_token(store, made["token"]) is not None
    path = f"/api/tokens/{made['id']}"
    assert client.delete(path, headers=session(store, bob)).json() == {"done": False}
    assert client.delete(path, headers=page).json() == {"done": True}
    assert of_token(store, made["token"]) is None


def test_closing_an_account_and_a_new_password_end_what_was_open(client: TestClient, store: Store) -> None:
    owner, ada = add_account(store, "owner", "admin"), add_account(store, "ada", "labeler")
    accept(store, invite(store, ada), "correct horse battery")
    admin, page, token = session(store, owner), session(store, ada), bearer(store, ada, "read")
    spare = invite(store, ada)
    accept(store, invite(store, ada), "another long password")
    assert client.get("/api/me", headers=page).status_code == 401
    assert client.get("/api/me", headers=token).status_code == 401
    with pytest.raises(UserError, match="has been used"):
        accept(store, spare, "a third long password")
    page = session(store, ada)
    assert client.post(f"/api/accounts/{owner.id}/close", headers=admin).status_code == 403
    assert client.post(f"/api/accounts/{ada.id}/close", headers=admin).status_code == 200
    assert client.get("/api/me", headers=page).status_code == 401
    assert log_in(store, "ada", "another long password") is None
    assert client.post(f"/api/accounts/{ada.id}/open", headers=admin).status_code == 200
    assert log_in(store, "ada", "another long password") is not None


def test_nobody_is_taken_over_by_an_invitation(client: TestClient, store: Store) -> None:
    owner, other = add_account(store, "owner", "admin"), add_account(store, "other", "admin")
    accept(store, invite(store, other), "correct horse battery")
    page = session(store, owner)
    assert client.post("/api/accounts", json={"name": "other"}, headers=page).status_code == 409
    assert (
        client.post("/api/accounts", json={"name": "other", "again": True}, headers=page).status_code == 200
    )
    program = bearer(store, owner, "lead")
    assert client.post("/api/accounts", json={"name": "new"}, headers=program).status_code == 403
    assert client.post(f"/api/accounts/{other.id}/close", headers=program).status_code == 403


def test_what_json_cannot_say_is_refused_in_words(client: TestClient, store: Store) -> None:
    headers = session(store, add_account(store, "ada", "labeler")) | {"content-type": "application/json"}
    for body in (b'{"project": "default", "n": NaN}', b'{"project": "\\ud800"}', b"{"):
        answer = client.post("/api/leases", content=body, headers=headers)
        assert answer.status_code == 422, body
        assert answer.json()["detail"]
    assert client.get("/practice?then=a/b", headers=headers).status_code == 404
    assert client.post("/login", data={"name": "a\x00", "password": "x"}).status_code == 404


def test_a_lease_that_ran_out_is_not_revived(client: TestClient, store: Store, clock: Clock) -> None:
    questions(store, 1)
    ada, bob = (session(store, add_account(store, name, "labeler")) for name in ("ada", "bob"))
    question = leased(client, ada)[0]
    clock.now += 20 * 60 * 1000
    other = leased(client, bob)[0]
    client.post("/api/votes", json=vote(other), headers=bob)
    assert client.post(f"/api/leases/{question['token']}/heartbeat", headers=ada).status_code == 404
    assert client.post("/api/votes", json=vote(question), headers=ada).json()["extra"] is True


def test_the_same_key_with_another_answer_is_judged_by_the_first(client: TestClient, store: Store) -> None:
    headers = session(store, add_account(store, "ada", "labeler"))
    practice = client.app.state.practice  # type: ignore[attr-defined]
    asked = client.post("/api/leases", json={"project": practice, "n": 1}, headers=headers).json()[
        "questions"
    ][0]
    kept = client.post("/api/votes", json=vote(asked, "p"), headers=headers).json()
    bad = {"type": "ranking", "tiers": [[asked["completions"][0]["id"]]]}
    again = client.post("/api/votes", json=vote(asked, "p", payload=bad), headers=headers)
    assert again.json()["lesson"] == kept["lesson"]


def test_guessing_passwords_is_slow(client: TestClient, store: Store) -> None:
    accept(store, invite(store, add_account(store, "ada", "labeler")), "correct horse battery")
    form = {"name": "ada", "password": "wrong"}
    said = [client.post("/login", data=form).status_code for _ in range(7)]
    assert said == [401] * 5 + [429] * 2
    right = {"name": "ada", "password": "correct horse battery"}
    assert client.post("/login", data=right).status_code == 429


def test_a_limit_forgets() -> None:
    now = [0.0]
    limit = Limit(2, 60.0, clock=lambda: now[0])
    assert [limit.allow("a") for _ in range(3)] == [True, True, False]
    assert limit.allow("b")
    now[0] = 61.0
    assert limit.allow("a")


def test_an_admin_erases_somebody_and_nobody_themselves(client: TestClient, store: Store) -> None:
    questions(store, 2)
    owner, ada = add_account(store, "owner", "admin"), add_account(store, "ada", "labeler")
    admin, page = session(store, owner), session(store, ada)
    given = client.post("/api/votes", json=vote(leased(client, page)[0]), headers=page)
    assert given.status_code == 200
    lead = session(store, add_account(store, "lead", "lead"))
    program = bearer(store, owner, "lead")
    path = f"/api/accounts/{ada.id}/erase"
    assert client.post(path, headers=lead).status_code == 403
    assert client.post(path, headers=program).status_code == 403
    assert client.post(f"/api/accounts/{owner.id}/erase", headers=admin).status_code == 403
    assert client.post("/api/accounts/nobody/erase", headers=admin).status_code == 404
    done = client.post(path, headers=admin)
    assert (done.status_code, done.json()["votes"], done.json()["completions"]) == (200, 1, 0)
    assert client.get("/api/me", headers=page).status_code == 401
    assert "ada" not in {
        row["name"] for row in client.get("/api/projects/default/labelers", headers=lead).json()
    }
    assert store.counts()["votes"] == 1


def test_an_invitation_says_what_is_wrong_with_it(client: TestClient, store: Store) -> None:
    token = invite(store, add_account(store, "ada", "labeler"))
    for sent, password, said in (
        (token, "short", "This password is too short: choose a longer one; several words"),
        (token, "short", "(expected: at least 10 characters)"),
        ("made up", "long enough to pass", "This link has been used, or is too old: ask for a new one"),
    ):
        page = client.post("/invitation", data={"token": sent, "password": password})
        assert page.status_code == 400
        assert said in page.text


def test_the_link_of_the_terminal_with_other_words_lets_nobody_in(client: TestClient, store: Store) -> None:
    owner = add_account(store, "ada", "admin")
    owned = TestClient(
        create_app(store, owner=owner, owner_token="right"), base_url=HOST, follow_redirects=False
    )
    for page in (client.get("/enter?token=right"), owned.get("/enter?token=wrong"), owned.get("/enter")):
        assert page.status_code == 403
        assert "this link is not the one printed on the terminal" in page.text
        assert COOKIE not in page.cookies
    assert owned.get("/enter?token=right").status_code == 303
