"""What the doctor says beyond single rows, on the terminal and in a report, and the cleaned copy it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from concordant.data.doctor.advice import ADVICE
from concordant.data.doctor.checkup import Limit, Origin, check, examine, repetitions, template_notes
from concordant.data.doctor.cure import write_clean
from concordant.data.doctor.figures import Lengths, Share, script_of
from concordant.data.layouts.account import MISTAKES, place_of
from concordant.data.layouts.reading import read_preferences
from concordant.data.template import Template, load_tokenizer
from concordant.errors import UserError
from tiny_run import concordant


def put(path: Path, *rows: Any) -> str:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def pair(prompt: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# prompts that are held out


def test_prompts_that_are_held_out_are_found_by_their_hash(tmp_path: Path) -> None:
    train = put(tmp_path / "train.jsonl", *(pair(f"Question {n}", "a", "b") for n in range(4)))
    held = put(tmp_path / "held.jsonl", {"prompt": "Question 1"}, {"prompt": " question  3"}, {"prompt": "x"})
    shown = concordant("check", train, "--against", held, "--fix", tmp_path / "out.jsonl")
    assert shown.status == 2
    assert f"{train}:2: leak: the prompt is held out\n" in shown.out
    assert f"{train}:4: leak: the prompt is held out, but for case and spaces" in shown.out
    assert "2 rows have a prompt that is held out" in shown.out
    kept = [row["prompt"][0]["content"] for row in rows_of(tmp_path / "out.jsonl")]
    assert kept == ["Question 0", "Question 2"]
    assert concordant("check", tmp_path / "out.jsonl", "--against", held).status == 0


# the cleaned copy


def test_a_cleaned_copy_accounts_for_every_row(tmp_path: Path) -> None:
    source = put(
        tmp_path / "pairs.jsonl",
        pair("q", "a", "b", note="first", weight=2.0),
        pair("q", "b", "a"),
        pair("q", "a", "b"),
        pair("r", "same", "same"),
        pair("s", "", "b"),
        pair("t", "yes", "no", p_chosen=0.8, note=[1]),
        pair("t", "yes", "no", p_chosen=0.8),
        "{broken",
        {"prompt": "\n\nHuman: u\n\nHuman: v\n\nAssistant:", "chosen": "c", "rejected": "d"},
    )
    before = Path(source).read_bytes()
    with examine(Origin(source)) as examination:
        cure = write_clean(examination, tmp_path / "out.jsonl")
    assert (cure.read, cure.used, dict(cure.unusable)) == (
        9,
        6,
        {"identical": 1, "empty": 1, "broken line": 1},
    )
    assert (cure.rows, cure.written) == (6, 3)
    assert cure.left_out == {"contradiction": 1, "duplicate": 2}
    assert (cure.merged, dict(cure.mended)) == (1, {"turns joined": 1})
    assert Path(source).read_bytes() == before

    first, second, third = rows_of(tmp_path / "out.jsonl")
    assert first["p_chosen"] == pytest.approx(2 / 3)
    assert (first["note"], first["weight"], first["chosen"]) == ("first", 2.0, "a")
    assert (second["p_chosen"], second["note"]) == (0.8, [1])
    assert third["prompt"] == [{"role": "user", "content": "u\n\nv"}]
    again = check(str(tmp_path / "out.jsonl"))
    assert (again.ok, again.kept, again.counts) == (True, 3, {})
    assert len(read_preferences(str(tmp_path / "out.jsonl")).rows) == 3


def test_the_side_that_stands_first_keeps_its_share(tmp_path: Path) -> None:
    """Whichever of the two answers sorts first, `p_chosen` speaks of the one that the kept row has chosen."""
    said = [("z", "a"), ("a", "z"), ("a", "z"), ("a", "z")]
    source = put(tmp_path / "pairs.jsonl", *(pair("q", *answers) for answers in said))
    with examine(Origin(source)) as examination:
        write_clean(examination, tmp_path / "out.jsonl")
    (row,) = rows_of(tmp_path / "out.jsonl")
    assert (row["chosen"], row["p_chosen"]) == ("z", 0.25)


@pytest.mark.parametrize(
    "row",
    [
        {
            "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            "label": True,
        },
        {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]], "system": "f"},
        {"prompt": "a", "answer": "b"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c", "margin": 1.5},
        {"prompt": "a", "completion": "b", "label": 0, "weight": 0.5},
    ],
)
def test_a_cleaned_copy_says_the_same(tmp_path: Path, row: dict[str, Any]) -> None:
    source = put(tmp_path / "rows.jsonl", row)
    with examine(Origin(source)) as examination:
        write_clean(examination, tmp_path / "out.jsonl")
        kind = examination.report.kind
        told = list(examination.book._database.execute("SELECT about, side, prompt, p FROM rows"))
    with examine(Origin(str(tmp_path / "out.jsonl"))) as examination:
        assert examination.report.kind == kind
        assert list(examination.book._database.execute("SELECT about, side, prompt, p FROM rows")) == told


def test_a_row_that_holds_several_is_counted_once_and_written_as_several(tmp_path: Path) -> None:
    inputs = [{"input": str(n % 2), "output": "o"} for n in range(3)]
    source = put(tmp_path / "tasks.jsonl", {"instruction": "i", "instances": inputs})
    with examine(Origin(source)) as examination:
        cure = write_clean(examination, tmp_path / "out.jsonl")
    assert (cure.read, cure.used, cure.rows, cure.written) == (1, 1, 3, 2)
    assert cure.left_out == {"duplicate": 1}


def test_a_column_that_nobody_looked_at_does_not_begin_to_mean_something(tmp_path: Path) -> None:
    """Transcripts have no `system` column; in the copy it would stand before the conversation."""
    row = {"text": "\n\nHuman: a\n\nAssistant: b", "system": 450, "label": False, "id": 7}
    source = put(
        tmp_path / "rows.jsonl", row | {"label": None}, {**row, "text": "\n\nHuman: c\n\nAssistant: d"}
    )
    shown = concordant("check", source, "--fix", tmp_path / "out.jsonl")
    assert "(1 undesirable)" in shown.out
    assert "left out since they would be in the layout written: system\n" in shown.out
    prompt = [{"role": "user", "content": "a"}]
    assert rows_of(tmp_path / "out.jsonl") == [{"id": 7, "prompt": prompt, "completion": "b"}]


def test_a_cleaned_copy_replaces_nothing(tmp_path: Path) -> None:
    source = put(tmp_path / "pairs.jsonl", pair("q", "a", "b"))
    shown = concordant("check", source, "--fix", source)
    assert shown.status == 2
    assert "never replaces anything" in shown.err
    shown = concordant("check", source, "--fix", tmp_path / "out.csv")
    assert "ends in .jsonl" in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.jsonl"]


def test_a_source_that_changes_meanwhile_is_not_copied(tmp_path: Path) -> None:
    source = put(tmp_path / "pairs.jsonl", pair("q", "a", "b"))
    with examine(Origin(source)) as examination:
        put(tmp_path / "pairs.jsonl", pair("q", "a", "b"), pair("r", "a", "b"))
        with pytest.raises(UserError, match="2 usable rows the second time, 1 the first"):
            write_clean(examination, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


# the report, and lines for editors


def test_every_problem_is_in_the_report(tmp_path: Path) -> None:
    rows = [pair("q", "a", "b")] * 1_500
    source = put(tmp_path / "pairs.jsonl", *rows, '{"prompt": "q", "chosen"')
    report = tmp_path / "report.jsonl"
    shown = concordant("check", source, "--report", report)
    assert "and 1490 more" in shown.out
    found = rows_of(report)
    assert [row["line"] for row in found] == [*range(2, 1502)]
    assert found[0] == {
        "path": source,
        "line": 2,
        "column": 1,
        "kind": "duplicate",
        "what": f"the same as {source}:1",
        "expected": "each row once",
        "fix": "leave the copies out: --fix OUT",
        "left_out": False,
    }
    assert (found[-1]["kind"], found[-1]["column"], found[-1]["left_out"]) == ("broken line", 25, True)
    assert concordant("check", source, "--report", report).status == 2  # an earlier report is replaced
    shown = concordant("check", source, "--report", source)
    assert "it is no report" in shown.err
    assert len(Path(source).read_text().splitlines()) == 1501


def test_lines_for_editors(tmp_path: Path) -> None:
    source = put(
        tmp_path / "pairs.jsonl", pair("q", "a", "b"), pair("q", "b", "a"), '{"prompt": "q" "chosen"}'
    )
    shown = concordant("check", source, "--format", "lines")
    assert shown.out.splitlines() == [
        f"{source}:2:1: contradiction: says the opposite of {source}:1",
        f"""{source}:3:16: broken line: Expecting ',' delimiter: {{"prompt": "q" "chosen"}}""",
    ]


def test_every_mistake_has_an_advice() -> None:
    assert set(MISTAKES) <= set(ADVICE)


@pytest.mark.parametrize(
    ("where", "parts"),
    [
        ("a.jsonl:12", ("a.jsonl", ":", 12, 0)),
        ("a.jsonl:12:3", ("a.jsonl", ":", 12, 3)),
        ("a/b.parquet:row 7", ("a/b.parquet", ":row ", 7, 0)),
        ("a.parquet", ("a.parquet", "", 0, 0)),
    ],
)
def test_places_are_taken_apart(where: str, parts: tuple[str, str, int, int]) -> None:
    assert place_of(where) == parts


# lengths against a limit


def test_lengths_against_a_limit(tmp_path: Path, finished: Path) -> None:
    source = put(
        tmp_path / "rows.jsonl",
        {"prompt": "a", "completion": "b"},
        {"prompt": "a " * 300, "completion": "b"},
        {"prompt": "a", "completion": "b " * 300},
    )
    template = Template(load_tokenizer(str(finished / "stages" / "01-base" / "model")))
    with examine(Origin(source), template=template, limit=Limit(200)) as examination:
        report = examination.report
        assert report.counts == {"trimmed": 1, "too long": 1}
        assert [problem.where[-1] for problem in report.problems] == ["2", "3"]
        assert report.ok
        cure = write_clean(examination, tmp_path / "out.jsonl")
    assert (cure.written, dict(cure.left_out)) == (2, {"too long": 1})
    with examine(Origin(source), template=template, limit=Limit(200, "error")) as examination:
        assert examination.report.refusals == ("2 of 3 rows do not fit",)
    with examine(Origin(source), template=template, limit=Limit(1)) as examination:
        assert examination.report.refusals == ("3 of 3 rows do not fit",)
    shown = concordant("check", source, "--max-length", "10")
    assert "no tokenizer is given" in shown.err


# what rows are like as a whole


def test_scripts() -> None:
    said = {
        "hello": "Latin",
        "größer": "Latin",
        "привет, world": "Cyrillic",
        "你好": "Chinese",
        "日本語です": "Japanese",
        "안녕": "Korean",
        "12 + 3": "",
        "": "",
    }
    assert {text: script_of(text) for text in said} == said


def test_skews_are_said(tmp_path: Path) -> None:
    rows = [pair(f"question {n}", "a long answer", "short") for n in range(40)]
    source = put(tmp_path / "pairs.jsonl", *rows, pair("question", "ответ и ещё слово", "no"))
    held = put(tmp_path / "held.jsonl", *({"prompt": f"вопрос {n} " * 20} for n in range(10)))
    shown = concordant("check", source, "--against", held)
    assert "the chosen answer is the longer one in 100% (91% to 100%, n = 41) of pairs" in shown.out
    assert "scripts of chosen: Latin 97.6%, Cyrillic 2.4%" in shown.out
    assert f"{source}:41: script: the prompt is Latin, chosen is Cyrillic" in shown.out
    assert "Cyrillic prompts are 0% here and 100% of those held out" in shown.out
    assert "half of the prompts are longer than 11 characters here" in shown.out
    assert shown.status == 0


def test_intervals_of_shares() -> None:
    """Wilson's interval of 8 in 10, as statsmodels has it."""
    low, high = Share(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))


