"""Rows out of files, folders and hub data sets, each with the place it came from.

Every reader streams, and a line that cannot be read is reported with file:line:column and its text.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from concordant.data.json_array import BrokenArrayError, elements
from concordant.errors import UserError

Broken = Callable[[UserError], None]

SPLITS = ("train", "training", "test", "validation", "valid", "val", "dev", "eval")
BLOCK = 1 << 20  # bytes of a JSON array that are read at once
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as the source holds it, and where: `file:line`, or `file:row n` where there are no lines."""

    where: str
    value: dict[str, Any]


def read_rows(
    source: str, *, root: Path | None = None, split: str | None = None, on_broken: Broken | None = None
) -> Iterator[RawRow]:
    """Stream the rows of JSONL, JSON, CSV, Parquet, a folder of these, a saved data set or a hub name.

    Of plain text, a file that ends in .txt, what stands between blank lines is a row.

    A relative path is resolved against `root`. `split` chooses one of the splits of a folder or a hub
    data set (without it, `train` or the only one); `owner/name:config` names a configuration. A broken
    line goes to `on_broken`, and reading goes on behind it where the format allows; without `on_broken`
    it is raised.

    Raises UserError where the source is missing, of an unknown kind, or not what its name says.
    """
    report = on_broken or _raise
    path = _local(source, root)
    if path.is_dir():
        return _folder(path, source, split, report)
    if path.is_file():
        if split is not None:
            raise UserError(
                f"a single file has no split {split!r}",
                where=source,
                expected="a folder with one file for each split, or a hub data set",
                fix="name the file of that split and leave `split` out",
            )
        return _reader_of(path, source)(path, source, report)
    if is_hub_name(source, root):
        return _hub(source, split)
    raise _missing(path, source)


def is_hub_name(source: str, root: Path | None = None) -> bool:
    """Whether `source` names a data set of the Hugging Face hub (`owner/name`) rather than a path here."""
    path = _local(source, root)
    if path.exists() or path.parent.is_dir() or _kind(path) in _READERS:
        return False
    return _HUB_NAME.fullmatch(source) is not None


def hub_needs(source: str, root: Path | None = None) -> str | None:
    """What reading `source` would download, in words; None for local data. Asks nobody."""
    if not is_hub_name(source, root):
        return None
    from huggingface_hub import constants

    name, _, config = source.partition(":")
    cache = Path(constants.HF_HUB_CACHE)
    what = f"data set {name}" + (f" (configuration {config})" if config else "")
    if (cache / f"datasets--{name.replace('/', '--')}").is_dir():
        return f"{what}: at least part of it is in the cache at {cache}; what is missing is downloaded"
    return f"{what}: to be downloaded from the Hugging Face hub into {cache}"


