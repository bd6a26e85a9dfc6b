"""The API of a lead: files of questions, settings, known answers, results and exports, and who may do what."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient
from test_label_api import HOST, leased, questions, session, vote

from concordant.app.label.leading import uploads
from concordant.app.label.pages import in_words
from concordant.app.label.server import create_app
from concordant.data.types import Completion, Prompt
from concordant.feedback.accounts import add_account
from concordant.feedback.asking.known import beside
from concordant.feedback.database import schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.answered import Answered
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.versus import Pair, Side, ask_versus
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, edit

ROWS = [
    {"prompt": "hi", "completions": ["a", "b"], "mood": "good"},
    {"prompt": "ho", "completions": ["a", "b"], "better": 1, "explanation": "a comes first"},
    {"prompt": "what"},
]
BODY = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def store(tmp_path: Any) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite") as opened:
        yield opened


@pytest.fixture
def client(store: Store) -> TestClient:
    return TestClient(create_app(store, owner=None), base_url=HOST, follow_redirects=False)


@pytest.fixture
def lead(store: Store) -> dict[str, str]:
    return session(store, add_account(store, "lead", "lead"))


def send(client: TestClient, headers: dict[str, str], body: bytes = BODY, **asked: Any) -> Any:
    query = {"file": "mine.jsonl", "project": "mine"} | asked
    return client.post("/api/questions", params=query, content=body, headers=headers)


def test_a_file_becomes_questions_and_the_rest_is_said(
    client: TestClient, store: Store, lead: dict[str, str]
) -> None:
    found = send(client, lead, votes=2, most_votes=4, purpose="evaluation").json()
    assert (found["rows"], found["tasks"], found["known"], found["dropped"]) == (3, 1, 1, 1)
    assert found["unused"] == ["mood"]
    (problem,) = found["problems"]
    assert (problem["where"], problem["kind"], problem["dropped"]) == ("mine.jsonl:3", "missing", True)
    again = send(client, lead, purpose="evaluation").json()
    assert (again["tasks"], again["repeated"]) == (0, 1)
    rows = client.get("/api/projects", headers=lead).json()
    (mine,) = [row for row in rows if row["id"] == found["project"]]
    assert (mine["name"], mine["purpose"], mine["tasks"]) == ("mine", "evaluation", 1)
    settings = client.get(f"/api/projects/{found['project']}/settings", headers=lead).json()
    assert (settings["votes"], settings["most_votes"], settings["known_every"]) == (2, 4, 10)
    with store.reading() as connection:
        who = connection.scalar(select(schema.audit.c.labeler).where(schema.audit.c.verb == "make"))
    assert who == add_account(store, "lead", "lead").labeler


def test_a_labeler_cannot_go_to_the_known_answers_by_themselves(
    client: TestClient, store: Store, lead: dict[str, str]
) -> None:
    """Their project can be worked out from the other's; whoever asks for it is asked as everybody is."""
    project = send(client, lead).json()["project"]
    labeler = session(store, add_account(store, "labeler", "labeler"))
    told = [row["id"] for row in client.get("/api/projects", headers=labeler).json()]
    assert project in told
    assert beside(project) not in told
    assert beside(project) in [row["id"] for row in client.get("/api/projects", headers=lead).json()]
    asked = {"project": beside(project), "n": 2}
    found = client.post("/api/leases", json=asked, headers=labeler).json()
    assert found["progress"]["tasks"] == 1
    tasks = {one["task"] for one in found["questions"]}
    assert {store.project_of_task(task) for task in tasks} >= {project}
    client.put("/api/me/settings", json={"practised": True}, headers=labeler)
    page = client.get(f"/label/{beside(project)}", headers=labeler).text
    assert f'data-project="{project}"' in page
    assert beside(project) not in page


def test_files_that_are_none_leave_nothing(
    client: TestClient, store: Store, lead: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for body, asked, status, said in (
        (b"", {}, 409, "no question"),
        (b"\x00\xff" * 99, {}, 409, "not UTF-8"),
        (b"[" * 200_000, {"file": "a.json"}, 409, "nested too deeply"),
        (b'{"prompt": ' + b"9" * 9999 + b"}", {}, 409, "broken JSON"),
        (b"a,b\n1,2\n", {"file": "a.csv"}, 409, "no prompt"),
        (b"PK\x03\x04", {"file": "a.zip"}, 409, "kind that can be sent"),
        (b"PAR1", {"file": "a.parquet"}, 409, "kind that can be sent"),
        (b"\x1f\x8b", {"file": "a.jsonl.gz"}, 409, "kind that can be sent"),
        (BODY, {"project": "default"}, 409, "already"),
        (BODY, {"purpose": "loop"}, 422, "purpose"),
        (BODY, {"votes": 0}, 422, "votes"),
        (BODY, {"strange": 1}, 422, "strange"),
        (BODY, {"votes": 3, "most_votes": 2}, 409, "at most 2"),
    ):
        answer = send(client, lead, body, **asked)
        assert answer.status_code == status, (asked, answer.text)
        assert said in answer.text
    monkeypatch.setattr(uploads, "MOST_BYTES", 100)
    assert send(client, lead, b"x" * 101).status_code == 413
    assert client.get("/api/projects", headers=lead).json()[1:] == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd.jsonl", "passwd.jsonl"),
        ("C:\\secret\\a.CSV", "a.csv"),
        ("~root.json", "_root.json"),
        ("\u202e\x1b[2Jx.jsonl", "_2Jx.jsonl"),
        ("a" * 300 + ".tsv", "a" * 60 + ".tsv"),
    ],
)
def test_names_of_files_lead_nowhere(given: str, name: str) -> None:
    assert uploads.plain_name(given) == name