def test_long_lengths_are_counted_to_three_digits() -> None:
    assert Lengths.of([123_456] * 3) == Lengths(3, 123_000, 123_000, 123_000, 123_456)


def test_what_is_trained_on_is_marked_for_those_who_see_no_colour(tmp_path: Path) -> None:
    source = put(
        tmp_path / "rows.jsonl", {"prompt": "ask", "completion": "told"}, {"prompt": "b", "completion": "c"}
    )
    shown = concordant("check", source, "--samples", "1")
    assert f"{source}:1  ask ⟦told⟧" in shown.out
    assert "⟦c⟧" not in shown.out


def test_nothing_usable_is_reported_with_its_lines(tmp_path: Path) -> None:
    shown = concordant("check", put(tmp_path / "rows.jsonl", "{", "["), "--fix", tmp_path / "out.jsonl")
    assert shown.status == 2
    assert "2 rows read, 0 usable, 2 left out" in shown.out
    assert "there is no usable row" in shown.out
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_a_template_says_how_answers_end(finished: Path) -> None:
    tokenizer = load_tokenizer(str(finished / "stages" / "01-base" / "model"))
    template = Template(tokenizer)
    end = tokenizer.convert_ids_to_tokens(template.end_id)
    (said,) = (note for note in template_notes(template) if note.startswith("an answer ends with"))
    assert said.endswith(repr(end))


