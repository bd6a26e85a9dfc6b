"""A plugin that sees which messages for people the tests provoke, and fails a whole run that leaves one out.

The places are those of `sites.py`. What a process of its own says is not seen: every message has a test in this one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from fastapi import HTTPException

from concordant.errors import UserError
from sites import PACKAGE, Site, makers, sites

PREFIX = f"{PACKAGE}/"
NARROWED = ("keyword", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")  # options

Line = tuple[str, int]  # of a file


class Provoked:
    """Remembers the line of every message made; a worker of pytest-xdist hands its lines to the controller."""

    def __init__(self) -> None:
        self.lines: set[Line] = set()
        self.missing: list[Site] = []

    def watch(self) -> Provoked:
        """Be told of every message from now on."""
        for kind in (UserError, HTTPException):
            kind.__init__ = self._noting(kind.__init__)  # type: ignore[method-assign]
        return self

    def _noting(self, construct: Callable[..., None]) -> Callable[..., None]:
        def noted(error: Exception, *values: Any, **named: Any) -> None:
            line = line_of(sys._getframe(1))
            self.lines |= {line} if line else set()
            construct(error, *values, **named)

        return noted

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.lines |= set(map(tuple, getattr(node, "workeroutput", {}).get("provoked", ())))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["provoked"] = sorted(self.lines)
        elif exitstatus == pytest.ExitCode.OK and is_whole(session.config):
            self.missing = unprovoked(self.lines)
            if self.missing:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.missing:
            terminalreporter.section(f"{len(self.missing)} messages that no test provokes", red=True)
            for site in self.missing:
                terminalreporter.line(str(site))


def line_of(caller: FrameType) -> Line | None:
    """Where a message is made: the line that calls its maker, if a function of the package makes it for others."""
    file = caller.f_code.co_filename
    if not file.startswith(PREFIX):
        return None
    file = file.removeprefix(PREFIX)
    if any(one.first <= caller.f_lineno <= one.last for one in makers(file)) and caller.f_back:
        return line_of(caller.f_back)
    return file, caller.f_lineno


def is_whole(config: pytest.Config) -> bool:
    """Whether the whole suite is run: no path, name or mark was given to choose from it."""
    chosen = any(config.getoption(name, None) for name in NARROWED) or "-m" in config.invocation_params.args
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not chosen


def unprovoked(lines: set[Line]) -> list[Site]:
    """The sites that stand on none of these lines."""
    seen: dict[str, set[int]] = {}
    for file, line in lines:
        seen.setdefault(file, set()).add(line)
    return [one for one in sites() if not seen.get(one.file, set()) & set(range(one.first, one.last + 1))]
