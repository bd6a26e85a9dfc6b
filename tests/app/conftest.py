"""One browser for all tests of pages; for each a server of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Site, chromium, serving
from playwright.sync_api import Browser

from concordant.feedback.store import Store


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, browser: Browser) -> Iterator[Site]:
    with Store.open(tmp_path / "feedback.sqlite") as store, serving(store, browser) as running:
        yield running
        assert running.problems == []
