"""The labeling page as it is used: a real browser, by keyboard, with the network cut, by several people at once."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

import pytest
from attacks import ATTACKS
from axe_playwright_python.sync_playwright import Axe
from browser import Site
from playwright.sync_api import Page, expect
from sqlalchemy import select
from steps import PRODUCER, all_sent, ask, asked, begin, live, next_question, press, shown, texts

from concordant.data.types import Completion, Message, Prompt
from concordant.feedback.accounts import accounts
from concordant.feedback.database import schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.views import preferences


def test_pairs_by_keyboard_alone(site: Site) -> None:
    ask(site.store, 30)
    page = site.visit(site.account("ada"))
    begin(site, page)
    said = []
    for keys in (("ArrowLeft",), ("ArrowRight",), ("ArrowRight", "Shift+ArrowRight"), ("=",), ("0",), ("2",)):
        said.append((asked(page), shown(page)))
        next_question(page, *keys, "Enter")
    press(page, "r")
    page.keyboard.type("because it is short")
    press(page, "Tab", "Enter")
    said.append((asked(page), shown(page)))
    next_question(page, "ArrowLeft", "Enter")
    press(page, "s")
    press(page, "Enter")
    expect(page.locator("#asked")).to_have_count(0)
    all_sent(page)
    votes, words = live(site.store), texts(site.store)
    got = [vote.payload for vote in votes]
    winners = [words[one["winner"]] if one.get("winner") else one.get("verdict") for one in got[:7]]
    expected = [said[0][1][0], said[1][1][1], said[2][1][1], "tie", "both_bad", said[5][1][1], said[6][1][0]]
    assert winners == expected
    assert [one["strength"] for one in got[:3]] == [0, 0, 1]
    assert got[6]["rationale"] == "because it is short"
    assert got[7] == {"type": "skip", "reason": "I cannot tell"}
    for vote, (_, order) in zip(votes, said, strict=False):
        assert [words[key] for key in vote.shown] == order, "the order shown is the order recorded"
        assert 0 <= vote.active_ms <= vote.wall_ms


def test_rankings_by_keyboard_alone(site: Site) -> None:
    ask(site.store, 20, k=4, kind="ranking")
    page = site.visit(site.account("ada"))
    begin(site, page)
    a, b, c, d = shown(page)
    press(page, "Enter")
    expect(page.locator("#verdict")).to_contain_text("as it was shown")
    page.locator(".answer").first.focus()
    press(page, "Alt+ArrowDown")  # b a c d
    expect(page.locator("#verdict")).to_have_text("Answer A is number 2 of 4")
    press(page, "ArrowDown", "ArrowDown", "1")  # d b a c
    press(page, "ArrowDown", "t")  # d=b a c
    press(page, "ArrowDown", "ArrowDown", "b")  # c will not do
    assert shown(page) == [d, b, a, c]
    next_question(page, "Enter")
    all_sent(page)
    (vote,), words = live(site.store), texts(site.store)
    assert [[words[key] for key in tier] for tier in vote.payload["tiers"]] == [[d, b], [a], [c]]
    assert [words[key] for key in vote.payload["unacceptable"]] == [c]


def test_ratings_by_keyboard_alone(site: Site) -> None:
    rubric = {"question": "How good is each?", "dimensions": ["helpful", "honest"]}
    ask(site.store, 20, kind="rating", rubric=rubric)
    page = site.visit(site.account("ada"))
    begin(site, page)
    expect(page.locator(".ask")).to_have_text("How good is each?")
    first, second = shown(page)
    press(page, "7", "Enter")
    expect(page.locator("#verdict")).to_contain_text("Not yet said: honest of answer A")
    next_question(page, "6", "2", "1", "Enter")
    all_sent(page)
    (vote,), words = live(site.store), texts(site.store)
    scores = {words[key]: given for key, given in vote.payload["scores"].items()}
    assert scores == {first: {"helpful": 7, "honest": 6}, second: {"helpful": 2, "honest": 1}}


def test_a_reload_shows_the_same_question_in_the_same_order(site: Site) -> None:
    ask(site.store, 30)
    page = site.visit(site.account("ada"))
    begin(site, page)
    next_question(page, "ArrowLeft", "Enter")
    all_sent(page)
    before = {asked(page): shown(page)}
    for _ in range(3):
        next_question(page, "ArrowLeft", "Enter")
        before[asked(page)] = shown(page)
    page.reload()
    expect(page.locator(".answer").first).to_be_visible()
    assert before.get(asked(page), shown(page)) == shown(page)


def test_ten_answers_given_without_a_network_arrive_exactly_once(site: Site) -> None:
    """The connection is gone for half a minute; the page is even closed and opened again meanwhile."""
    ask(site.store, 300)
    page = site.visit(site.account("ada"))
    begin(site, page)
    expect(page.locator("#count")).to_contain_text("0 by you")
    page.context.set_offline(True)
    cut, order = time.monotonic(), []
    for number in range(10):
        order.append(asked(page))
        press(page, "ArrowLeft" if number % 2 else "ArrowRight", "Enter", "Enter")  # some press it twice
        expect(page.locator("#unsent")).to_have_text(f"{number + 1} unsent")
    assert live(site.store) == []
    page.wait_for_timeout(1000 * max(0.0, 30 - (time.monotonic() - cut)))
    assert live(site.store) == []
    page.context.set_offline(False)
    expect(page.locator("#unsent")).to_be_empty(timeout=30_000)
    votes = live(site.store)
    assert len(votes) == 10
    with site.store.reading() as connection:
        items = select(schema.task.c.id, schema.item.c.messages).join(schema.item)
        prompts = {row.id: row.messages[0]["content"] for row in connection.execute(items)}
    assert Counter(prompts[vote.task] for vote in votes) == Counter(order)
    assert site.store.counts()["votes"] == 10


def test_votes_wait_through_a_reload(site: Site) -> None:
    ask(site.store, 100)
    page = site.visit(site.account("ada"))
    begin(site, page)
    page.route("**/api/votes", lambda route: route.abort())
    for number in range(3):
        press(page, "ArrowLeft", "Enter")
        expect(page.locator("#unsent")).to_have_text(f"{number + 1} unsent")
    answered = 3
    page.reload()
    expect(page.locator("#unsent")).to_have_text("3 unsent")
    page.unroute("**/api/votes")
    expect(page.locator("#unsent")).to_be_empty(timeout=30_000)
    assert len(live(site.store)) == answered


def test_an_answer_can_be_taken_back_before_and_after_it_was_sent(site: Site) -> None:
    ask(site.store, 100)
    page = site.visit(site.account("ada"))
    begin(site, page)
    first = asked(page)
    next_question(page, "ArrowLeft", "Enter")
    all_sent(page)
    second = asked(page)
    press(page, "u")
    expect(page.locator(".turn .text").last).to_have_text(first)
    assert live(site.store) == []
    next_question(page, "=", "Enter")
    assert asked(page) == second
    all_sent(page)
    page.context.set_offline(True)
    next_question(page, "ArrowRight", "Enter")
    expect(page.locator("#unsent")).to_have_text("1 unsent")
    press(page, "u")
    expect(page.locator(".turn .text").last).to_have_text(second)
    all_sent(page)
    page.context.set_offline(False)
    (vote,) = live(site.store)
    assert vote.payload["verdict"] == "tie"
    assert site.store.counts()["votes"] == 3, (
        "nothing is ever removed: the vote, its retraction, the second vote"
    )


def test_taking_back_a_vote_whose_receipt_was_lost_leaves_one_vote(site: Site) -> None:
    """The server has kept it, but its answer never came: undo must not leave it standing."""
    ask(site.store, 100)
    page = site.visit(site.account("ada"))
    begin(site, page)
    first = asked(page)

    def lose(route: Any) -> None:
        route.fetch()
        route.abort()

    page.route("**/api/votes", lose)
    next_question(page, "ArrowLeft", "Enter")
    expect(page.locator("#unsent")).to_have_text("1 unsent")
    for _ in range(100):
        if live(site.store):
            break
        page.wait_for_timeout(50)
    page.wait_for_timeout(200)
    press(page, "u")
    expect(page.locator("#verdict")).to_contain_text("cannot be reached")
    page.unroute("**/api/votes")
    press(page, "u", "u")
    expect(page.locator(".turn .text").last).to_have_text(first)
    assert live(site.store) == []
    next_question(page, "=", "Enter")
    all_sent(page)
    (vote,) = live(site.store)
    assert vote.payload["verdict"] == "tie"


def test_two_tabs_of_one_labeler_lose_nothing(site: Site) -> None:
    ask(site.store, 200)
    ada = site.account("ada")
    page = site.visit(ada)
    begin(site, page)
    other = page.context.new_page()
    begin(site, other)
    page.context.set_offline(True)
    first = asked(page)
    press(page, "ArrowLeft", "Enter")
    expect(page.locator("#unsent")).to_have_text("1 unsent")
    page.context.set_offline(False)
    all_sent(page)
    for _ in range(100):
        if live(site.store):
            break
        page.wait_for_timeout(50)
    press(page, "u")
    expect(page.locator(".turn .text").last).to_have_text(first)
    next_question(page, "ArrowRight", "Enter")
    all_sent(page)
    assert len(live(site.store)) == 1


def test_what_the_server_refuses_is_shown_and_kept(site: Site) -> None:
    ask(site.store, 30)
    page = site.visit(site.account("ada"))
    begin(site, page)
    with site.store.writing() as connection:
        connection.execute(schema.lease.delete())
    press(page, "ArrowLeft", "Enter")
    expect(page.locator("#unsent")).to_contain_text("1 refused")
    page.locator("#unsent button").click()
    expect(page.locator("dialog")).to_contain_text("a vote without a lease")
    expect(page.locator("dialog")).to_contain_text("prefer")


def test_two_labelers_share_the_work(site: Site) -> None:
    """Nobody is asked what the other one has answered, and neither sees the other's vote."""
    ask(site.store, 24)
    pages = [site.visit(site.account(name)) for name in ("ada", "bob")]
    for page in pages:
        begin(site, page)
    finished = [False, False]
    for turn in range(80):
        page = pages[turn % 2]
        if finished[turn % 2] or page.get_by_text("Nothing left to compare").count():
            finished[turn % 2] = True
            if all(finished):
                break
            continue
        if page.locator(".answer").count():
            press(page, "ArrowLeft", "Enter")
        page.wait_for_timeout(60)
    for page in pages:
        all_sent(page)
    votes = live(site.store)
    assert len(votes) == 24
    assert max(Counter(vote.task for vote in votes).values()) == 1
    assert len({vote.labeler for vote in votes}) == 2


