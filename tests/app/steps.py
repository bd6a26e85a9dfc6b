"""What a labeler does at the page, as tests say it."""

from __future__ import annotations

from typing import Any

from browser import Site
from playwright.sync_api import Page, expect
from sqlalchemy import select

from concordant.data.types import Completion, Prompt
from concordant.feedback.answering.statements import LIVE
from concordant.feedback.database import schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.store import Store

PRODUCER = {"policy": "sft"}


def ask(store: Store, n: int, k: int = 2, kind: str = "pairwise", need: int = 1, **more: Any) -> None:
    """`n` questions with `k` answers: answer j to question i is "answer j of i"."""
    prompts = [Prompt.user(f"question {i}") for i in range(n)]
    sampled = [
        (p, Completion(f"answer {j} of {i}"), PRODUCER, True) for i, p in enumerate(prompts) for j in range(k)
    ]
    ids = store.add_completions(sampled)
    store.create_tasks(kind, [ids[i : i + k] for i in range(0, n * k, k)], need=need, **more)


def live(store: Store) -> list[Any]:
    with store.reading() as connection:
        return list(connection.execute(select(schema.vote).where(LIVE).order_by(schema.vote.c.created)))


def texts(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {row.id: row.text for row in connection.execute(select(schema.completion))}


def begin(site: Site, page: Page) -> None:
    page.goto(f"/label/{DEFAULT_PROJECT}")
    expect(page.locator(".answer").first).to_be_visible()


def shown(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".answer .text").all_inner_texts()]


def asked(page: Page) -> str:
    return page.locator(".turn .text").last.inner_text().strip()


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def next_question(page: Page, *keys: str) -> None:
    """Answer with these keys, and wait until another question is there."""
    before = asked(page)
    press(page, *keys)
    expect(page.locator(".turn .text").last).not_to_have_text(before)


def all_sent(page: Page) -> None:
    expect(page.locator("#unsent")).to_be_empty()
