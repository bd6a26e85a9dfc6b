"""The messages for people: the page that lists them, what each of them says, and that a test provokes each."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from concordant.errors import UserError
from concordant.feedback.votes import check_payload
from errors_page import REFUSALS, SECTIONS, Words, errors_page
from provoked import Provoked, is_whole, unprovoked
from sites import PACKAGE, makers, sites

EVERY_LINE = {(site.file, site.first) for site in sites()}


def test_the_page_is_what_the_source_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "errors.md"
    assert page.read_text(encoding="utf-8") == errors_page(), "make docs writes it anew"


def test_the_page_says_a_message_as_it_is_read() -> None:
    page = errors_page()
    entry = page[page.index("- **no reader for") :].splitlines()
    assert entry[0] == "- **no reader for (SUFFIX | a file without a suffix)**"
    assert entry[1] == "  - where: SOURCE"
    assert entry[2].startswith("  - expected: .jsonl, .ndjson, ")  # what the code will say, not its names
    assert entry[3] == "  - do: write the rows as JSON lines, one object on each line"
    assert "- **log in first** (401)" in page
    assert (
        "- **the feedback store: … database is locked …**\n  - where: ENGINE\n  - expected: a free turn"
        in page
    )


def test_the_pages_that_refuse_are_there() -> None:
    served = "".join(file.read_text(encoding="utf-8") for file in (PACKAGE / "app").rglob("*.py"))
    for status, said in REFUSALS:
        assert f'"{said}' in served
        assert str(status) in served


def test_every_section_of_the_page_has_messages() -> None:
    for title, places in SECTIONS:
        for place in places:
            assert any(site.file.startswith(place) for site in sites()), (title, place)


@pytest.mark.parametrize("part", ["what", "where", "expected", "fix"])
def test_every_message_says_what_where_what_was_expected_and_what_to_do(part: str) -> None:
    for site in sites():
        if not site.status:
            assert part in site.parts, site
            text = Words(site).of(site.parts[part])
            in_some_cases_only = part != "where" and text.startswith("[") and text.find("]") == len(text) - 1
            assert text.strip(), site
            assert not in_some_cases_only, f"{site}: {text}"


def test_every_construction_is_a_site_or_hands_on_another() -> None:
    """Counted by the eye of a reader: the word, followed by a bracket, wherever it raises or returns."""
    for file in PACKAGE.rglob("*.py"):
        text, name = file.read_text(encoding="utf-8"), str(file.relative_to(PACKAGE))
        made = text.count("UserError(") - text.count("class UserError(") + text.count("HTTPException(")
        handed_on = text.count("UserError(error.what")
        inner = sum(len(maker.parts) > 0 for maker in makers(name))
        calls = sum(text.count(f"{maker.name}(") - 1 for maker in makers(name))
        assert len([site for site in sites() if site.file == name]) == made - handed_on - inner + calls, name


def test_a_message_is_seen_where_it_is_made(request: pytest.FixtureRequest) -> None:
    seen = request.config.pluginmanager.get_plugin("provoked")
    assert seen is not None
    with pytest.raises(UserError, match="a vote that is a list") as caught:
        check_payload([], "pairwise", ("a", "b"), "here")  # type: ignore[arg-type]
    line = caught.traceback[-1].lineno + 1
    assert ("feedback/votes.py", line) in seen.lines


def test_a_message_that_nothing_provokes_is_named() -> None:
    left_out = sites()[7]
    assert unprovoked(EVERY_LINE) == []
    assert unprovoked(EVERY_LINE - {(left_out.file, left_out.first)}) == [left_out]
    assert unprovoked(set()) == list(sites())


def config(*typed: str, of: Any = pytest.Config.ArgsSource.TESTPATHS, **options: Any) -> Any:
    """As much of a pytest.Config as the plugin asks for."""
    return SimpleNamespace(
        args_source=of,
        invocation_params=SimpleNamespace(args=typed),
        getoption=lambda name, default: options.get(name, default),
    )


def test_a_part_of_the_suite_is_not_asked_for_all_messages() -> None:
    assert is_whole(config("-n", "2"))
    assert not is_whole(config("tests/data", of=pytest.Config.ArgsSource.ARGS))
    assert not is_whole(config("-k", "page", keyword="page"))
    assert not is_whole(config("-m", "acceptance"))
    assert not is_whole(config("--ignore", "tests/app", ignore=["tests/app"]))


def test_a_whole_run_takes_together_what_its_workers_saw() -> None:
    lines = sorted(EVERY_LINE)
    worker = SimpleNamespace(config=SimpleNamespace(workeroutput={}))
    one = Provoked()
    one.lines = set(lines[5:])
    one.pytest_sessionfinish(worker, 0)  # type: ignore[arg-type]
    whole = Provoked()
    whole.lines = set(lines[:4])
    whole.pytest_testnodedown(worker.config)
    whole.pytest_testnodedown(SimpleNamespace())  # a worker that died
    session = SimpleNamespace(config=config("-n", "2"), exitstatus=0)
    whole.pytest_sessionfinish(session, 0)  # type: ignore[arg-type]
    assert [(site.file, site.first) for site in whole.missing] == [lines[4]]
    assert session.exitstatus == pytest.ExitCode.TESTS_FAILED