def test_the_first_minute(site: Site) -> None:
    """Instructions, three exercises that say why, then work; another time straight to work."""
    ask(site.store, 30)
    ada = site.account("ada", practised=False)
    page = site.visit(ada)
    page.goto(f"/label/{DEFAULT_PROJECT}")
    expect(page.locator("h1")).to_have_text("Before you begin")
    page.locator("#begin").focus()
    press(page, "Enter")
    for _ in range(3):
        expect(page.locator(".bar")).to_be_visible()
        press(page, "ArrowLeft", "Enter")
        expect(page.locator(".lesson p")).not_to_be_empty()
        press(page, "Enter")
    expect(page.locator("#count")).to_contain_text("of 30 answered")
    assert asked(page).startswith("question")
    page.goto(f"/label/{DEFAULT_PROJECT}")
    expect(page.locator("#count")).to_contain_text("of 30 answered")


def test_keys_can_be_changed_and_are_remembered(site: Site) -> None:
    ask(site.store, 30)
    page = site.visit(site.account("ada"))
    begin(site, page)
    press(page, "?")
    page.locator("#key-tie").fill("z")
    page.locator("#key-skip").fill("")
    page.locator("dialog button", has_text="Keep").click()
    expect(page.locator("dialog")).to_have_count(0)
    next_question(page, "z", "Enter")
    press(page, "s")
    expect(page.locator("#asked")).to_have_count(0)
    page.reload()
    expect(page.locator(".answer").first).to_be_visible()
    next_question(page, "z", "Enter")
    all_sent(page)
    assert [vote.payload["verdict"] for vote in live(site.store)] == ["tie", "tie"]