def test_settings_hold_and_are_shown_to_labelers(
    client: TestClient, store: Store, lead: dict[str, str]
) -> None:
    questions(store, 3)
    path = f"/api/projects/{DEFAULT_PROJECT}/settings"
    kept = client.put(path, json={"instructions": "Be **kind**. <b>x", "votes": 2}, headers=lead).json()
    assert kept == {
        "instructions": "Be **kind**. <b>x",
        "votes": 2,
        "most_votes": None,
        "known_every": 10,
    }
    ada = add_account(store, "ada", "labeler")
    page = session(store, ada)
    client.put("/api/me/settings", json={"practised": True}, headers=page)
    shown = client.get(f"/label/{DEFAULT_PROJECT}", headers=page).text
    assert "Be <strong>kind</strong>. &lt;b&gt;x" in shown
    for wrong in ({"votes": 0}, {"known_every": 1001}, {"instructions": "\x00"}, {"more": 1}):
        assert client.put(path, json=wrong, headers=lead).status_code == 422
    wrong_order = client.put(path, json={"most_votes": 1}, headers=lead)
    assert (wrong_order.status_code, "at most 1" in wrong_order.text) == (409, True)
    assert client.put("/api/projects/none/settings", json={}, headers=lead).status_code == 409


def test_known_answers_look_like_any_question(client: TestClient, store: Store, lead: dict[str, str]) -> None:
    questions(store, 40)
    ada, bob = (session(store, add_account(store, name, "labeler")) for name in ("ada", "bob"))
    asked = leased(client, ada, 1)[0]
    client.post("/api/votes", json=vote(asked), headers=ada)
    (answered,) = client.get(f"/api/projects/{DEFAULT_PROJECT}/answered", headers=lead).json()
    assert answered["said"][0]["labeler"] == "ada"
    better = asked["completions"][1]["id"]
    decision = {"payload": {"type": "pairwise", "verdict": "prefer", "winner": better}, "reason": "it is"}
    made = client.post(f"/api/known/{asked['task']}", json=decision, headers=lead).json()["task"]
    client.put(f"/api/projects/{DEFAULT_PROJECT}/settings", json={"known_every": 1}, headers=lead)
    first, *_ = leased(client, bob, 1)
    assert first["task"] == made
    other = leased(client, ada, 1)[0]
    assert first.keys() == other.keys()
    assert (first["kind"], first["question"], first["dimensions"]) == (
        other["kind"],
        other["question"],
        other["dimensions"],
    )
    given = vote(first, payload={"type": "pairwise", "verdict": "prefer", "winner": better})
    kept = client.post("/api/votes", json=given, headers=bob).json()
    assert (kept["lesson"], kept["extra"]) == (None, False)
    progress = client.post("/api/leases", json={"project": DEFAULT_PROJECT}, headers=bob).json()["progress"]
    assert progress == {"mine": 1, "finished": 2, "tasks": 40}, "nothing stands still"
    back = client.post(f"/api/votes/{kept['vote']}/retract", headers=bob).json()
    assert back["progress"] == {"mine": 0, "finished": 1, "tasks": 40}
    assert back["questions"][0]["task"] == made
    client.post("/api/votes", json=vote(back["questions"][0], "again"), headers=bob)
    (known,) = client.get(f"/api/projects/{DEFAULT_PROJECT}/known", headers=lead).json()
    assert (known["better"], known["why"], known["n"]) == (better, "it is", 1)
    client.post("/api/votes", json=vote(leased(client, bob, 1)[0], "more"), headers=bob)
    rows = client.get(f"/api/projects/{DEFAULT_PROJECT}/labelers", headers=lead).json()
    (row,) = [row for row in rows if row["name"] == "bob"]
    assert row["gold_n"] == 1
    assert row["gold_low"] < 0.5 < row["gold_high"]
    assert row["gold_below"] is False
    assert client.delete(f"/api/known/{made}", headers=lead).json() == {"done": True}
    assert client.get(f"/api/projects/{DEFAULT_PROJECT}/known", headers=lead).json() == []
    tie = {"payload": {"type": "pairwise", "verdict": "tie"}, "reason": ""}
    assert client.post(f"/api/known/{asked['task']}", json=tie, headers=lead).status_code == 409
    assert client.delete(f"/api/known/{asked['task']}", headers=lead).status_code == 409


