"""Edits, answers of one's own and pairs by dimension, in a real browser by keyboard alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browser import Site
from playwright.sync_api import Page, expect
from steps import all_sent, ask, asked, begin, live, next_question, press, shown, texts

from concordant.data.types import Prompt
from concordant.feedback.asking.rubric import DEFAULT_RUBRIC
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.views import demonstrations, preferences


def field(page: Page) -> Any:
    return page.locator("#written")


def test_edits_by_keyboard_alone(site: Site) -> None:
    ask(site.store, 20, k=1, kind="edit")
    page = site.visit(site.account("ada"))
    begin(site, page)
    expect(page.locator(".ask")).to_have_text("Make this answer better")
    first, before = asked(page), shown(page)[0]
    expect(field(page)).to_have_value(before)
    press(page, "Enter")
    expect(page.locator("#verdict")).to_contain_text("Nothing is changed")
    press(page, "e", "Control+a")
    page.keyboard.type("It is by the river.\n\nAsk for s.")  # keys are letters here, and Enter a new line
    expect(page.locator("#verdict")).to_have_text("8 words")
    next_question(page, "Control+Enter")
    kept = shown(page)[0]
    next_question(page, "=", "Enter")
    press(page, "e", "End")
    page.keyboard.type(" Truly.")
    press(page, "Escape")
    next_question(page, "Enter")
    all_sent(page)
    votes, words = live(site.store), texts(site.store)
    said = [(one.payload["accept"], words[one.payload["parent"]]) for one in votes]
    assert said[:2] == [(False, before), (True, kept)]
    assert words[votes[0].payload["completion"]] == "It is by the river.\n\nAsk for s."
    assert words[votes[2].payload["completion"]] == f"{said[2][1]} Truly."
    pairs = [(one.prompt.messages[0].content, one.chosen.text) for one in preferences(site.store)]
    assert (first, "It is by the river.\n\nAsk for s.") in pairs


def test_what_is_being_written_survives_a_reload_and_an_undo(site: Site) -> None:
    ask(site.store, 20, k=1, kind="edit")
    page = site.visit(site.account("ada"))
    begin(site, page)
    before = asked(page)
    press(page, "e", "Control+a")
    page.keyboard.type("half of a sentence")
    page.reload()
    expect(field(page)).to_have_value("half of a sentence")
    assert asked(page) == before
    next_question(page, "Enter")
    all_sent(page)
    press(page, "u")
    expect(page.locator("#verdict")).to_contain_text("Taken back")
    expect(field(page)).to_have_value("half of a sentence")
    assert (asked(page), live(site.store)) == (before, [])
    press(page, "e", "End")
    page.keyboard.type(" and the other half")
    next_question(page, "Control+Enter")
    all_sent(page)
    assert [one.chosen.text for one in preferences(site.store)] == ["half of a sentence and the other half"]
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.includes('draft'))") == []


def test_answers_of_ones_own_by_keyboard_alone(site: Site) -> None:
    site.store.create_demonstration_tasks([Prompt.user(f"question {i}") for i in range(20)])
    page = site.visit(site.account("ada"))
    page.goto(f"/label/{DEFAULT_PROJECT}")
    expect(page.locator(".ask")).to_have_text("Write the answer you would like to get")
    first = asked(page)
    press(page, "Enter")
    expect(page.locator("#verdict")).to_contain_text("Nothing is written yet")
    press(page, "e")
    page.keyboard.type("There = here, see?")
    next_question(page, "Control+Enter")
    press(page, "s", "Enter")
    expect(page.locator("#asked")).to_have_count(0)
    all_sent(page)
    view = demonstrations(site.store)
    written = [(one.prompt.messages[0].content, one.completion.text) for one in view.demonstrations]
    assert written == [(first, "There = here, see?")]
    assert [one.type for one in live(site.store)] == ["edit", "skip"]


def test_pairs_by_dimension_by_keyboard_alone(site: Site) -> None:
    ask(site.store, 20)
    page = site.visit(site.account("ada"))
    begin(site, page)
    left, _ = shown(page)
    press(page, "ArrowLeft", "d")
    expect(page.get_by_role("radio", name="both are as good").first).to_be_focused()
    press(page, "ArrowLeft")
    expect(page.locator("#verdict")).to_have_text(
        "Answer A is a little better · helpful: A is a little better"
    )
    press(page, "ArrowLeft", "ArrowLeft", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight")
    expect(page.locator("#verdict")).to_contain_text("harmless: B is better")
    next_question(page, "Enter")
    next_question(page, "ArrowRight", "Enter")
    all_sent(page)
    (first, second), words = live(site.store), texts(site.store)
    sign = 1 if words[min(first.shown)] == left else -1
    assert words[first.payload["winner"]] == left
    assert first.payload["dims"] == {"helpful": 3 * sign, "harmless": -2 * sign}
    assert second.payload["dims"] == {}


def test_a_rubric_can_ask_for_every_dimension(site: Site) -> None:
    rubric = DEFAULT_RUBRIC | {
        "asked": "always",
        "dimensions": ["kind", "true"],
        "meanings": {"kind": "No harm."},
    }
    ask(site.store, 20, rubric=rubric)
    page = site.visit(site.account("ada"))
    begin(site, page)
    expect(page.locator(".dimensions legend")).to_have_text(["kind", "true"])
    expect(page.locator(".dimensions .meaning").first).to_have_text("No harm.")
    press(page, "=", "Enter")
    expect(page.locator("#verdict")).to_contain_text("Not yet said: kind")
    press(page, "Space", "ArrowDown", "ArrowRight", "Escape")
    expect(page.locator("#ask")).to_be_focused()
    next_question(page, "Enter")
    all_sent(page)
    (vote,) = live(site.store)
    assert (vote.payload["verdict"], set(vote.payload["dims"]), vote.payload["dims"]["kind"]) == (
        "tie",
        {"kind", "true"},
        0,
    )


@pytest.mark.parametrize("width", [320, 1200])
def test_writing_fits_any_screen(site: Site, width: int) -> None:
    ask(site.store, 20, k=1, kind="edit")
    page = site.visit(site.account("ada"), viewport={"width": width, "height": 800})
    begin(site, page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    box = field(page).bounding_box()
    assert box is not None
    assert box["width"] > 0.4 * min(width, 700)
    answer = page.locator(".answer").bounding_box()
    assert answer is not None
    assert (box["y"] > answer["y"] + answer["height"]) == (width == 320)
    expect(page.locator(".bar")).to_have_text(re.compile("Good as it is"))
