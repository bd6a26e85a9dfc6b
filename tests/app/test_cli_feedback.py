"""Votes into a store and out of it, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from concordant.feedback.live_votes import digest
from concordant.feedback.store import Store
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


@pytest.mark.parametrize("verb", ["import", "export"])
def test_help_of_both_verbs(verb: str) -> None:
    shown = concordant("feedback", verb, "--help")
    assert shown.status == 0
    assert "None" not in shown.out
    assert concordant("feedback").status == 2