def test_rows_of_token_ids_are_refused_in_words(tmp_path: Path) -> None:
    source = put(tmp_path / "ids.jsonl", {"input_ids": [1, 2], "labels": [-100, 2]})
    assert "before it was tokenised" in concordant("check", source).err


def test_repetitions_in_memory(tmp_path: Path) -> None:
    source = put(
        tmp_path / "p.jsonl",
        pair("q", "a", "b"),
        pair("q", "a", "b"),
        pair("q", "b", "a"),
        pair("r", "a", "b"),
    )
    assert repetitions(read_preferences(source).rows) == (1, 1)


# the files of a recipe


def test_a_recipe_stands_for_its_files(tmp_path: Path, finished: Path) -> None:
    put(tmp_path / "shown.jsonl", {"question": "a", "completion": "b"})
    put(tmp_path / "pairs.jsonl", pair("q", "a", "b"), pair("q", "", "b"))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        f'name = "mine"\ndata_root = "{tmp_path}"\n[model]\npath = "{finished}/stages/01-base/model"\nlength = 64\n'
        '[data]\npreferences = "pairs.jsonl"\n'
        'demonstrations = {path = "shown.jsonl", columns = {prompt = "question"}}\n[sft]\n[reward]\n'
    )
    shown = concordant("check", recipe, "--report", tmp_path / "report.jsonl")
    assert shown.status == 2, shown.err
    assert "shown.jsonl: demonstrations, layout prompt, completion" in shown.out
    assert f"{tmp_path / 'pairs.jsonl'}:2: empty: column chosen is empty" in shown.out
    assert "0 are longer than 64 tokens" in shown.out
    assert [row["kind"] for row in rows_of(tmp_path / "report-2.jsonl")] == ["empty"]
    assert rows_of(tmp_path / "report-1.jsonl") == []