def test_a_phone(site: Site) -> None:
    """320 px: nothing to scroll sideways, answers below each other in the recorded order, targets large enough."""
    ask(site.store, 20, k=3, kind="ranking")
    page = site.visit(site.account("ada"), viewport={"width": 320, "height": 640}, has_touch=True)
    begin(site, page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
    tops = [box["y"] for box in (one.bounding_box() for one in page.locator(".answer").all()) if box]
    assert tops == sorted(tops)
    for one in page.locator("button:visible").all():
        box = one.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24
    page.locator(".answer button", has_text="↓").first.tap()
    before = asked(page)
    page.locator(".bar button", has_text="Hand in").tap()
    expect(page.locator(".turn .text").last).not_to_have_text(before)
    all_sent(page)
    assert len(live(site.store)) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_barrier_that_axe_knows(site: Site, scheme: Any) -> None:
    ask(site.store, 30)
    ask(site.store, 3, k=4, kind="ranking", project=site.store.add_project("Rankings", "evaluation"))
    ask(site.store, 3, kind="rating", project=site.store.add_project("Ratings", "evaluation"))
    ask(site.store, 3, k=1, kind="edit", project=site.store.add_project("Edits", "evaluation"))
    own = site.store.add_project("Answers", "evaluation")
    site.store.create_demonstration_tasks([Prompt.user("question")], project=own)
    owner = site.account("owner", "admin")
    page = site.visit(owner, color_scheme=scheme)
    assert not violations(page, "/")
    for project in ("Rankings", "Ratings", "Edits"):
        key = site.store.add_project(project, "evaluation")
        assert not violations(page, f"/label/{key}", ".answer")
    assert not violations(page, f"/label/{own}", ".writing")
    assert not violations(page, f"/label/{DEFAULT_PROJECT}", ".answer")
    press(page, "d", "ArrowLeft")
    assert not violations(page)
    press(page, "Escape", "?")
    assert not violations(page)
    press(page, "Escape", "s")
    assert not violations(page)
    press(page, "Escape", "ArrowLeft")
    assert not violations(page)
    press(page, "Enter")
    for path in (f"/progress/{DEFAULT_PROJECT}", "/people", "/welcome", "/nowhere/at/all"):
        assert not violations(page, path)
    assert not violations(page, "/practice", ".answer")
    press(page, "ArrowLeft", "Enter")
    expect(page.locator(".lesson")).to_be_visible()
    assert not violations(page)
    stranger = site.visit(None, color_scheme=scheme)
    assert not violations(stranger, "/login")
    assert not violations(stranger, "/invitation?token=x")


def violations(page: Page, path: str = "", wait_for: str = "h1") -> list[str]:
    """What axe-core finds on a page as it is, or after going there."""
    if path:
        page.goto(path)
        expect(page.locator(wait_for).first).to_be_attached()
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:120]}" for one in found for node in one["nodes"]]


