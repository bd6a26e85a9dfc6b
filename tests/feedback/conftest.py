"""Stores on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clocks import Clock
from concordant.feedback.store import Store
from servers import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store can be made, on each engine."""
    if request.param == "sqlite":
        return str(tmp_path / "feedback.sqlite")
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(address: str, clock: Clock) -> Iterator[Store]:
    with Store.open(address, clock=clock) as opened:
        yield opened
