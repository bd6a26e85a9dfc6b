"""Votes into a store and out of it, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from concordant.feedback.asking.known import known_answers
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.projects import project_named
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, prefer
from tiny_run import clone, concordant

ROWS = [
    {"prompt": "hi", "chosen": "good", "rejected": "bad"},
    {"prompt": "hi", "chosen": "same", "rejected": "same"},
    {"prompt": "ho", "chosen": "[bold]good", "rejected": "bad"},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_import_says_what_it_found_and_export_what_it_wrote(file: Path, tmp_path: Path) -> None:
    store = tmp_path / "votes.sqlite"
    done = concordant("feedback", "import", store, file)
    assert done.status == 0, done.err
    assert "format pairs, 3 rows" in done.out
    assert "2 pairwise by 1 labelers" in done.out
    assert "2 votes kept, 0 were here before, 2 tasks added, 1 left out" in done.out
    assert f"{file}:2: identical: " in done.out
    assert "0 votes kept, 2 were here before" in concordant("feedback", "import", store, file).out
    out = tmp_path / "out.jsonl"
    done = concordant("feedback", "export", store, out)
    assert (done.status, done.err) == (0, "")
    assert "2 rows of preferences: prompt, chosen, rejected" in done.out
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["chosen"][0]["content"] for row in rows] == ["good", "[bold]good"]


def test_kto_shows_its_classes_and_votes_go_to_another_store(file: Path, tmp_path: Path) -> None:
    store, other = tmp_path / "votes.sqlite", tmp_path / "other.sqlite"
    concordant("feedback", "import", store, file, "--format", "pairs")
    done = concordant(
        "feedback", "export", store, tmp_path / "kto.jsonl", "--view", "kto", "--turns", "strings"
    )
    assert "2 desirable, 2 undesirable, ratio 1.00" in done.out
    concordant("feedback", "export", store, tmp_path / "votes.jsonl", "--view", "votes")
    assert concordant("feedback", "import", other, tmp_path / "votes.jsonl").status == 0
    with Store.open(store) as first, Store.open(other) as second:
        assert digest(first) == digest(second)


def test_rows_without_a_form_as_strings_are_said_to_be_left_out(file: Path, tmp_path: Path) -> None:
    odd = {
        "prompt": [{"role": "user", "content": "Human: a\n\nAssistant: b"}],
        "chosen": "x",
        "rejected": "y",
    }
    file.write_text("".join(json.dumps(row) + "\n" for row in (ROWS[0], odd)), encoding="utf-8")
    concordant("feedback", "import", tmp_path / "votes.sqlite", file)
    done = concordant(
        "feedback", "export", tmp_path / "votes.sqlite", tmp_path / "o.jsonl", "--turns", "strings"
    )
    assert "1 rows of preferences" in done.out
    assert "1 left out" in done.out


def test_the_store_of_a_run_is_found_in_its_directory(finished: Path, file: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "runs" / "tiny")
    done = concordant("feedback", "export", run, tmp_path / "p.parquet", "--format", "parquet")
    assert "48 rows of preferences" in done.out, done.err
    assert "2 votes kept" in concordant("feedback", "import", run, file).out


def test_places_without_a_store_and_files_without_votes_leave_nothing(file: Path, tmp_path: Path) -> None:
    for words in (
        ["import", tmp_path, file],
        ["import", tmp_path / "no" / "s.sqlite", file],
        ["import", tmp_path / "s.txt", file],
        ["export", tmp_path / "s.sqlite", tmp_path / "o.jsonl"],
        ["import", tmp_path / "s.sqlite", tmp_path / "missing.jsonl"],
        ["import", tmp_path / "s.sqlite", file, "--format", "lmsys"],
    ):
        done = concordant("feedback", *words)
        assert done.status == 2
        assert "expected:" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl"]


@pytest.mark.parametrize("verb", ["ask", "import", "export"])
def test_help_of_the_verbs(verb: str) -> None:
    shown = concordant("feedback", verb, "--help")
    assert shown.status == 0
    assert "None" not in shown.out
    assert concordant("feedback").status == 2


def test_questions_are_asked_and_what_is_none_is_said(tmp_path: Path) -> None:
    rows = [
        {"prompt": "hi", "completions": ["a", "b"], "note": "[bold]"},
        {"prompt": "ho", "response_a": "a", "response_b": "b", "better": "b"},
        {"prompt": "what"},
    ]
    file, store = tmp_path / "asked.jsonl", tmp_path / "s.sqlite"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = concordant(
        "feedback", "ask", store, file, "--project", "mine", "--purpose", "evaluation", "--votes", 2
    )
    assert (done.status, done.err) == (0, "")
    assert "1 questions asked, 0 were asked before, 1 with a known answer, 1 rows left out" in done.out
    assert "columns that are not used: note" in done.out
    assert f"{file}:3: missing: no answers" in done.out
    again = concordant("feedback", "ask", store, file, "--project", "mine", "--purpose", "evaluation")
    assert "0 questions asked, 1 were asked before" in again.out
    for words in (
        ["--project", "mine"],
        ["--project", "new", "--votes", 0],
        ["--project", "new", "--kind", "x"],
        [],
    ):
        assert concordant("feedback", "ask", store, file, *words).status == 2
    with Store.open(store) as opened:
        project = project_named(opened, "mine")
        (lease,) = opened.lease_many(opened.add_labeler("ada", "human"), 5, project=project.id)
        winner = lease.comparison.completions[0].id
        opened.submit(lease.token, "k", Vote(lease.comparison.task_id, prefer(winner)))
        (known,) = known_answers(opened, project.id)
        (lease,) = opened.lease_many(opened.add_labeler("ada", "human"), 1, among=[known.question.task])
        opened.submit(lease.token, "l", Vote(lease.comparison.task_id, prefer(known.better)))
    assert "known answers given by ada" in concordant("feedback", "agreement", store).out
    out = tmp_path / "out.jsonl"
    assert "has no rows" in concordant("feedback", "export", store, out).err, "nothing of it is for training"
    done = concordant("feedback", "export", store, out, "--project", "mine")
    assert "1 rows of preferences" in done.out, done.err
    assert "no projects are called" in concordant("feedback", "export", store, out, "--project", "x").err


def test_raw_votes_of_an_evaluation_come_back_as_such(tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps({"prompt": "hi", "completions": ["a", "b"]}) + "\n", encoding="utf-8")
    concordant("feedback", "ask", tmp_path / "a.sqlite", file, "--project", "mine", "--purpose", "evaluation")
    with Store.open(tmp_path / "a.sqlite") as store:
        nothing = digest(store)
        lease = store.lease(store.add_labeler("ada", "human"))
        assert lease is not None
        store.submit(
            lease.token, "k", Vote(lease.comparison.task_id, prefer(lease.comparison.completions[0].id))
        )
    concordant("feedback", "export", tmp_path / "a.sqlite", tmp_path / "votes.jsonl", "--view", "votes")
    done = concordant("feedback", "import", tmp_path / "b.sqlite", tmp_path / "votes.jsonl")
    assert "1 votes kept" in done.out, done.err
    with Store.open(tmp_path / "b.sqlite") as store:
        assert project_named(store, "mine").purpose == "evaluation"
        assert project_named(store, "mine").verdicts == 1
        assert digest(store) == nothing
