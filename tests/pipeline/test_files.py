"""Files and folders are replaced as a whole or not at all, and the disk's troubles are said in words."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from concordant.errors import UserError
from concordant.files import disk_errors, fresh_folder, settle, sha256_of, write_json, write_text
from concordant.pipeline.folder import StageFolder, read_json, read_jsonl


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_text_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "below" / "a.txt"
    for text in ("first", "zweite Ä\u2028\U0001f600"):
        write_text(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert names(file.parent) == ["a.txt"]


def test_text_that_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "half of a pair: \ud800")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_json_keeps_every_letter(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "Grüße\u2029"]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert read_json(tmp_path / "none.json") is None
    assert read_json(tmp_path / "a.json" / "below.json") is None


def test_a_damaged_file_of_ours_is_named(tmp_path: Path) -> None:
    for text in ("{", "[1]", "", "[" * 4096):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UserError, match="damaged") as caught:
            read_json(tmp_path / "run.json")
        assert caught.value.where == str(tmp_path / "run.json")


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("old", "new"):
        with fresh_folder(target) as fresh:
            (fresh / "sub").mkdir()
            (fresh / "sub" / "weights").write_text(content)
            assert content == "old" or (target / "sub" / "weights").read_text() == "old"
        assert (target / "sub" / "weights").read_text() == content
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_the_old(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "model"
    with fresh_folder(target) as fresh:
        (fresh / "weights").write_text("old")

    def fails() -> None:
        with fresh_folder(target) as fresh:
            (fresh / "weights").write_text("ne")
            raise error

    with pytest.raises(error):
        fails()
    assert (target / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("model.partial", "model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    settle(target)
    assert (target / "weights").read_text() == "model.old"
    with fresh_folder(target) as fresh:
        assert not names(fresh)
        (fresh / "weights").write_text("new")
    assert (target / "weights").read_text() == "new"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "the disk is full",
        ),
        (OSError([("a", "b", "[Errno 28] No space left on device: 'b'")]), "the disk is full"),
        (RuntimeError("(sqlite3.OperationalError) disk I/O error"), "the disk does not take"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot write here"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot write here"),
    ],
)
def test_what_the_disk_says_in_words(tmp_path: Path, error: Exception, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught, disk_errors(tmp_path / "file"):
        raise error
    assert caught.value.where == str(tmp_path / "file")
    assert caught.value.fix


@pytest.mark.parametrize(
    "error", [ValueError("28"), FileNotFoundError(errno.ENOENT, "none"), UserError("mine")]
)
def test_other_errors_pass_unchanged(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


def test_a_disk_that_is_full_in_earnest() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(UserError, match="the disk is full"), disk_errors(full), full.open("w") as file:
        file.write("x" * 10_000)


def test_a_folder_nobody_may_write_to(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot write here"):
            write_text(tmp_path / "a.txt", "text")
    finally:
        tmp_path.chmod(0o700)


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert sha256_of({"a": 1, "b": [2, 3]}) == sha256_of({"b": [2, 3], "a": 1})
    assert sha256_of({"a": 1}) != sha256_of({"a": 2})


# The folder of a stage


def test_rows_with_strange_line_ends_are_read_back(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    texts = ["a\u2028b", "c\u0085d", "e\x0bf\x1cg", "h\r\ni", "\U0001f600"]
    folder.append(folder.samples, [{"step": n, "completion": text} for n, text in enumerate(texts)])
    assert [row["completion"] for row in read_jsonl(folder.samples)] == texts
    folder.cut_steps(2)
    assert [row["completion"] for row in read_jsonl(folder.samples)] == texts[:3]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    folder.append(folder.steps, [{"step": 1}, {"step": 2}])
    with folder.steps.open("ab") as file:
        file.write('{"step": 3, "lo\u00e9'.encode()[:-1])  # in the middle of a character
    assert read_jsonl(folder.steps) == [{"step": 1}, {"step": 2}]
    folder.cut_steps(2)
    folder.append(folder.steps, [{"step": 3}])
    assert [row["step"] for row in read_jsonl(folder.steps)] == [1, 2, 3]
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_a_line_that_is_damaged_is_named_and_not_taken_for_the_last(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    folder.append(folder.steps, [{"step": 1}, {"step": 2}, {"step": 3}])
    content = folder.steps.read_bytes().replace(b'{"step": 2}', b'{"step": \x00}')
    folder.steps.write_bytes(content)
    with pytest.raises(UserError, match="damaged") as caught:
        folder.cut_steps(3)
    assert caught.value.where == f"{folder.steps}:2"
    assert folder.steps.read_bytes() == content


def test_a_stage_is_begun_taken_up_finished_and_begun_anew(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "01-base")
    assert not folder.half_done("a")
    folder.begin("a")
    (folder.path / "state").mkdir()
    assert folder.half_done("a")
    assert not folder.half_done("b")
    folder.begin("a")
    assert folder.checkpoints.is_dir()
    folder.finish("a", {"facts": {}})
    assert not folder.checkpoints.exists()
    assert folder.finished() == {"fingerprint": "a", "facts": {}}
    assert not folder.half_done("a")
    folder.begin("b")
    assert names(folder.path) == ["begun.json"]


def test_a_stage_taken_over_is_as_it_was_and_stays_so_when_one_of_the_two_changes(tmp_path: Path) -> None:
    donor, mine = StageFolder(tmp_path / "a" / "01-base"), StageFolder(tmp_path / "b" / "01-base")
    donor.begin("a")
    donor.append(donor.steps, [{"step": 1}])
    donor.finish("a", {})
    mine.begin("other")
    mine.adopt(donor.path)
    assert mine.finished() == donor.finished()
    mine.begin("new")
    mine.append(mine.steps, [{"step": 7}])
    assert read_jsonl(donor.steps) == [{"step": 1}]
    assert json.loads((donor.path / "stage.json").read_text())["fingerprint"] == "a"


def test_a_crash_while_a_finished_stage_is_cleared_away_leaves_none_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = StageFolder(tmp_path / "01-base")
    stage.begin("old")
    (stage.path / "model").mkdir()
    stage.finish("old", {})

    def dies(path: Path) -> None:
        (path / "model").rmdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", dies)
    with pytest.raises(KeyboardInterrupt):
        stage.begin("new")
    assert stage.finished() is None
