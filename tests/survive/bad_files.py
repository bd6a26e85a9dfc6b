"""Bad data files, made of good ones and out of nothing, and what has to hold of each of them.

`tests/data/test_doctor_fuzz.py` tries some hundreds, `benchmarks/fuzz.py` as many as one likes.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from concordant.data.doctor.checkup import LAYOUTS, Origin, examine
from concordant.data.doctor.cure import LEFT_OUT, write_clean
from concordant.data.layouts.account import MISTAKES
from concordant.errors import UserError

ROWS = 12  # of a real file: enough to break, and quick to read
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
OWN: tuple[dict[str, Any], ...] = (
    {"prompt": "hi", "chosen": "hello", "rejected": "go away", "p_chosen": 0.9, "weight": 2},
    {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: no"},
    {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": [{"role": "assistant", "content": "no"}]},
    {"prompt": "hi", "completion": "hello", "label": True},
    {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "grüß dich 你好"}]},
    {"messages": TURNS, "kto_tag": 0},
    {"instruction": "say", "input": "it", "output": "it", "history": [["a", "b"]], "system": "be kind"},
    {"instruction": "say", "instances": [{"input": "a", "output": "b"}, {"input": "", "output": "d"}]},
    {"text": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: bye"},
    {"prompt": "hi", "answer": "hello", "family": "greeting"},
)

CELLS = (
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"0.5", b'""', b'" "', b"[]", b"{}", b"[[[]]]", b'"\\ud800"',
    b"9" * 5000, b"[" * 2000, b'{"role": "user"}', b'{"role": 3, "content": null}', b'[{"from": "human", "value": 1}]',
)  # fmt: skip
BYTES = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r",
    b"\r\n",
    b"\n",
    b'"',
    b"\\",
    b",",
    b"\t",
    b"}",
    b"\xc3",
)


def originals(shared: Path | None) -> Iterator[tuple[str, bytes]]:
    """Good files, a suffix and a content: rows of our own, and the beginnings of real data sets."""
    for row in OWN:
        yield ".jsonl", b"".join(json.dumps({**row, "id": n}).encode() + b"\n" for n in range(3))
    yield ".json", json.dumps(OWN[:1] * 3, indent=1).encode()
    yield ".csv", b'prompt,chosen,rejected\nhi,"a ""b"", c",d\n"two\nlines",e,f\n'
    for file in sorted(shared.rglob("*")) if shared else ():
        if file.suffix in SUFFIXES and file.stat().st_size < 2**26:
            yield file.suffix, beginning(file)


def beginning(file: Path) -> bytes:
    """The first rows of a file, in its own format."""
    content = file.read_bytes()
    if file.suffix == ".parquet":
        return content
    if file.suffix == ".json" and content.lstrip().startswith(b"["):
        return json.dumps(json.loads(content)[:ROWS], ensure_ascii=False, indent=1).encode()
    return b"".join(content.splitlines(keepends=True)[:ROWS])


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with one to four mistakes in it."""
    for _ in range(draw.randint(1, 4)):
        content = draw.choice(MISTAKEN)(content, draw)
    return content


def _place(content: bytes, draw: random.Random) -> int:
    return draw.randint(0, len(content))


def _flip(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]


def _insert(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + draw.choice(BYTES) + content[at:]


def _remove(content: bytes, draw: random.Random) -> bytes:
    at = _place(content, draw)
    return content[:at] + content[at + draw.randint(1, 40) :]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: _place(content, draw)]


def _cell(content: bytes, draw: random.Random) -> bytes:
    """Another value behind one of the colons."""
    head, *cells = content.split(b": ")
    if not cells:
        return content
    n = draw.randrange(len(cells))
    end = min((at for mark in b',}"' if (at := cells[n].find(mark, 1)) > 0), default=len(cells[n]))
    cells[n] = draw.choice(CELLS) + cells[n][end + (cells[n][end : end + 1] == b'"') :]
    return b": ".join([head, *cells])


def _lines(content: bytes, draw: random.Random) -> bytes:
    """Lines in another order, twice, joined, or left out."""
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    n = draw.randrange(len(lines))
    changed = (
        [*lines[:n], *reversed(lines[n:])],
        [*lines, lines[n]],
        [*lines[:n], lines[n].rstrip(), *lines[n + 1 :]],
        [*lines[:n], b"\n", *lines[n + 1 :]],
    )
    return b"".join(draw.choice(changed))


MISTAKEN: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flip, _insert, _remove, _cut, _cell, _lines)

_odd = ["hi", "", " ", "\n\nHuman: a\n\nAssistant:", "<|im_end|>", "\x00", "\ud800"]
_text = st.one_of(st.sampled_from(_odd), st.text(max_size=8))
_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _text)
_roles = st.sampled_from(["user", "assistant", "system", "human", "x", 1])
_turns = st.lists(st.fixed_dictionaries({"role": _roles, "content": _scalars}), max_size=4)
_nested = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3)
)
_values = st.one_of(_scalars, _turns, _nested)

COLUMNS = sorted(
    {name for layouts in LAYOUTS.values() for one in layouts for name in (*one.needs, *one.uses)}
)
_any_row = st.dictionaries(st.sampled_from(COLUMNS), _values, max_size=5)
_good_row_changed = st.builds(
    lambda row, more: {**row, **more},
    st.sampled_from(OWN),
    st.dictionaries(st.sampled_from(COLUMNS), _values, max_size=2),
)
hostile_rows = st.lists(st.one_of(_any_row, _good_row_changed, _good_row_changed), min_size=1, max_size=6)


def hostile_file(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines; what JSON has no word for is written as Python does."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def try_file(folder: Path, suffix: str, content: bytes, *, packed: bool = False) -> bool:
    """Examine and clean one file; whether anything of it could be read. Whatever is wrong fails an assertion.

    A UserError is an answer: one clear message. Any other exception is a defect.
    """
    path, clean = folder / f"rows{suffix}{'.gz' if packed else ''}", folder / "clean.jsonl"
    path.write_bytes(_packed(content) if packed else content)
    clean.unlink(missing_ok=True)
    try:
        with examine(Origin(str(path))) as examination:
            report, listed = examination.report, list(examination.problems())
            cure = write_clean(examination, clean)
    except UserError:
        return False
    dropped = [problem for problem in listed if problem.dropped]
    assert report.read == report.used + len(dropped) == cure.used + cure.unusable.total()
    assert report.used >= 0
    assert report.kept == cure.rows == cure.written + cure.left_out.total()
    assert sum(report.counts.values()) == len(listed)
    if suffix == ".jsonl" and not packed:
        assert report.read == sum(not _blank(line) for line in content.split(b"\n"))
    if cure.written:
        with examine(Origin(str(clean), report.kind)) as again:
            assert again.report.kept == again.report.read == cure.written
            assert not {*MISTAKES, *LEFT_OUT} & {*again.report.counts}
    return report.kept > 0


def _packed(content: bytes) -> bytes:
    """Compressed; every third file is cut off."""
    packed = gzip.compress(content)
    return packed[:-3] if len(content) % 3 == 0 else packed


def _blank(line: bytes) -> bool:
    try:
        return not line.removeprefix(b"\xef\xbb\xbf").decode().strip()
    except UnicodeDecodeError:
        return False
