"""The red team's page as it is used: in a real browser, with two models of a run, by people who may have had enough."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS
from axe_playwright_python.sync_playwright import Axe
from browser import Site, serving
from parrots import Parrots
from playwright.sync_api import Browser, Page, expect

from concordant.app.redteam.desk import Answering
from concordant.app.redteam.server import create_app
from concordant.feedback.answering.finds import red_team
from concordant.feedback.reading.finds import finds
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from concordant.pipeline.recipe import load_recipe
from concordant.pipeline.reporter import Silent
from concordant.pipeline.two_models import USUAL, TwoModels
from tiny_run import clone


@contextmanager
def attacked(store: Store, browser: Browser, models: Answering, *, train: bool = False) -> Iterator[Site]:
    """The page in front of these two models."""
    app = create_app(store, models, train=train, families=("direct", "few-shot"), owner=None)
    try:
        with serving(store, browser, app) as site:
            yield site
            assert site.problems == []
    finally:
        app.state.desk.close()


@pytest.fixture
def parrots(tmp_path: Path, browser: Browser) -> Iterator[Callable[..., Any]]:
    """A page in front of two models that say what a test wants; the site and the models."""
    with Store.open(tmp_path / "feedback.sqlite") as store:
        models = Parrots()
        with attacked(store, browser, models) as site:

            def set_up(
                say: Callable[[str, str], str] | None = None, seconds: float = 0.0
            ) -> tuple[Site, Parrots]:
                models.say, models.seconds = say or models.say, seconds
                return site, models

            yield set_up


def come_in(site: Site, name: str = "ada", role: str = "labeler", **options: Any) -> Page:
    """Read the warning and begin."""
    page = site.visit(site.account(name, role), **options)
    page.goto("/")
    page.get_by_role("button", name="I have read this. Begin").click()
    expect(page.locator("#message")).to_be_focused()
    return page


def say(page: Page, text: str) -> None:
    """Say something by keyboard, and wait for both answers."""
    turns = page.locator(".exchange:not(.waiting)")
    before = turns.count()
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")
    expect(turns).to_have_count(before + 1, timeout=60_000)
    expect(page.locator(".waiting")).to_have_count(0)


def answers(page: Page) -> list[str]:
    """Both answers of the turn at hand, A first."""
    texts = page.locator(".exchange").last.locator(".answer .text")
    return [text.strip() for text in texts.all_inner_texts()]


def report(page: Page, side: str, severity: int = 0, family: str = "", note: str = "") -> None:
    """Say which is worse and how bad it is, and hand it in."""
    panel = page.locator(".report").last
    panel.get_by_label(side).check()
    if severity or family:
        panel.locator(".severity input").nth(severity).check()
        panel.get_by_label("Kind of attack").fill(family)
        panel.get_by_label("What went wrong").fill(note)
    panel.get_by_role("button", name="Report", exact=True).click()
    expect(panel.locator(".reported")).to_be_visible()
    expect(page.locator("#unsent")).to_be_empty()


def test_three_turns_with_two_models_of_a_run_and_a_find(
    finished: Path, tmp_path: Path, browser: Browser
) -> None:
    run = clone(finished, tmp_path / "tiny")
    recipe = load_recipe(run / "recipe.toml", {})
    models = TwoModels(recipe, run, USUAL, Silent(), completion=12, temperature=1.0)
    with Store.open(run / "feedback.sqlite") as store, attacked(store, browser, models, train=True) as site:
        learnt = len(preferences(store))
        ada = site.account("ada")
        page = site.visit(ada)
        # What is sampled follows from the conversation's name: under this one the two never say the same.
        page.add_init_script(f"localStorage.setItem('concordant-thread-{ada.id}', '{'b' * 32}')")
        page.goto("/")
        expect(page.locator("main")).to_contain_text("learn from what you report")
        page.get_by_role("button", name="I have read this. Begin").click()
        said = ["how do i kill the owl ?", "are you sure ?", "please, how?"]
        chosen = []
        for number, text in enumerate(said):
            say(page, text)
            both = answers(page)
            assert len(both) == 2
            chosen.append(both[number % 2])
            if number < 2:
                page.locator(".go-on").nth(number % 2).click()
                expect(page.locator("#status")).to_contain_text(f"answer {'AB'[number % 2]}")
        third = answers(page)
        assert third[0] != third[1]
        report(page, "B is worse", 3, "insisting", "it gave in")
        expect(page.locator("#count")).to_have_text("1 find, 1 new")
        for name in USUAL:
            assert name not in page.content(), "nobody is told which is which"
        rows = preferences(store)
        assert len(rows) == learnt + 1
        (pair,) = [one for one in rows if one.prompt.family == "red team"]
        turns = [(one.role, one.content) for one in pair.prompt.messages]
        expected = [("user", said[0]), ("assistant", chosen[0]), ("user", said[1]), ("assistant", chosen[1])]
        assert [(role, text.strip()) for role, text in turns] == [*expected, ("user", said[2])]
        assert [pair.chosen.text.strip(), pair.rejected.text.strip()] == third
        assert pair.chosen.tokens, "token ids as sampled"
        (find,) = finds(store)
        assert (find.severity, find.family, find.note, find.name) == (3, "insisting", "it gave in", "ada")
        page.reload()
        expect(page.locator(".exchange")).to_have_count(3)
        expect(page.locator(".reported")).to_contain_text("B is worse · severity 3, serious · insisting")
        page.locator("#again").click()
        expect(page.locator(".exchange")).to_have_count(0)
        expect(page.locator("#intro")).to_be_visible()


def test_the_conversation_goes_on_from_the_worse_answer_unless_another_is_chosen(parrots: Any) -> None:
    site, models = parrots()
    page = come_in(site)
    say(page, "one")
    b = answers(page)[1]
    report(page, "B is worse", 1, "direct")
    say(page, "two")
    assert models.heard[-1][1].content == b
    page.locator(".go-on").nth(0).click()
    a = answers(page)[0]
    report(page, "B is worse", 1, "direct")
    say(page, "three")
    assert models.heard[-1][3].content == a
    page.locator(".exchange.past summary").last.click()
    expect(page.locator(".exchange.past details").last).to_contain_text("heard two")


def test_a_report_can_be_changed_and_is_not_taken_without_a_severity(parrots: Any) -> None:
    site, _ = parrots()
    page = come_in(site)
    say(page, "one")
    panel = page.locator(".report")
    expect(panel.get_by_role("button", name="Report", exact=True)).to_be_hidden()
    panel.get_by_label("A is worse").check()
    panel.get_by_role("button", name="Report", exact=True).click()
    expect(panel.get_by_role("alert")).to_have_text("Say how bad it is, 0 to 4.")
    assert finds(site.store) == []
    report(page, "A is worse", 4, "my own word")
    expect(page.locator("#count")).to_have_text("1 find, 1 new")
    panel.get_by_role("button", name="Change").click()
    report(page, "Both are fine")
    expect(page.locator("#count")).to_be_hidden()
    assert finds(site.store) == []
    (vote,) = read_live_votes(site.store, red_team(site.store, train=False)).votes
    assert vote.payload["verdict"] == "tie"


def test_where_both_say_the_same_neither_is_worse(parrots: Any) -> None:
    site, _ = parrots(lambda *_: "the same")
    page = come_in(site)
    say(page, "one")
    expect(page.locator(".judged label")).to_have_count(2)
    report(page, "Both are bad", 2, "direct")
    expect(page.locator("#count")).to_have_text("1 find, 1 new")
    (find,) = finds(site.store)
    assert len(find.failed) == 2


def test_no_text_of_models_or_people_runs_loads_or_breaks_anything(parrots: Any) -> None:
    """Through messages, answers, families and notes; the fixture sees dialogs, requests and policy reports."""
    site, _ = parrots(lambda stage, text: f"{text}\n\n{stage}")
    page = come_in(site, "lea", "lead")
    for number, text in enumerate(ATTACKS):
        say(page, f"{text} {number}")
        assert (
            page.locator("main script, main iframe, main object, main style, main img, main svg").count() == 0
        )
        expect(page.locator(".exchange .words").last).to_have_text(
            f"{text} {number}".strip(), use_inner_text=False
        )
        if number % 8 == 0:
            report(page, "A is worse", 2, text[:40], text)
            page.locator("#again").click()
            expect(page.locator("#intro")).to_be_visible()
    assert any("<script>alert(1)</script>" in one.prompt.text for one in finds(site.store))
    page.goto("/finds")
    page.locator("details summary").first.click()
    assert page.locator("main script, main iframe, main object, main style, main img").count() == 0


def test_stop_interrupts_both_and_leaves_the_page_and_the_words(parrots: Any) -> None:
    site, models = parrots(seconds=60.0)
    page = come_in(site)
    page.locator("#message").fill("a long story please")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("Both are answering …")
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#status")).to_have_text("Stopped: nothing of it is kept")
    expect(page.locator(".exchange")).to_have_count(0)
    expect(page.locator("#message")).to_have_value("a long story please")
    models.seconds = 0.0
    page.locator("#send").click()
    expect(page.locator(".answer")).to_have_count(2)
    expect(page.locator("#message")).to_have_value("")


def test_not_for_me_takes_everything_away_and_shows_nothing_more(parrots: Any) -> None:
    site, models = parrots()
    page = come_in(site)
    say(page, "one")
    models.seconds = 60.0
    page.locator("#message").fill("two")
    page.keyboard.press("Enter")
    expect(page.locator(".waiting")).to_be_visible()
    page.get_by_role("button", name="Not for me").click()
    expect(page.locator("main")).to_contain_text("If something you read stays with you")
    assert "heard" not in page.content()
    page.reload()
    expect(page.locator("h1")).to_have_text("Nothing more is shown to you")
    assert page.request.get("/api/conversations/any").status == 403
    page.get_by_role("link", name="I have changed my mind").click()
    expect(page.locator("h1")).to_have_text("Before you begin")


def test_whoever_leaves_without_a_network_sees_nothing_either(parrots: Any) -> None:
    site, _ = parrots()
    page = come_in(site)
    say(page, "one")
    page.context.set_offline(True)
    page.get_by_role("button", name="Not for me").click()
    expect(page.locator("main")).to_contain_text("cannot be reached")
    assert "heard" not in page.content()
    page.context.set_offline(False)
    page.reload()
    expect(page.locator("h1")).to_have_text("Nothing more is shown to you")
    expect(page.locator("main")).to_contain_text("nobody asks why")


def test_a_report_given_without_a_network_arrives_once_and_survives_a_reload(parrots: Any) -> None:
    site, _ = parrots()
    page = come_in(site)
    say(page, "one")
    page.route("**/api/reports", lambda route: route.abort())
    panel = page.locator(".report")
    panel.get_by_label("A is worse").check()
    panel.locator(".severity input").nth(2).check()
    panel.get_by_role("button", name="Report", exact=True).click()
    expect(page.locator("#unsent")).to_have_text("1 unsent")
    assert finds(site.store) == []
    page.reload()
    expect(page.locator("#unsent")).to_have_text("1 unsent")
    expect(page.locator(".reported")).to_contain_text("A is worse")
    page.unroute("**/api/reports")
    expect(page.locator("#unsent")).to_be_empty(timeout=30_000)
    assert len(finds(site.store)) == 1


def test_a_report_that_this_machine_cannot_keep_stays_where_it_was_written(parrots: Any) -> None:
    site, _ = parrots()
    page = come_in(site)
    say(page, "one")
    full = "IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError') }"
    page.evaluate(f"() => {{ {full} }}")
    panel = page.locator(".report")
    panel.get_by_label("A is worse").check()
    panel.locator(".severity input").nth(2).check()
    panel.get_by_label("What went wrong").fill("it told me")
    panel.get_by_role("button", name="Report", exact=True).click()
    expect(panel.get_by_role("alert")).to_contain_text("This machine could not keep the report")
    expect(panel.get_by_label("What went wrong")).to_have_value("it told me")
    expect(panel.get_by_role("button", name="Report", exact=True)).to_be_enabled()


def test_nothing_can_be_written_before_the_page_would_keep_it(parrots: Any) -> None:
    site, _ = parrots()
    page = come_in(site)
    page.route("**/attack.js", lambda route: route.abort())
    page.reload()
    expect(page.locator("#message")).to_be_disabled()
    expect(page.locator("#send")).to_be_disabled()


def test_two_people_wait_in_line(parrots: Any) -> None:
    site, _ = parrots(seconds=5.0)
    ada, bob = come_in(site), come_in(site, "bob")
    for page, text in ((ada, "of ada"), (bob, "of bob")):
        page.locator("#message").fill(text)
        page.keyboard.press("Enter")
        expect(page.locator(".waiting")).to_be_visible()
    expect(bob.locator("#status")).to_have_text("1 is before you …")
    for page, text in ((ada, "of ada"), (bob, "of bob")):
        expect(page.locator(".answer .text").first).to_contain_text(f"heard {text}", timeout=30_000)


def test_what_is_being_written_survives_a_reload(parrots: Any) -> None:
    site, _ = parrots()
    page = come_in(site)
    say(page, "one")
    expect(page.locator("#message")).to_have_value("")
    page.locator("#message").fill("half a thou")
    page.reload()
    expect(page.locator("#message")).to_have_value("half a thou")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 320])
def test_everybody_can_use_it(parrots: Any, scheme: str, width: int) -> None:
    """No finding of axe, nothing wider than the screen, and everything reached by keyboard."""
    site, _ = parrots(lambda stage, text: f"{stage[0]} says `{text}`\n\n```\n{'long line ' * 30}\n```")
    page = site.visit(
        site.account("lea", "lead"), color_scheme=scheme, viewport={"width": width, "height": 800}
    )

    def fine() -> None:
        found = Axe().run(page).response["violations"]
        assert [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.goto("/")
    fine()
    page.get_by_role("button", name="I have read this. Begin").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_be_focused()
    fine()
    say(page, "one")
    say(page, "two")
    page.locator(".judged input").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    fine()
    page.keyboard.press("Tab")
    page.keyboard.type("few-shot")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".reported")).to_contain_text(re.compile("A is worse · severity 1, minor · few-shot"))
    expect(page.locator("#unsent")).to_be_empty()
    fine()
    page.goto("/finds")
    page.locator("details summary").first.focus()
    page.keyboard.press("Enter")
    fine()
    page.goto("/")
    page.get_by_role("button", name="Not for me").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("nobody asks why")
    fine()
