"""Shared fixtures. Tests run on one thread, so that they neither fight each other nor depend on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_configure(config: pytest.Config) -> None:
    from provoked import Provoked

    config.pluginmanager.register(Provoked().watch(), "provoked")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server of this test session; `database()` makes an empty one."""
    from servers import postgres_server

    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run of the tiny recipe, made through the command line. Read it; copy it to change it."""
    from tiny_run import concordant, town_file

    folder = tmp_path_factory.mktemp("finished")
    done = concordant("run", town_file(folder), "--runs", folder / "runs")
    assert done.status == 0, done.err
    (folder / "terminal.txt").write_text(done.out, encoding="utf-8")
    return folder / "runs" / "tiny"


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Transformers folders of tiny random models, by architecture."""
    from tinies import save_models

    return save_models(tmp_path_factory.mktemp("models"))
