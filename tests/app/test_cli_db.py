"""The command that keeps feedback stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from concordant.feedback.store import Store
from tiny_run import concordant


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_backup_copy_and_upgrade_of_a_run(finished: Path, tmp_path: Path) -> None:
    done = concordant("db", "backup", finished, "kept.sqlite")
    assert done.status == 0, done.err
    done = concordant("db", "copy", "kept.sqlite", "copied.sqlite")
    assert done.status == 0, done.err
    assert "vote: 48" in done.out
    assert "the same on both sides" in done.out
    with Store.open(tmp_path / "copied.sqlite") as store:
        assert store.counts()["votes"] == 48
    assert "nothing to do" in concordant("db", "upgrade", "copied.sqlite").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("copy", "kept.sqlite"), "needs a place to go to"),
        (("backup", "none.sqlite"), "no such store"),
        (("upgrade", "none"), "no such store"),
        (("upgrade", "mysql://user:secret@host/db"), "cannot live here"),
    ],
)
def test_mistakes_are_one_message(words: tuple[str, ...], said: str) -> None:
    done = concordant("db", *words)
    assert done.status == 2
    assert said in done.err
    assert "secret" not in done.err
    assert "Traceback" not in done.err