def test_exports_are_of_one_project(client: TestClient, store: Store, lead: dict[str, str]) -> None:
    questions(store, 2)
    sent = send(client, lead, project='=SUM("x")/..', purpose="evaluation").json()
    ada = session(store, add_account(store, "=cmd|'/c calc'!A1", "labeler"))
    path = f"/api/projects/{sent['project']}"
    assert client.get(f"{path}/export/preferences", headers=lead).status_code == 409
    before = digest(store)
    asked = {"project": sent["project"], "n": 1}
    (question,) = client.post("/api/leases", json=asked, headers=ada).json()["questions"]
    client.post("/api/votes", json=vote(question), headers=ada)
    for view in ("preferences", "kto", "sft", "votes"):
        answer = client.get(f"{path}/export/{view}", headers=lead)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="SUM-x-{view}.jsonl"'
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert len(rows) == {"kto": 2}.get(view, 1)
        said = rows[0]["prompt"]["messages"] if view == "votes" else rows[0]["prompt"]
        assert said == [{"role": "user", "content": "hi"}]
    assert client.get(f"{path}/export/prompts", headers=lead).status_code == 422
    assert client.get("/api/projects/none/export/kto", headers=lead).status_code == 409
    assert digest(store) == before, "an evaluation trains nothing"
    answer = client.get(f"{path}/labelers.csv", headers=lead)
    (row,) = csv.DictReader(answer.text.splitlines())
    assert row["name"] == "'=cmd|'/c calc'!A1", "no spreadsheet computes it"
    assert row["verdicts"] == "1"


def test_who_wins(client: TestClient, store: Store, lead: dict[str, str]) -> None:
    pairs = [Pair(Prompt.user(f"q {i}"), ("old", "new")) for i in range(2)]
    asked = ask_versus(store, (Side("sft", "1"), Side("policy", "2")), pairs)
    found = client.get(f"/api/projects/{asked.project}/result", headers=lead).json()
    assert (found["rate"], found["unanswered"], found["better"]) == (None, 2, None)
    ada = session(store, add_account(store, "ada", "labeler"))
    body = {"project": asked.project, "n": 2}
    for number, one in enumerate(client.post("/api/leases", json=body, headers=ada).json()["questions"]):
        assert "sft" not in json.dumps(one)
        assert "policy" not in json.dumps(one)
        new = next(answer["id"] for answer in one["completions"] if "new" in answer["html"])
        given = {"type": "pairwise", "verdict": "prefer", "winner": new}
        client.post("/api/votes", json=vote(one, f"k{number}", payload=given), headers=ada)
    found = client.get(f"/api/projects/{asked.project}/result", headers=lead).json()
    assert (found["second"], found["second_better"], found["rate"], found["n"]) == ("policy", 2, 1.0, 2)
    assert client.get(f"/api/projects/{DEFAULT_PROJECT}/result", headers=lead).status_code == 409


def test_only_a_lead_with_the_secret_of_the_page_does_any_of_it(client: TestClient, store: Store) -> None:
    questions(store)
    paths = {
        path: methods
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        if any("leading" in one.get("tags", ()) for one in methods.values())
    }
    assert len(paths) == 8
    labeler = session(store, add_account(store, "ada", "labeler"))
    lead = session(store, add_account(store, "lead", "lead"))
    bare = {"cookie": lead["cookie"]}
    for path, methods in paths.items():
        for method in methods:
            where = path.replace("{view}", "kto").replace("{", "").replace("}", "")
            assert client.request(method, where, headers=labeler).status_code == 403, f"{method} {path}"
            if method != "get":
                assert client.request(method, where, headers=bare).status_code == 403, f"{method} {path}"
    for page in ("/ask", *(f"/{name}/{DEFAULT_PROJECT}" for name in ("settings", "known", "answered"))):
        assert client.get(page, headers=labeler).status_code == 403
        assert client.get(page, headers=lead).status_code == 200
        assert client.get(page).status_code == 303


def test_a_lead_reads_of_edits_what_became_of_the_answer() -> None:
    said = {"type": "edit", "parent": "a", "accept": False, "completion": "b"}
    question = Answered("t", "edit", Prompt.user("hi"), (Completion("one", id="a"),), (("ada", said),))
    assert in_words(question, said) == "wrote another version"
    assert in_words(question, {"type": "edit", "parent": "a", "accept": True}) == "good as it is"
    assert in_words(question, {"type": "edit", "parent": None, "completion": "b"}) == "wrote an answer"


def test_a_lead_reads_what_was_written(client: TestClient, store: Store, lead: dict[str, str]) -> None:
    (key,) = store.add_completions([(Prompt.user("hi"), Completion("one"), {}, True)])
    store.create_tasks("edit", [[key]])
    ada = store.add_labeler("ada", "human")
    lease = store.lease(ada, project=DEFAULT_PROJECT)
    assert lease is not None
    text = "**two** <script>alert(1)</script>"
    store.submit(lease.token, "k", Vote(lease.comparison.task_id, edit(key, text)))
    page = client.get(f"/answered/{DEFAULT_PROJECT}", headers=lead).text
    assert "ada: wrote another version" in page
    assert "<strong>two</strong> &lt;script&gt;" in page
