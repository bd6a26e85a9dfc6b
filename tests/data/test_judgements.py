"""Answers judged one by one: every layout and label becomes the same rows, and the doctor knows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from concordant.app.commands.checking import class_line
from concordant.data.doctor.checkup import check
from concordant.data.layouts.reading import read_demonstrations, read_judgements
from concordant.data.types import Message
from concordant.errors import UserError

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def put(folder: Path, *rows: Any) -> str:
    path = folder / "judged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("column", ["label", "kto_tag"])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi", "completion": "hello"},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        {"messages": CHAT},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        {"instruction": "hi", "input": "", "output": "hello"},
    ],
)
def test_judgement_layouts(tmp_path: Path, row: dict[str, Any], column: str) -> None:
    source = put(tmp_path, row | {column: True}, row | {column: False, "weight": 0.5})
    good, bad = read_judgements(source).rows
    for one in (good, bad):
        assert one.prompt.messages == (Message("user", "hi"),)
        assert one.completion.text == "hello"
    assert (good.desirable, good.weight, bad.desirable, bad.weight) == (True, 1.0, False, 0.5)
    assert bad.prompt.where.endswith("judged.jsonl:2")
    assert check(source).kind == "judgements"
    assert read_demonstrations(source).counts == {"undesirable": 1}


@pytest.mark.parametrize(
    ("good", "bad"),
    [(True, False), (1, 0), (1.0, 0.0), ("true", "false"), ("True", "False"), ("1", "0")],
)
def test_labels_that_are_accepted(tmp_path: Path, good: object, bad: object) -> None:
    rows = [{"messages": CHAT, "label": label} for label in (good, bad)]
    assert [one.desirable for one in read_judgements(put(tmp_path, *rows)).rows] == [True, False]


@pytest.mark.parametrize("label", [None, "yes", "", 2, -1, 0.5, [True]])
def test_other_labels_name_their_row_and_what_is_accepted(tmp_path: Path, label: object) -> None:
    source = put(tmp_path, {"messages": CHAT, "label": True}, {"messages": CHAT, "label": label})
    with pytest.raises(UserError, match="1 of 2 rows cannot be used") as caught:
        read_judgements(source)
    assert caught.value.where.endswith("judged.jsonl:2")
    assert f"column label holds {label!r}, accepted are true, false, 1, 0" in caught.value.what
    loaded = read_judgements(source, strict=False)
    assert (loaded.kept, loaded.dropped, loaded.counts) == (1, 1, {"label": 1})


def test_the_last_assistant_turn_is_judged(tmp_path: Path) -> None:
    turns = [*CHAT, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "bye"}]
    row = {"system": "s", "messages": [*turns, {"role": "user", "content": "?"}], "label": 0}
    loaded = read_judgements(put(tmp_path, row))
    assert [m.content for m in loaded.rows[0].prompt.messages] == ["s", "hi", "hello", "and?"]
    assert (loaded.rows[0].completion.text, loaded.rows[0].desirable) == ("bye", False)
    assert loaded.counts == {"open end": 1}


def test_a_label_of_another_name_is_mapped(tmp_path: Path) -> None:
    source = put(tmp_path, {"prompt": "hi", "completion": "hello", "liked": True, "id": 3})
    with pytest.raises(UserError) as caught:
        read_judgements(source)
    assert 'columns.label = "liked"' in caught.value.fix
    loaded = read_judgements(source, columns={"label": "liked"})
    assert (loaded.rows[0].desirable, loaded.unused) == (True, ("id",))
    assert check(source, columns={"label": "liked"}).kind == "judgements"


def test_the_doctor_counts_both_classes(tmp_path: Path) -> None:
    said = [("a", 1), ("a", 1), ("a", 0), ("b", 1), ("c", "maybe")]
    source = put(tmp_path, *({"prompt": "q", "completion": text, "label": label} for text, label in said))
    report = check(source)
    assert (report.kept, report.desirable) == (4, 3)
    assert [(problem.where[-1], problem.kind) for problem in report.problems] == [
        ("2", "duplicate"),
        ("3", "contradiction"),
        ("5", "label"),
    ]
    assert not report.ok
    assert [sample.completion for sample in report.samples] == ["a", "a", "b"]


@pytest.mark.parametrize(("labels", "ok"), [((1, 0), True), ((1, 1), False), ((0, 0), False)])
def test_one_class_alone_is_nothing_to_learn_from(tmp_path: Path, labels: tuple[int, int], ok: bool) -> None:
    rows = ({"prompt": f"q{n}", "completion": "a", "label": label} for n, label in enumerate(labels))
    assert check(put(tmp_path, *rows)).ok is ok


def test_the_class_ratio_in_words() -> None:
    assert class_line(150, 150) == "150 desirable, 150 undesirable, ratio 1.00"
    assert class_line(130, 100).endswith("ratio 1.30")
    assert class_line(10, 40).endswith("policy.desirable_weight=4")
    assert class_line(300, 100).endswith("policy.undesirable_weight=3")
    assert "some of each" in class_line(7, 0)


def test_llamafactory(shared_data: Path) -> None:
    source = "llamafactory-demo/kto_en_demo.json"
    loaded = read_judgements(source, root=shared_data)
    assert (loaded.layout, loaded.kept, loaded.problems) == ("messages, label", 300, ())
    raw = json.loads((shared_data / source).read_text(encoding="utf-8"))
    for one, row in zip(loaded.rows, raw, strict=True):
        assert one.desirable is row["label"]
        turns = [*(message.content for message in one.prompt.messages), one.completion.text]
        assert turns == [turn["content"] for turn in row["messages"]]
    report = check(source, root=shared_data)
    assert (report.kind, report.desirable, report.prompts, report.ok) == ("judgements", 150, 297, True)
