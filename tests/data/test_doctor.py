"""The data doctor finds each trouble and names its line."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path

import pytest

from concordant.data.doctor.checkup import check
from concordant.data.doctor.figures import Lengths
from concordant.data.doctor.ledger import ledger
from concordant.data.template import Template, load_tokenizer
from concordant.errors import UserError
from telling import tells


def test_every_trouble_has_its_line(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "b", "rejected": "a"},
        {"prompt": "r", "chosen": "same", "rejected": "same"},
        {"prompt": "s", "chosen": "", "rejected": "b"},
        {"prompt": "t", "chosen": "x<|im_end|>", "rejected": "b"},
    ]
    content = "".join(json.dumps(row) + "\r\n" for row in rows) + "{broken\r\n"
    (tmp_path / "pairs.jsonl").write_bytes(b"\xef\xbb\xbf" + content.encode())
    report = check("pairs.jsonl", root=tmp_path)
    assert (report.kind, report.layout) == ("preferences", "prompt, chosen, rejected")
    assert (report.read, report.kept, report.dropped, report.prompts) == (7, 4, 3, 2)
    assert [(p.where.split(":")[1], p.kind) for p in report.problems] == [
        ("2", "duplicate"),
        ("3", "contradiction"),
        ("4", "identical"),
        ("5", "empty"),
        ("6", "template token"),
        ("7", "broken line"),
    ]
    assert report.mistakes == 2
    assert not report.ok
    assert any("byte order" in note for note in report.notes)
    assert any("7 lines end in CR LF" in note for note in report.notes)
    sampled = [sample.where for sample in report.samples]
    assert sampled[0] == "pairs.jsonl:1"
    assert len(set(sampled)) == 3


def test_clean_file_with_a_template(shared_data: Path) -> None:
    template = Template(load_tokenizer(str(shared_data / "minimind-tokenizer")))
    report = check("self-instruct/seed_tasks.jsonl", root=shared_data, template=template)
    assert (report.kind, report.kept, report.ok) == ("demonstrations", 175, True)
    assert report.tokens["all"].n == 175
    assert (
        report.tokens["all"].longest <= report.tokens["prompt"].longest + report.tokens["completion"].longest
    )
    sample = report.samples[0]
    assert "".join(text for text, counts in sample.pieces if counts).startswith(sample.completion[:20])


def test_hh_harmless(shared_data: Path) -> None:
    report = check("hh-harmless/pairs.jsonl", root=shared_data)
    assert [p.where for p in report.problems if p.kind == "no common prompt"] == [
        "hh-harmless/pairs.jsonl:1255"
    ]
    assert report.ok


def test_kinds_are_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n')
    assert check("a.jsonl", root=tmp_path).kind == "prompts"
    (tmp_path / "b.jsonl").write_text('{"number": 3}\n')
    with pytest.raises(UserError, match="need prompt"):
        check("b.jsonl", root=tmp_path)


def test_percentiles() -> None:
    assert Lengths.of(range(101)) == Lengths(101, 5, 50, 95, 100)
    assert Lengths.of([]) == Lengths(0, 0, 0, 0, 0)


@pytest.mark.parametrize("said", ["database or disk is full", "disk I/O error"])
def test_no_room_for_temporary_files_says_where_they_would_lie(said: str) -> None:
    with (
        tells(
            "no room for the temporary files", where=tempfile.gettempdir(), expected="150 bytes", fix="TMPDIR"
        ),
        ledger(),
    ):
        raise sqlite3.OperationalError(said)


def test_a_defect_in_a_statement_of_the_ledger_is_not_called_a_full_disk() -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"), ledger() as book:
        book._database.execute("SELECT * FROM elsewhere")
