"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from concordant.errors import UserError


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full, broken or read-only disk into one clear message that names `path`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = _errno(error)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                "the disk is full",
                where=str(path),
                expected="room for the next file; what was complete before is untouched",
                fix="free some space and run the same command again: it goes on from the last checkpoint",
            ) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(
                "cannot write here",
                where=str(path),
                expected="a folder this user may write to",
                fix="choose another place with --runs FOLDER",
            ) from error
        if number == errno.EIO:
            raise UserError(
                "the disk does not take what is written",
                where=str(path),
                expected="a disk that works and has room; what was complete before is untouched",
                fix="free some space, check the disk, and run the same command again",
            ) from error
        raise


def _errno(error: Exception) -> int | None:
    """The system's number for an error; safetensors, tokenizers, shutil and SQLite only tell it in their text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if "disk I/O error" in str(error):
        return errno.EIO  # SQLite, on a disk too full for its shared memory
    if "database or disk is full" in str(error):
        return errno.ENOSPC
    told = re.search(r"(?:os error |\[Errno )(\d+)", str(error))
    return int(told[1]) if told else None


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def fresh_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; the file becomes `path` when the block ends without an error, atomically."""
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            sync(partial)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)  # half a file would only take up room
            raise
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`, atomically."""
    with fresh_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Replace the file at `path` by `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block ends without an error.

    What stood at `path` before is removed only after the new folder is complete.
    """
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            for file in (*sorted(partial.rglob("*")), partial):
                sync(file)
            settle(path)
            old = _old(path)
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                path.rename(old)
            partial.rename(path)
            sync(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def settle(path: Path) -> None:
    """Bring back the old folder where a crash came between its leaving and the new one's arriving."""
    if not path.exists() and _old(path).is_dir():
        _old(path).rename(path)


def _old(path: Path) -> Path:
    return path.with_name(path.name + ".old")


def remove(path: Path) -> None:
    """Remove a file, or a folder and what is in it, as far as the disk lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of what a file holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
