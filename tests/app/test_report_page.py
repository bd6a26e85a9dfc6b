"""The report in a real browser: it fits, asks for nothing, and its samples can be picked without a script."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import WATCH
from made_runs import full_run

from concordant.app.report.compose import compose
from concordant.app.report.html import page


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(compose(full_run())), encoding="utf-8")
    return path.as_uri()


def opened(browser, address, **options):
    """The page, and what it should not have done."""
    shown, problems = browser.new_page(**options), []
    shown.add_init_script(WATCH)
    shown.on("console", lambda said: problems.append(said.text))
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.on("request", lambda asked: problems.append(asked.url) if asked.url != address else None)
    shown.goto(address)
    return shown, problems


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_asks_for_nothing(browser, address, width, scheme):
    shown, problems = opened(browser, address, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []
    found = Axe().run(shown, options={"runOnly": ["wcag2a", "wcag2aa"]})
    assert found.violations_count == 0, found.generate_report()
    shown.close()


def test_samples_are_picked_by_view_and_by_family(browser, address):
    shown, _ = opened(browser, address)
    assert shown.locator(".view-across").is_visible()
    assert not shown.locator(".view-beyond").is_visible()
    shown.check("#view-beyond", force=True)
    assert shown.locator(".view-beyond").is_visible()
    assert not shown.locator(".view-across").is_visible()
    before = shown.locator(".view-beyond .sample:visible").count()
    shown.check("#family-1", force=True)
    assert 0 < shown.locator(".view-beyond .sample:visible").count() < before
    shown.close()


def test_print_shows_every_sample(browser, address):
    shown, _ = opened(browser, address)
    shown.emulate_media(media="print")
    assert shown.locator(".sample").count() == shown.locator(".sample:visible").count() > 40
    assert not shown.locator(".picks").is_visible()
    shown.close()
