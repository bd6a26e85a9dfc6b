"""A real browser and a real server for tests of pages."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from concordant.app.label.server import create_app
from concordant.app.web.server import free_port
from concordant.feedback.accounts import Account, add_account, open_session, save_settings
from concordant.feedback.store import Store

# No sandbox, as tests may run as root; and nothing that looks for updates or servers elsewhere.
_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
ARGUMENTS = _FLAGS.split()

WATCH = """
addEventListener('securitypolicyviolation', (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`))
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; the test is skipped where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: install Debian's package chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Site:
    """A running server, and visitors who have come in."""

    store: Store
    url: str
    browser: Browser
    problems: list[str] = field(default_factory=list)  # what no page may ever do
    contexts: list[BrowserContext] = field(default_factory=list)

    def account(self, name: str, role: str = "labeler", *, practised: bool = True) -> Account:
        account = add_account(self.store, name, role)
        save_settings(self.store, account, {"practised": practised})
        return account

    def visit(self, account: Account | None, **options: Any) -> Page:
        """A page of somebody who is logged in; what it must not do is written down."""
        context = self.browser.new_context(base_url=self.url, **options)
        self.contexts.append(context)
        if account is not None:
            token = open_session(self.store, account)
            context.add_cookies([{"name": "concordant", "value": token, "url": self.url}])
        context.add_init_script(WATCH)
        page = context.new_page()
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", lambda said: self._said(said))
        page.on("request", lambda asked: self._asked(asked.url))
        return page

    def _dialog(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":
            self.problems.append(f"dialog: {dialog.message}")
        dialog.accept()

    def _said(self, said: Any) -> None:
        if "CSP" in said.text or "Content Security Policy" in said.text:
            self.problems.append(said.text)

    def _asked(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "about:", "blob:")):
            self.problems.append(f"request: {url}")


@contextmanager
def serving(store: Store, browser: Browser, app: FastAPI | None = None) -> Iterator[Site]:
    """The labeling server, or another application, on a free port of this machine."""
    port = free_port("127.0.0.1")
    owner = add_account(store, "owner", "admin")
    app = app or create_app(store, owner=owner, owner_token="the token of the test")
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, loop="asyncio", http="h11", log_level="warning")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    site = Site(store, f"http://127.0.0.1:{port}", browser)
    try:
        yield site
    finally:
        for context in site.contexts:
            context.close()
        server.should_exit = True
        thread.join(10)
