"""What a lead does with projects, in a real browser: files, settings, known answers, two models, exports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from attacks import ATTACKS
from browser import Site
from playwright.sync_api import Page, expect
from test_label_page import all_sent, ask, asked, begin, live, next_question, press, shown, violations

from concordant.data.types import Message, Prompt
from concordant.feedback.accounts import Account
from concordant.feedback.asking.known import beside, known_answers, make_known
from concordant.feedback.asking.project_settings import configure, read_config
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.projects import project_named, projects
from concordant.feedback.reading.versus import Pair, Side, ask_versus
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, accept, prefer, ranking, rating

SIDES = (Side("sft", "1"), Side("policy", "2"))


def lead_of(site: Site) -> Account:
    return site.account("lead", "lead")


def answer_all(store: Store, name: str, project: str, n: int, word: str) -> None:
    """Somebody answers `n` questions: the answer with this word is better."""
    labeler = store.add_labeler(name, "human")
    for lease in store.lease_many(labeler, n, project=project):
        winner = next(
            (one.id for one in lease.comparison.completions if word in one.text),
            lease.comparison.completions[0].id,
        )
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(winner)))


def contest(store: Store, n: int = 12, same: int = 3) -> str:
    pairs = [Pair(Prompt.user(f"question {i}"), (f"old {i}", f"new {i}")) for i in range(n)]
    pairs += [Pair(Prompt.user(f"easy {i}"), ("yes", "yes")) for i in range(same)]
    return ask_versus(store, SIDES, pairs).project


def test_a_file_is_sent_and_answered(site: Site, tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i}", "completions": ["a", "b"], "mood": 1} for i in range(20)]
    file = tmp_path / "mine.jsonl"
    file.write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"prompt": "no answer"}\n{', encoding="utf-8"
    )
    page = site.visit(lead_of(site))
    page.goto("/")
    page.get_by_text("Ask questions of your own").click()
    page.locator("#file").set_input_files(file)
    page.locator("#project").fill("Mine")
    page.get_by_label("Evaluation").check()
    page.locator("#votes").fill("2")
    page.get_by_role("button", name="Ask").click()
    told = page.locator("#told")
    expect(told).to_contain_text("22 rows read: 20 questions are asked.")
    expect(told).to_contain_text("Columns that are not used: mood")
    expect(told.locator("tbody th")).to_have_text(["mine.jsonl:21", "mine.jsonl:22:2"])
    assert not violations(page)
    page.get_by_role("button", name="Ask").click()
    expect(told).to_contain_text("20 were there before")
    project = project_named(site.store, "Mine")
    assert (project.purpose, read_config(site.store, project.id).votes) == ("evaluation", 2)
    file.write_text("nothing", encoding="utf-8")
    page.locator("#file").set_input_files(file)
    page.get_by_role("button", name="Ask").click()
    expect(told.locator("[role=alert]")).to_contain_text("no question")
    page.goto("/")
    page.locator("section", has_text="Mine").get_by_text("Answer questions").click()
    expect(page.locator(".answer").first).to_be_visible()
    next_question(page, "ArrowLeft", "Enter")
    all_sent(page)
    assert project_named(site.store, "Mine").verdicts == 1


def test_instructions_come_before_the_first_question_and_on_a_key(site: Site) -> None:
    ask(site.store, 30)
    lead = site.visit(lead_of(site))
    lead.goto(f"/settings/{DEFAULT_PROJECT}")
    lead.locator("#instructions").fill("Be *kind*.")
    lead.locator("#votes").fill("2")
    lead.get_by_role("button", name="Keep").click()
    expect(lead.locator("#kept")).to_contain_text("Kept")
    assert read_config(site.store, DEFAULT_PROJECT).votes == 2
    lead.locator("#most_votes").fill("1")
    lead.get_by_role("button", name="Keep").click()
    expect(lead.locator("#kept")).to_contain_text("at most 1 votes")
    page = site.visit(site.account("ada"))
    page.goto(f"/label/{DEFAULT_PROJECT}")
    dialog = page.locator("dialog#instructions")
    expect(dialog.locator("em")).to_have_text("kind")
    assert page.locator(".answer").count() == 0, "nothing to answer before it was read"
    assert not violations(page)
    press(page, "Tab", "Enter")
    expect(page.locator(".answer").first).to_be_visible()
    press(page, "i")
    expect(dialog).to_be_visible()
    press(page, "Escape")
    expect(dialog).to_be_hidden()
    page.locator("#read-instructions").click()
    expect(dialog).to_be_visible()
    press(page, "Enter")
    expect(dialog).to_be_hidden()
    page.locator("#read-instructions").click()
    at_once = "dialog => { dialog.close(); return document.activeElement.id }"
    assert dialog.evaluate(at_once) == "ask", "or a quick Enter would open them again"
    next_question(page, "ArrowLeft", "Enter")
    all_sent(page)
    page.reload()
    expect(page.locator(".answer").first).to_be_visible()
    expect(dialog).to_be_hidden()
    configure(site.store, DEFAULT_PROJECT, {"instructions": "Be honest."})
    page.reload()
    expect(dialog).to_contain_text("Be honest.")


def test_two_models_are_compared_blind_and_the_lead_sees_who_wins(site: Site) -> None:
    project = contest(site.store)
    page = site.visit(site.account("ada"))
    page.goto("/")
    page.get_by_text("Answer questions").click()
    expect(page.locator(".answer").first).to_be_visible()
    for number in range(12):
        assert "sft" not in page.locator("main").inner_html()
        assert "policy" not in page.locator("main").inner_html()
        new = 0 if shown(page)[0].startswith("new") else 1
        answer = "=" if number == 0 else ("ArrowRight" if new else "ArrowLeft")
        if number < 11:
            next_question(page, answer, "Enter")
        else:
            press(page, answer, "Enter")
    all_sent(page)
    expect(page.locator("main")).to_contain_text("Nothing left to compare")
    lead = site.visit(lead_of(site))
    lead.goto("/")
    lead.get_by_text("Result, progress and agreement").click()
    result = lead.locator("#result")
    expect(result.locator("h2")).to_have_text("policy is better")
    expect(result.locator(".lead")).to_contain_text(
        "87 % for policy against sft [62 %, 96 %], n = 15 prompts"
    )
    assert result.locator("dd").all_inner_texts() == ["11", "0", "1", "0", "3", "0"]
    assert lead.goto(f"/progress/{project}") is not None
    assert not violations(lead)


def test_a_known_answer_is_made_met_and_withdrawn(site: Site) -> None:
    ask(site.store, 40)
    answer_all(site.store, "eve", DEFAULT_PROJECT, 2, "answer 0")
    configure(site.store, DEFAULT_PROJECT, {"known_every": 1})
    lead = site.visit(lead_of(site))
    lead.goto(f"/progress/{DEFAULT_PROJECT}")
    lead.get_by_role("link", name="Answers", exact=True).click()
    card = lead.locator(".dispute").first
    expect(card.locator("li")).to_contain_text("eve: ")
    assert not violations(lead)
    card.locator(".reason").fill("It says more.")
    card.locator(".answer", has_text="answer 1").get_by_role("button").click()
    expect(card.locator("[role=status]")).to_have_text("Asked of everybody from now on")
    (known,) = known_answers(site.store, DEFAULT_PROJECT)
    lead.reload()
    expect(card).to_contain_text("This answer is known already")
    page = site.visit(site.account("ada"))
    begin(site, page)
    question = known.question.prompt.text
    if asked(page) != question:
        press(page, "s", "Enter")
    expect(page.locator(".turn .text").last).to_have_text(question)
    next_question(page, "ArrowLeft" if shown(page)[0].startswith("answer 1") else "ArrowRight", "Enter")
    expect(page.locator("#count")).to_contain_text("1 by you")
    all_sent(page)
    press(page, "u")
    expect(page.locator(".turn .text").last).to_have_text(question)
    next_question(page, "ArrowLeft" if shown(page)[0].startswith("answer 1") else "ArrowRight", "Enter")
    all_sent(page)
    lead.goto(f"/known/{DEFAULT_PROJECT}")
    expect(lead.locator("main")).to_contain_text("It says more.")
    expect(lead.locator("li", has_text="ada")).to_contain_text("as known")
    expect(lead.locator(".card")).to_contain_text("100 % [21 %, 100 %], n = 1 gave the known answer.")
    assert not violations(lead)
    lead.get_by_role("button", name="Withdraw").click()
    expect(lead.locator("[role=status]")).to_contain_text("Withdrawn")
    lead.reload()
    expect(lead.locator("main")).to_contain_text("No answer is known yet")
    assert len(live(site.store)) == 3


def test_a_dispute_becomes_a_known_answer(site: Site) -> None:
    ask(site.store, 1, need=2, policy={"most": 2})
    answer_all(site.store, "ada", DEFAULT_PROJECT, 1, "answer 0")
    answer_all(site.store, "bob", DEFAULT_PROJECT, 1, "answer 1")
    lead = site.visit(lead_of(site))
    lead.goto("/")
    lead.get_by_role("link", name="Disputed").click()
    lead.get_by_label("Ask it of everybody else too").check()
    lead.locator(".answer", has_text="answer 1").get_by_role("button").click()
    expect(lead.locator("[role=status]")).to_have_text(
        re.compile("Decided: Answer [AB] is better, asked of everybody")
    )
    (known,) = known_answers(site.store, DEFAULT_PROJECT)
    assert next(one.text for one in known.question.completions if one.id == known.better).startswith(
        "answer 1"
    )
    assert projects(site.store)[0].disputed == 0


def test_votes_are_downloaded(site: Site) -> None:
    ask(site.store, 3)
    lead = site.visit(lead_of(site))
    lead.goto(f"/settings/{DEFAULT_PROJECT}")
    expect(lead.locator("main")).to_contain_text("Nobody has answered yet.")
    answer_all(site.store, "ada", DEFAULT_PROJECT, 3, "answer 1")
    lead.reload()
    for name, n in (("preferences.jsonl", 3), ("kto.jsonl", 6), ("sft.jsonl", 3), ("votes.jsonl", 3)):
        with lead.expect_download() as waiting:
            lead.get_by_role("link", name=name).click()
        found = Path(waiting.value.path()).read_text(encoding="utf-8").splitlines()
        assert waiting.value.suggested_filename == f"default-{name}"
        assert len([json.loads(line) for line in found]) == n
    with lead.expect_download() as waiting:
        lead.get_by_role("link", name="labelers.csv").click()
    assert "ada,human,3" in Path(waiting.value.path()).read_text(encoding="utf-8")


def lead_pages(project: str) -> list[str]:
    return [
        "/",
        "/ask",
        *(f"/{name}/{project}" for name in ("settings", "known", "answered", "progress", "disputes")),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_of_a_lead_has_a_barrier_that_axe_knows(site: Site, scheme: Any) -> None:
    project = full(site.store)
    page = site.visit(lead_of(site), color_scheme=scheme)
    for path in lead_pages(project):
        assert not violations(page, path), path


def test_pages_of_a_lead_on_a_phone(site: Site) -> None:
    project = full(site.store)
    page = site.visit(lead_of(site), viewport={"width": 320, "height": 640}, has_touch=True)
    for path in lead_pages(project):
        page.goto(path)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 320, path
        for one in page.locator("button:visible, select:visible, input:visible").all():
            box = one.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 19, path


def full(store: Store) -> str:
    """A comparison of two models with a dispute, a known answer and instructions."""
    project = contest(store)
    configure(store, project, {"votes": 2, "most_votes": 2, "instructions": "Be kind."})
    answer_all(store, "ada", project, 6, "new")
    answer_all(store, "bob", project, 3, "old")
    lead = store.add_labeler("lead", "human")
    task = half_answered(store, project)[0]
    ((_, completions),) = store.comparisons([task])
    make_known(store, task, lead, prefer(completions[0].id), "so it is")
    answer_all(store, "bob", beside(project), 1, "new")
    return project


def test_no_text_runs_loads_or_breaks_anything_of_a_lead(site: Site, tmp_path: Path) -> None:
    """Through prompts, answers, names, instructions, explanations, columns and problems of a file."""
    store = site.store
    prompts = [Prompt((Message("system", text), Message("user", text)), family=text) for text in ATTACKS]
    pairs = [Pair(p, (f"old {t}", f"new {t}")) for p, t in zip(prompts, ATTACKS, strict=True)]
    project = ask_versus(store, (Side(ATTACKS[0], "1"), Side(ATTACKS[61], "2")), pairs).project
    configure(store, project, {"votes": 2, "most_votes": 2, "instructions": "\n\n".join(ATTACKS)[:20_000]})
    answer_all(store, ATTACKS[2], project, len(ATTACKS), "new")
    answer_all(store, ATTACKS[61], project, len(ATTACKS) - 40, "old")
    lead = store.add_labeler(ATTACKS[5], "human")
    for why, task in zip(ATTACKS, half_answered(store, project), strict=False):
        ((_, completions),) = store.comparisons([task])
        make_known(store, task, lead, prefer(completions[0].id), why)
    assert len(known_answers(store, project)) == 40
    page = site.visit(lead_of(site))
    for path in (*lead_pages(project), f"/answered/{project}?after=20", f"/known/{project}?after=20"):
        page.goto(path)
        forbidden = "main script, main iframe, main object, main embed, main style, main img"
        assert page.locator(forbidden).count() == 0, path
    page.goto(f"/label/{project}")
    expect(page.locator("dialog#instructions")).to_be_visible()
    rows = [{"prompt": text, "completions": [text, text], text: text} for text in ATTACKS]
    rows += [{"prompt": text, "completions": ["a", "b"], "better": text} for text in ATTACKS]
    file = tmp_path / "<img src=x onerror=alert(1)>.jsonl"
    rows.append({"prompt": "x", "completions": ["a", "b"]})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page.goto("/ask")
    page.locator("#file").set_input_files(file)
    page.locator("#project").fill(ATTACKS[2][:80])
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#told tbody tr")).to_have_count(100)
    assert page.locator("main img, main script").count() == 0
    page.goto("/")
    expect(page.locator("main h2").last).to_contain_text(ATTACKS[2][:80])


def test_a_lead_reads_what_was_said_of_every_kind(site: Site) -> None:
    said = {
        "pairwise": (2, lambda ids: prefer(ids[0]) | {"rationale": "it is <b>short</b>"}),
        "ranking": (3, lambda ids: ranking([ids[:1], ids[1:]], ids[2:])),
        "rating": (1, lambda ids: rating({ids[0]: {"overall": 3}})),
        "edit": (1, lambda ids: accept(ids[0])),
    }
    for kind, (k, _) in said.items():
        ask(site.store, 1, k=k, kind=kind)
    labeler = site.store.add_labeler("ada", "human")
    for lease in site.store.lease_many(labeler, 10, project=DEFAULT_PROJECT):
        one = lease.comparison
        ids = [each.id for each in one.completions]
        site.store.submit(lease.token, lease.token, Vote(one.task_id, said[one.kind][1](ids)))
    page = site.visit(lead_of(site))
    page.goto(f"/answered/{DEFAULT_PROJECT}")
    words = "\n".join(page.locator(".dispute li").all_inner_texts())
    assert "is better (“it is <b>short</b>”)" in words
    assert "; will not do: " in words
    assert "A: overall 3" in words
    assert "good as it is" in words


def half_answered(store: Store, project: str) -> list[str]:
    """Tasks of a project that have an answer and want another."""
    return [one.task_id for one in store.unfinished(project) if one.answered_by]


def test_a_lead_reads_answers_page_by_page(site: Site) -> None:
    ask(site.store, 45)
    answer_all(site.store, "ada", DEFAULT_PROJECT, 45, "answer 0")
    page = site.visit(lead_of(site))
    page.goto(f"/answered/{DEFAULT_PROJECT}")
    seen = []
    for n in (20, 20, 5):
        expect(page.locator(".dispute")).to_have_count(n)
        seen += page.locator(".turn .text").all_inner_texts()
        if n == 20:
            following(page, "Older ones")
    assert len(set(seen)) == 45
    following(page, "Newer ones")
    assert page.locator(".turn .text").all_inner_texts() == seen[20:40]


def following(page: Page, words: str) -> None:
    page.get_by_text(words).click()
    page.wait_for_load_state()