def byte_marks(source: str, root: Path | None = None) -> tuple[int, int]:
    """How many byte order marks a text file holds, and how many of its lines end in CR LF."""
    path = _local(source, root)
    if not path.is_file() or _kind(path) not in (".jsonl", ".ndjson", ".json", ".csv", ".tsv"):
        return 0, 0
    marks = returns = 0
    with _open(path) as file:
        for line in file:
            marks += line.count(codecs.BOM_UTF8)
            returns += line.endswith(b"\r\n")
    return marks, returns


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names most like `name`, best first, at most three."""
    return difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)


def _raise(error: UserError) -> None:
    raise error


def _local(source: str, root: Path | None) -> Path:
    path = Path(source).expanduser()
    return path if root is None else root / path


def _missing(path: Path, source: str) -> UserError:
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    if folder != path.parent:
        names = sorted(p.name + "/" for p in folder.iterdir() if p.is_dir())
        wanted = path.relative_to(folder).parts[0] + "/"
    else:
        names = sorted(p.name for p in folder.iterdir())
        wanted = path.name
    found = nearest(wanted, names) or names[:5]
    return UserError(
        f"there is no file {source}",
        where=str(folder),
        expected="a data file, a folder of them, a saved data set, or a hub name like owner/name",
        fix=("did you mean " + ", ".join(found) + "?")
        if found
        else "put the file there; the folder is empty",
    )


def _kind(path: Path) -> str:
    """The suffix that tells the format, without `.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked on the way where it is compressed."""
    if path.suffix.lower() != ".gz":
        with path.open("rb") as file:
            yield file
        return
    try:
        with gzip.open(path) as packed:
            yield cast(BinaryIO, packed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"the compressed file is cut off or damaged: {error}",
            where=str(path),
            expected="a whole gzip file",
            fix="fetch or write it again",
        ) from error


def _decode(raw: bytes, source: str, number: int, before: int = 0) -> str:
    """A line as text, or what follows `before` characters of it; a byte order mark is taken off the first line."""
    if number == 1 and not before:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(
                "the file is UTF-16", where=source, expected="UTF-8", fix="save it again with encoding UTF-8"
            )
        raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        here = len(raw[: error.start].decode("utf-8", "replace")) + 1
        column = before + here
        raise UserError(
            f"byte 0x{raw[error.start]:02x} is not UTF-8: {_excerpt(raw.decode('utf-8', 'replace'), here)}",
            where=f"{source}:{number}:{column}",
            expected="UTF-8 text",
            fix="save the file again with encoding UTF-8",
        ) from error


def _excerpt(line: str, column: int, width: int = 40) -> str:
    """The text around a column, on one line."""
    begin, end = max(0, column - 1 - width), column - 1 + width
    text = line[begin:end].rstrip("\r\n").replace("\n", "\\n")
    return ("…" if begin else "") + text + ("…" if len(line.rstrip()) > end else "")


def _broken_json(error: json.JSONDecodeError, line: str, where: str, column: int | None = None) -> UserError:
    mark = " (a byte order mark inside the file)" if "\ufeff" in line else ""
    return UserError(
        f"broken JSON{mark}: {error.msg}: {_excerpt(line, error.colno)}",
        where=f"{where}:{column or error.colno}",
        expected="one complete JSON object",
        fix="mend the line; was the file cut off, or are two lines joined?",
    )


def _monstrous(error: Exception, where: str) -> UserError:
    """JSON that is well formed and that nobody writes: numbers of thousands of digits, or thousands of brackets."""
    nested = isinstance(error, RecursionError)
    return UserError(
        "broken JSON: nested too deeply" if nested else f"broken JSON: {error}",
        where=where,
        expected="one object with columns of text, numbers and lists",
        fix="look at what wrote this line",
    )


def _object(value: Any, where: str, text: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise UserError(
        f"not an object but {type(value).__name__}: {_excerpt(text, 1)}",
        where=where,
        expected='an object with columns, like {"prompt": …, "completion": …}',
        fix="write every row as one object",
    )


def _json_lines(path: Path, source: str, report: Broken) -> Iterator[RawRow]:
    with _open(path) as file:
        for number, raw in enumerate(file, 1):
            where = f"{source}:{number}"
            try:
                line = _decode(raw, source, number).rstrip(
                    "\r\n"
                )  # else a cut-off line is broken in column 1
                if not line.strip():
                    continue
                value = _object(json.loads(line), where, line)
            except json.JSONDecodeError as error:
                report(_broken_json(error, line, where))
            except (ValueError, RecursionError) as error:
                report(_monstrous(error, where))
            except UserError as error:
                report(error)
            else:
                yield RawRow(where, value)


def _json(path: Path, source: str, report: Broken) -> Iterator[RawRow]:
    """A JSON array of objects; a file of JSON lines with the name of a JSON file is read as such."""
    with _open(path) as file:
        first = next((line for line in iter(lambda: file.readline(4096), b"") if line.strip()), b"")
    if first.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        yield from _array(path, source, report)
        return
    with _open(path) as file:
        line = next((_decode(raw, source, n) for n, raw in enumerate(file, 1) if raw.strip()), "").rstrip()
    try:
        json.loads(line)
    except (ValueError, RecursionError) as error:
        column = error.colno if isinstance(error, json.JSONDecodeError) else 1
        report(
            UserError(
                f"neither a JSON array nor JSON lines: {_excerpt(line, column)}",
                where=f"{source}:1:{column}",
                expected="[{…}, {…}], or one object on each line",
                fix="write the list of rows itself, without an object around it",
            )
        )
        return
    yield from _json_lines(path, source, report)


def _array(path: Path, source: str, report: Broken) -> Iterator[RawRow]:
    """The objects of a JSON array, each with the line it begins on."""
    try:
        with _open(path) as file:
            for element in elements(_blocks(file, source)):
                where = f"{source}:{element.line}"
                try:
                    row = RawRow(where, _object(element.value, where, element.text))
                except UserError as error:
                    report(error)
                else:
                    yield row
    except BrokenArrayError as broken:
        where, cause = f"{source}:{broken.line}", broken.cause
        if isinstance(cause, json.JSONDecodeError):
            report(_broken_json(cause, cause.doc, where, broken.column))
        else:
            report(_monstrous(cause, where))


def _blocks(file: BinaryIO, source: str) -> Iterator[str]:
    """The text of a file in pieces of about `BLOCK` bytes, none of which ends inside a character."""
    number, before, left, parts, size = 1, 0, b"", [], 0
    while raw := file.readline(BLOCK):
        raw, left = left + raw, b""
        if not raw.endswith(b"\n"):
            cut = _whole_characters(raw)
            raw, left = raw[:cut], raw[cut:]
        parts.append(_decode(raw, source, number, before))
        ended = raw.endswith(b"\n")
        number, before = number + ended, 0 if ended else before + len(parts[-1])
        size += len(raw)
        if size >= BLOCK:
            yield "".join(parts)
            parts, size = [], 0
    if left:
        parts.append(_decode(left, source, number, before))
    yield "".join(parts)


def _whole_characters(raw: bytes) -> int:
    """How many bytes there are before a character of UTF-8 that is cut off at the end."""
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte >= 0xC0:  # where a character of several bytes begins
            length = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return len(raw) - back if length > back else len(raw)
        if byte < 0x80:
            break
    return len(raw)


def _csv(path: Path, source: str, report: Broken) -> Iterator[RawRow]:
    delimiter = "\t" if _kind(path) == ".tsv" else ","
    csv.field_size_limit(2**31 - 1)
    with _open(path) as file:
        reader = csv.reader(
            (_decode(raw, source, number) for number, raw in enumerate(file, 1)), delimiter=delimiter
        )
        try:
            yield from _fields(reader, source, report, delimiter)
        except csv.Error as error:  # behind it the reader cannot say where a row begins
            report(
                UserError(
                    f"not readable as {_kind(path)[1:].upper()} from here on: {error}",
                    where=f"{source}:{reader.line_num}",
                    expected="text with line ends that are all of one kind",
                    fix="put quotes around text that holds a delimiter or a line break",
                )
            )


def _fields(reader: Any, source: str, report: Broken, delimiter: str) -> Iterator[RawRow]:
    header: list[str] = next(reader, [])
    line = reader.line_num + 1
    for fields in reader:
        where, line = f"{source}:{line}", reader.line_num + 1
        if len(fields) == len(header):
            yield RawRow(where, dict(zip(header, fields, strict=True)))
        elif fields:
            report(
                UserError(
                    f"{len(fields)} fields: {_excerpt(delimiter.join(fields), 1)}",
                    where=where,
                    expected=f"{len(header)} fields, as in the first line: {', '.join(header)}",
                    fix="put quotes around text that holds a delimiter or a line break",
                )
            )


def _parquet(path: Path, source: str, report: Broken) -> Iterator[RawRow]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield RawRow(f"{source}:row {number}", value)
    except (pyarrow.ArrowException, ValueError, OSError) as error:  # text that is not UTF-8, pages cut off
        report(
            UserError(
                f"not a readable Parquet file: {error}",
                where=source,
                expected="a whole Parquet file",
                fix="fetch or write it again",
            )
        )


def _paragraphs(path: Path, source: str, report: Broken) -> Iterator[RawRow]:
    """What stands between blank lines, as rows with the column `text`."""
    first, lines = 1, list[str]()
    with _open(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                line = _decode(raw, source, number).rstrip("\r\n")
            except UserError as error:
                report(error)
                continue
            if line.strip():
                first = first if lines else number
                lines.append(line)
            elif lines:
                yield RawRow(f"{source}:{first}", {"text": "\n".join(lines)})
                lines = []
    if lines:
        yield RawRow(f"{source}:{first}", {"text": "\n".join(lines)})


_Reader = Callable[[Path, str, Broken], Iterator[RawRow]]
_READERS: dict[str, _Reader] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
_ALONE = {".txt": _paragraphs}  # only where it is named itself: in a folder of data it is a note on them


def _reader_of(path: Path, source: str) -> _Reader:
    readers = _READERS | _ALONE
    if _kind(path) in readers:
        return readers[_kind(path)]
    raise UserError(
        f"no reader for {path.suffix or 'a file without a suffix'}",
        where=source,
        expected=", ".join(_READERS) + ", .txt (text also as .gz)",
        fix="write the rows as JSON lines, one object on each line",
    )


def _folder(path: Path, source: str, split: str | None, report: Broken) -> Iterator[RawRow]:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _saved(path, source, split)
    files = sorted(p for p in path.iterdir() if p.is_file() and _kind(p) in _READERS)
    files = [p for p in files if p.name not in ("dataset_info.json", "dataset_infos.json")]
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(re.split(r"[-_.]", file.name, maxsplit=1)[0].lower(), []).append(file)
    if split is not None:
        files = by_split.get(_choose(split, by_split, source), [])
    elif len(by_split) > 1 and any(name in SPLITS for name in by_split):
        files = by_split[_choose(None, by_split, source)]
    if not files:
        raise UserError(
            "no data files in this folder",
            where=source,
            expected=f"files ending in {', '.join(_READERS)}",
            fix="give the folder that holds them, or one of them by its name",
        )
    return (row for file in files for row in _reader_of(file, source)(file, f"{source}/{file.name}", report))


def _choose(split: str | None, names: Iterable[str], source: str) -> str:
    """The split to read: as asked for, else `train`, else the only one. Splits are never mixed."""
    known = list(names)
    wanted = split or ("train" if "train" in known else known[0] if len(known) == 1 else "")
    if wanted in known:
        return wanted
    raise UserError(
        f"no split {split!r}" if split else f"{len(known)} splits and none chosen",
        where=source,
        expected=f"one of {', '.join(known)}",
        fix=f"set split = {known[0]!r}" if known else "check the source",
    )


def _numbered(rows: Iterable[Any], source: str) -> Iterator[RawRow]:
    return (RawRow(f"{source}:row {number}", dict(row)) for number, row in enumerate(rows, 1))


def _saved(path: Path, source: str, split: str | None) -> Iterator[RawRow]:
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"not a readable saved data set: {error}",
            where=source,
            expected="a folder that save_to_disk of datasets wrote",
            fix="save it again, or give its rows as JSON lines",
        ) from error
    if isinstance(saved, datasets.DatasetDict):
        saved = saved[_choose(split, saved, source)]
    return _numbered(saved, source)


def _hub(source: str, split: str | None) -> Iterator[RawRow]:
    import datasets

    name, _, config = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, config or None, split=split)
    except Exception as error:  # the hub client raises a dozen kinds, all meaning "not to be had"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot get the data set {name}: {reason}",
            where=source,
            expected=hub_needs(source) or "a data set on the hub",
            fix="check the name and the network (unset HF_HUB_OFFLINE); HF_HOME says where the cache is"
            if os.environ.get("HF_HUB_OFFLINE")
            else "check the name and the network, or download the data set and give its folder",
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        loaded = loaded[_choose(None, loaded, source)]
    return _numbered(loaded, source)