def test_no_text_runs_loads_or_breaks_anything(site: Site) -> None:
    """Through prompts, answers, rubrics, names and reasons; the fixture sees dialogs, requests and policy reports."""
    assert len(ATTACKS) >= 60
    store = site.store
    prompts = [
        Prompt((Message("system", text), Message("user", text)), family=text, where=text) for text in ATTACKS
    ]
    sampled = [
        (p, Completion(f"{t}\n\n{j}"), PRODUCER, True)
        for p, t in zip(prompts, ATTACKS, strict=True)
        for j in (0, 1)
    ]
    ids = store.add_completions(sampled)
    project = store.add_project(ATTACKS[0] + ATTACKS[2], "evaluation")
    for number, text in enumerate(ATTACKS):
        rubric = {
            "question": text,
            "dimensions": [text[:40]],
            "meanings": {text[:40]: text},
            "asked": "always",
        }
        group = ids[2 * number : 2 * number + 2]
        if number % 2:  # an answer to be edited stands on the page as text too
            store.create_tasks("edit", [group[:1]], project=project, rubric=rubric)
        else:
            store.create_tasks("pairwise", [group], project=project, rubric=rubric)
    names = [ATTACKS[0], ATTACKS[2], ATTACKS[61][:80]]
    for name in names:
        site.account(name)
    page = site.visit(site.account("owner", "admin"))
    page.goto("/")
    page.goto(f"/label/{project}")
    expect(page.locator(".answer").first).to_be_visible()
    for number in range(len(ATTACKS)):
        assert (
            page.locator("main script, main iframe, main object, main embed, main style, main img").count()
            == 0
        )
        expect(page.locator(".answers")).to_be_visible()
        page.evaluate("document.querySelector('.answers').dataset.old = 'yes'")
        press(page, "f")
        page.keyboard.insert_text(ATTACKS[number])
        press(page, "Enter")
        expect(page.locator("[data-old]")).to_have_count(0)
    all_sent(page)
    assert len(live(store)) == len(ATTACKS)
    for path in (
        f"/progress/{project}",
        "/people",
        "/",
        f"/label/{ATTACKS[0]}",
        f"/enter?token={ATTACKS[0]}",
    ):
        page.goto(path)
    stranger = site.visit(None)
    stranger.goto("/invitation?token=" + "%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert page.url.startswith(site.url)


def test_a_lead_decides_what_labelers_could_not_agree_on(site: Site) -> None:
    ask(site.store, 2, need=2, policy={"most": 2})
    for name, key in (("ada", "answer 0"), ("bob", "answer 1")):
        page = site.visit(site.account(name))
        begin(site, page)
        for _ in range(2):
            expect(page.locator(".answer").first).to_be_visible()
            press(page, "ArrowLeft" if shown(page)[0].startswith(key) else "ArrowRight", "Enter")
            page.wait_for_timeout(200)
        all_sent(page)
    lead = site.visit(site.account("lead", "lead"))
    lead.goto(f"/progress/{DEFAULT_PROJECT}")
    lead.locator("text=2 disputed").click()
    first = lead.locator(".dispute").first
    expect(first.locator("li")).to_have_text(["ada: A is better", "bob: B is better"])
    assert not violations(lead)
    first.locator(".reason").fill("it says more")
    first.locator("button", has_text="Better").nth(1).click()
    expect(first.locator("[role=status]")).to_have_text("Decided: Answer B is better")
    lead.reload()
    expect(lead.locator(".dispute")).to_have_count(1)
    lead.locator("button", has_text="Neither").click()
    expect(lead.locator("[role=status]")).to_have_text("Decided: neither will do")
    assert [pair.chosen.text[:8] for pair in preferences(site.store)] == ["answer 1"]


def test_accounts_by_invitation(site: Site) -> None:
    """The owner makes a link; it works once; a wrong password does not; a labeler sees no page of a lead."""
    ask(site.store, 5)
    page = site.visit(None)
    page.goto("/enter?token=wrong")
    expect(page.locator("main")).to_contain_text("not the one printed")
    page.goto("/enter?token=the token of the test")
    page.goto("/people")
    page.locator("#name").fill("Zoë <b>")
    page.locator("form#invitation button").click()
    expect(page.locator("#link input")).to_have_value(re.compile(r"/invitation\?token="))
    link = page.locator("#link input").input_value()
    guest = site.visit(None)
    guest.goto(link)
    guest.locator("#password").fill("short")
    guest.evaluate("document.querySelector('form[action$=invitation]').noValidate = true")
    guest.locator("main button").click()
    expect(guest.locator("[role=alert]")).to_contain_text("too short")
    guest.locator("#password").fill("a long enough password")
    guest.locator("main button").click()
    expect(guest.locator("h1")).to_have_text("What is asked")
    guest.goto(f"/progress/{DEFAULT_PROJECT}")
    expect(guest.locator("main")).to_contain_text("needs the role lead")
    guest.goto("/")
    guest.locator("text=Log out").click()
    guest.goto(link)
    guest.locator("#password").fill("another long password")
    guest.locator("main button").click()
    expect(guest.locator("[role=alert]")).to_contain_text("has been used")
    guest.goto("/login")
    for password, arrives in (("wrong password", False), ("a long enough password", True)):
        guest.locator("#name").fill("Zoë <b>")
        guest.locator("#password").fill(password)
        guest.locator("main button").click()
        expect(guest.locator("h1")).to_have_text("What is asked" if arrives else "Log in")

    assert {row.name for row in accounts(site.store)} >= {"owner", "Zoë <b>"}
