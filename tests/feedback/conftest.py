"""Stores on both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from servers import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new store can be made, on each engine."""
    if request.param == "sqlite":
        return str(tmp_path / "feedback.sqlite")
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()
