"""The report as Markdown and as JSON, and of several runs."""

from __future__ import annotations

import dataclasses
import json

import pytest
from made_runs import HOSTILE, answer_rows, full_run, town_run
from markdown_it import MarkdownIt

from concordant.app.report.compose import compose, compose_several
from concordant.app.report.document import Table
from concordant.app.report.html import page
from concordant.app.report.json_form import as_json
from concordant.app.report.markdown import escaped, markdown
from concordant.app.report.source import ReportInput
from concordant.errors import UserError


@pytest.fixture(scope="module")
def report():
    return compose(full_run())


def tokens(text):
    found = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    return [inner for token in found for inner in (token, *(token.children or ()))]


def test_markdown_has_every_section_and_number_of_the_report(report):
    text = markdown(report)
    assert text.startswith("# PPO raised the gold reward from 0.05 to 0.85")
    for section in report.sections:
        assert f"\n## {escaped(section.title)}\n" in text
    assert "| PPO over SFT | gold | 69.4 % (67.0–71.0) | 61.0 % (58.0–64.0) | 96 | 64.0 % |" in text
    tables = [token for token in tokens(text) if token.type == "table_open"]
    assert len(tables) >= 30


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "# no\n- no\n1. no\n> no",
        "| a | b |\n|---|---|",
        "[x](http://a.b)",
        "www.a.b ~~x~~ `y` **z** $w$",
    ],
)
def test_markdown_shows_any_text_as_it_is(text):
    kinds = {token.type for token in tokens(escaped(text))}
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special", "html_inline"}
    html = [token.content for token in tokens(escaped(text)) if token.type == "html_inline"]
    assert set(html) <= {"<br>"}
    said = "".join(token.content for token in tokens(escaped(text)) if token.type in ("text", "text_special"))
    assert said.replace("\n", "") == text.replace("\n", "").replace("\x00", "\ufffd")


def test_hostile_answers_break_no_table():
    run = dataclasses.replace(full_run(), answers=answer_rows(30, hostile=True))
    text = markdown(compose(run))
    kinds = [
        token for token in tokens(text) if token.type in ("html_inline", "html_block", "image", "link_open")
    ]
    assert {token.content for token in kinds} <= {"<br>"}
    assert "\u202e" not in text


def test_json_is_the_report_with_its_numbers(report):
    found = json.loads(as_json(report))
    assert found["schema"] == 1
    sections = {section["key"]: section for section in found["report"]["sections"]}
    assert list(sections) == [section.key for section in report.sections]
    ladder = sections["models"]["blocks"][1]
    assert ladder["kind"] == "table"
    assert ladder["rows"][2]["cells"][0]["value"] == 0.85
    figure = sections["wins"]["blocks"][1]["items"][0]
    assert figure["numbers"]["rows"][0]["cells"][1] | {"text": ""} == {
        "text": "", "error": " (67.0–71.0)", "value": 0.694, "low": 0.67, "high": 0.71
    }  # fmt: skip
    assert "draw" not in figure


def test_all_forms_say_the_same_of_a_run_with_nothing_measured():
    report = compose(ReportInput("early"))
    for form in (page, markdown, as_json):
        assert "This run has not been evaluated yet." in form(report)


def none_decide():
    return {}


def several(*runs):
    return compose_several(runs, none_decide)


def table_of(report, key):
    section = next(one for one in report.sections if one.key == key)
    return next(block for block in section.blocks if isinstance(block, Table))


def test_two_runs_are_one_against_the_other():
    report = several(full_run("hot", gold=-0.41, kl=12.4, kl_coef=0.0, score=2.3), full_run())
    assert "the gold reward went DOWN by 1.26" in report.verdict.headline
    assert table_of(report, "recipes").rows[0].label == "policy.kl_coef"
    figures = table_of(report, "figures")
    assert [column.text for column in figures.columns] == ["hot", "town"]
    assert [cell.text for cell in figures.rows[0].cells] == ["−0.41", "0.85"]


def test_of_three_runs_the_best_is_named_with_what_chance_leaves_of_it():
    runs = full_run("a", gold=0.85), full_run("b", gold=0.84), full_run("c", gold=0.3)
    assert several(*runs).verdict.headline == (
        "a has the highest gold of 3 runs, 0.85: better than c beyond chance."
    )
    assert "no more than chance" in several(*runs[:2], full_run("d", gold=0.86)).verdict.headline


def test_win_rates_between_runs_are_drawn():
    row = {
        "by": "gold",
        "first": "a/policy",
        "second": "b/policy",
        "rate": 0.6,
        "low": 0.55,
        "high": 0.65,
        "n": 96,
    }
    report = compose_several([full_run("a"), full_run("b")], lambda: {"win_rates": [row]})
    section = next(one for one in report.sections if one.key == "wins")
    assert section.blocks[0].items[0].numbers.rows[0].label == "b/policy over a/policy"
    assert "<svg" in page(report)


def test_runs_that_were_measured_otherwise_are_refused():
    one, other = full_run("a"), full_run("b")
    warmer = dataclasses.replace(other, recipe={**other.recipe, "evaluate": {"temperature": 0.5}})
    with pytest.raises(UserError, match=r"not measured alike: evaluate\.temperature"):
        several(one, warmer)
    asked = [{**row, "prompt_id": f"other {row['prompt_id']}"} for row in other.answers]
    with pytest.raises(UserError, match="they answered other prompts") as caught:
        several(one, dataclasses.replace(other, answers=asked))
    assert caught.value.where == "a and b"


def test_nothing_is_asked_where_nothing_decides_between_runs():
    def asked():
        raise AssertionError("between runs of other reward models and no gold nothing decides")

    runs = []
    for name, steps in (("a", 120), ("b", 60)):
        run = town_run(name)
        results = {**run.results, "models": {"policy": {"score": {"mean": 1.0, "se": 0.1, "n": 9}}}}
        runs.append(dataclasses.replace(run, results=results, recipe={**run.recipe, "sft": {"steps": steps}}))
    report = compose_several(runs, asked)
    assert "wins" not in [section.key for section in report.sections]
