"""Every layout becomes the same rows of ours; every mistake is named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from concordant.data.layouts.reading import read_demonstrations, read_preferences, read_prompts
from concordant.data.layouts.transcripts import transcript
from concordant.data.types import Message
from concordant.errors import UserError

USER = Message("user", "hi")
CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
LONG = [*CHAT, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "bye"}]


def put(folder: Path, *rows: Any) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi", "completion": "hello"},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        {"messages": CHAT},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        {"instruction": "hi", "input": "", "output": "hello"},
        {"instruction": "hi", "instances": [{"input": "", "output": "hello"}]},
        {"prompt": "hi", "chosen": "hello", "rejected": "go away"},
        {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: go away"},
        {"text": "\n\nHuman: hi\n\nAssistant: hello"},
        {"messages": CHAT, "label": True},
    ],
)
def test_demonstration_layouts(tmp_path: Path, row: dict[str, Any]) -> None:
    (demonstration,) = read_demonstrations(put(tmp_path, row)).rows
    assert demonstration.prompt.messages == (USER,)
    assert demonstration.completion.text == "hello"
    assert demonstration.prompt.where.endswith("rows.jsonl:1")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi", "chosen": "hello", "rejected": "bye"},
        {"prompt": "\n\nHuman: hi\n\nAssistant:", "chosen": "hello", "rejected": "bye"},
        {"prompt": "hi", "chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "bye"}]},
        {"chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "bye"}]},
        {
            "conversations": [{"from": "human", "value": "hi"}],
            "chosen": {"from": "gpt", "value": "hello"},
            "rejected": {"from": "gpt", "value": "bye"},
        },
        {"instruction": "hi", "input": "", "chosen": "hello", "rejected": "bye"},
        {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: bye"},
    ],
)
def test_preference_layouts(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read_preferences(put(tmp_path, row)).rows
    assert pair.prompt.messages == (USER,)
    assert (pair.chosen.text, pair.rejected.text) == ("hello", "bye")
    assert (pair.p_chosen, pair.margin, pair.weight) == (1.0, 0.0, 1.0)


def test_earlier_answers_stay_in_the_prompt(tmp_path: Path) -> None:
    loaded = read_demonstrations(put(tmp_path, {"messages": [*LONG, {"role": "user", "content": "?"}]}))
    assert [m.role for m in loaded.rows[0].prompt.messages] == ["user", "assistant", "user"]
    assert loaded.rows[0].completion.text == "bye"
    assert loaded.counts == {"open end": 1}
    assert loaded.dropped == 0


def test_a_system_column_goes_before_whole_conversations(tmp_path: Path) -> None:
    start = "\n\nHuman: hi\n\nAssistant: "
    row = {"chosen": f"{start}yes", "rejected": f"{start}no", "system": "be brief"}
    (pair,) = read_preferences(put(tmp_path, row)).rows
    assert pair.prompt.messages == (Message("system", "be brief"), USER)


def test_system_history_and_input_are_part_of_the_prompt(tmp_path: Path) -> None:
    row = {"instruction": "b", "input": "c", "output": "d", "system": "s", "history": [["q", "a"]]}
    (demonstration,) = read_demonstrations(put(tmp_path, row)).rows
    assert [m.content for m in demonstration.prompt.messages] == ["s", "q", "a", "b\n\nc"]


def test_columns_are_mapped_and_the_rest_is_reported(tmp_path: Path) -> None:
    source = put(tmp_path, {"prompt": "hi", "good": "hello", "bad": "bye", "id": 7, "weight": 2})
    with pytest.raises(UserError) as caught:
        read_preferences(source)
    assert "[prompt, good, bad, id, weight]; need prompt, chosen, rejected" in caught.value.what
    assert 'columns.chosen = "good", columns.rejected = "bad"' in caught.value.fix
    loaded = read_preferences(source, columns={"chosen": "good", "rejected": "bad"})
    assert loaded.rows[0].weight == 2
    assert loaded.unused == ("id",)
    with pytest.raises(UserError, match="did you mean 'good'"):
        read_preferences(source, columns={"chosen": "goood", "rejected": "bad"})


@pytest.mark.parametrize(
    ("row", "kind", "detail"),
    [
        ({"prompt": "hi", "completion": None}, "null", "column completion is null"),
        ({"prompt": " \n", "completion": "x"}, "empty", "column prompt is empty"),
        ({"prompt": "hi", "completion": ""}, "empty", "column completion is empty"),
        ({"prompt": "hi", "completion": 3}, "type", "column completion holds int"),
        ({"prompt": "hi"}, "missing", "no column completion"),
        (
            {"prompt": [{"role": "robot", "content": "x"}], "completion": "x"},
            "role",
            "'robot', known roles are",
        ),
        ({"prompt": [*CHAT[:1], *CHAT[:1]], "completion": "x"}, "role", "user first"),
        ({"prompt": CHAT, "completion": "x"}, "role", "expected the user's"),
        ({"prompt": "hi", "completion": "\ud800"}, "type", "surrogate"),
        (
            {"prompt": [{"speaker": "user", "content": "x"}], "completion": "x"},
            "missing",
            "expected role and content",
        ),
    ],
)
def test_mistakes_are_errors_or_counted(tmp_path: Path, row: dict[str, Any], kind: str, detail: str) -> None:
    source = put(tmp_path, {"prompt": "hi", "completion": "hello"}, row)
    with pytest.raises(UserError, match="1 of 2 rows cannot be used") as caught:
        read_demonstrations(source)
    assert caught.value.where.endswith("rows.jsonl:2")
    assert detail in caught.value.what
    loaded = read_demonstrations(source, strict=False)
    assert (loaded.read, loaded.kept, loaded.dropped, loaded.counts) == (2, 1, 1, {kind: 1})
    assert loaded.problems[0].where.endswith("rows.jsonl:2")


def test_all_mistakes_are_counted_and_five_are_shown(tmp_path: Path) -> None:
    rows = [{"prompt": "hi", "completion": None if n % 2 else "x"} for n in range(20)]
    with pytest.raises(UserError, match="10 of 20 rows") as caught:
        read_demonstrations(put(tmp_path, *rows))
    assert caught.value.what.count("is null") == 5
    assert "and 5 more" in caught.value.what


def test_broken_lines_are_counted_with_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", \n')
    with pytest.raises(UserError, match=r"1 of 2 rows.*broken line") as caught:
        read_demonstrations(str(path))
    assert ":2:" in caught.value.where
    loaded = read_demonstrations(str(path), strict=False)
    assert (loaded.read, loaded.kept, loaded.counts) == (2, 1, {"broken line": 1})


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({"text": "\n\nHuman:"}, "there are no turns"),
        ({"prompt": "\n\nHuman:", "completion": "x", "system": "s"}, "user's turn at its end"),
        ({"instruction": "hi", "output": "x", "history": 7}, "pairs of question and answer"),
    ],
)
def test_a_row_without_turns(tmp_path: Path, row: dict[str, Any], detail: str) -> None:
    with pytest.raises(UserError, match="1 of 1 rows cannot be used") as caught:
        read_demonstrations(put(tmp_path, row))
    assert detail in caught.value.what


@pytest.mark.parametrize("content", ["", "\n\n", "[]"])
def test_empty_data_set(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"no usable row|neither"):
        read_prompts(str(path), strict=False)


def test_equal_sides_are_dropped_and_many_are_an_error(tmp_path: Path) -> None:
    good = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(39)]
    same = {"prompt": "q", "chosen": "a", "rejected": "a"}
    loaded = read_preferences(put(tmp_path, *good, same))
    assert (loaded.read, loaded.kept, loaded.counts) == (40, 39, {"identical": 1})
    with pytest.raises(UserError, match="chosen equals rejected in 3 of 42"):
        read_preferences(put(tmp_path, *good, same, same, same))


def test_answers_labelled_bad_are_not_imitated(tmp_path: Path) -> None:
    source = put(tmp_path, *({"messages": CHAT, "label": label} for label in (1, 0, "true", "false")))
    loaded = read_demonstrations(source)
    assert (loaded.kept, loaded.counts) == (2, {"undesirable": 2})
    with pytest.raises(UserError, match="accepted are true, false, 1, 0"):
        read_demonstrations(put(tmp_path, {"messages": CHAT, "label": "yes"}))


def test_reference_answers_stay_with_prompts(tmp_path: Path) -> None:
    loaded = read_prompts(put(tmp_path, {"question": "1+1?", "answer": "2"}), columns={"prompt": "question"})
    assert loaded.rows[0].answer == "2"
    (prompt,) = read_prompts(put(tmp_path, {"messages": LONG})).rows
    assert (len(prompt.messages), prompt.answer) == (3, "bye")


def test_transcript_keeps_what_is_said() -> None:
    text = "\n\nHuman: one\n\ntwo Human: no turn\n\nAssistant: yes\n\nHuman: x\n\nAssistant:"
    assert [(m.role, m.content) for m in transcript(text)] == [
        ("user", "one\n\ntwo Human: no turn"),
        ("assistant", "yes"),
        ("user", "x"),
        ("assistant", ""),
    ]


def test_hh_harmless(shared_data: Path) -> None:
    loaded = read_preferences("hh-harmless/pairs.jsonl", root=shared_data)
    lost = [problem for problem in loaded.problems if problem.kind == "no common prompt"]
    assert [problem.where for problem in lost] == ["hh-harmless/pairs.jsonl:1255"]
    assert loaded.counts == {"no common prompt": 1, "empty answer": 4, "turns joined": 3}
    assert (loaded.read, loaded.kept, loaded.dropped) == (1500, 1495, 5)
    raw = json.loads((shared_data / "hh-harmless/pairs.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert raw["chosen"].endswith("\n\nAssistant: " + loaded.rows[0].chosen.text)
    assert raw["rejected"].endswith("\n\nAssistant: " + loaded.rows[0].rejected.text)
    shorter = sum(len(row.chosen.text) < len(row.rejected.text) for row in loaded.rows) / loaded.kept
    assert shorter == pytest.approx(0.55, abs=0.02)
    chosen = read_demonstrations("hh-harmless/pairs.jsonl", root=shared_data)
    assert [d.completion.text for d in chosen.rows] == [row.chosen.text for row in loaded.rows]


def test_llamafactory_layouts(shared_data: Path) -> None:
    folder = shared_data / "llamafactory-demo"
    pairs = read_preferences("dpo_en_demo.json", root=folder)
    assert (pairs.kept, pairs.problems) == (300, ())
    assert sum(len(row.prompt.messages) > 2 for row in pairs.rows) == 106
    judged = read_demonstrations("kto_en_demo.json", root=folder)
    assert (judged.read, judged.kept, judged.counts) == (300, 150, {"undesirable": 150})
    alpaca = read_demonstrations("alpaca_en_demo.json", root=folder)
    assert (alpaca.kept, alpaca.problems) == (999, ())
    assert alpaca.rows[0].prompt.text == "Describe a process of making crepes."


def test_self_instruct(shared_data: Path) -> None:
    loaded = read_demonstrations("self-instruct/seed_tasks.jsonl", root=shared_data)
    assert (loaded.kept, loaded.problems) == (175, ())
    assert loaded.rows[1].prompt.text.endswith("pairs?\n\nNight : Day :: Right : Left")
