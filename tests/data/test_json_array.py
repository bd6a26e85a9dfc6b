"""A JSON array read through a window: the same elements, lines and mistakes however the text is cut."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.data import sources
from concordant.data.json_array import BrokenArrayError, elements
from concordant.data.sources import read_rows
from concordant.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def cut(text: str, size: int) -> Iterator[str]:
    return (text[i : i + size] for i in range(0, len(text), size))


@given(
    st.lists(VALUES, max_size=6),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.integers(1, 40),
    st.text(" \n"),
)
def test_elements_and_their_lines(
    values: list[Any], indent: int | None, ascii_only: bool, size: int, space: str
) -> None:
    text = space + json.dumps(values, indent=indent, ensure_ascii=ascii_only) + space
    found = list(elements(cut(text, size)))
    assert [one.value for one in found] == values
    assert [json.loads(one.text) for one in found] == values
    position = text.index("[") + 1
    for one in found:
        position = text.index(one.text, position)
        assert one.line == 1 + text.count("\n", 0, position)
        position += len(one.text)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "line", "column", "said", "before"),
    [
        ('[{"a": 1},\n {"a": 2} {"a": 3}]', 2, 11, "','", 2),
        ('[{"a": 1},\n {"a": 2},]', 2, 11, "Expecting value", 2),
        ('[1,\n 2, "\n"]', 2, 6, "Invalid control character", 2),
        ('[{"a": 1}]\n [{"a": 2}]', 2, 2, "Extra data", 1),
        ("[]]", 1, 3, "Extra data", 0),
        ("[12, tru", 1, 6, "Expecting value", 1),
        ('[{"a": "b', 1, 8, "Unterminated string", 0),
        ("[1, 2", 1, 6, "','", 2),
        ("{}", 1, 1, "'['", 0),
        ("", 1, 1, "'['", 0),
    ],
)
def test_a_mistake_is_where_it_is(
    text: str, line: int, column: int, said: str, before: int, size: int
) -> None:
    found = elements(cut(text, size))
    for _ in range(before):
        next(found)
    with pytest.raises(BrokenArrayError, match=re.escape(said)) as caught:
        next(found)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_cut_in_a_character_or_a_line_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "é€😀\ufeff" * n, "n": n} for n in range(30)]
    (tmp_path / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8-sig")
    for size in (1, 2, 3, 5, 64):
        monkeypatch.setattr(sources, "BLOCK", size)
        read = list(read_rows("rows.json", root=tmp_path))
        assert [row.value for row in read] == rows


@pytest.mark.parametrize("size", [1, 4, 4096])
def test_bytes_that_are_no_text_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(sources, "BLOCK", size)
    (tmp_path / "rows.json").write_bytes(b'[{"a": 1},\n{"a": "\xff"}]')
    with pytest.raises(UserError, match="0xff is not UTF-8") as caught:
        list(read_rows("rows.json", root=tmp_path))
    assert caught.value.where == "rows.json:2:8"


def test_memory_does_not_grow_with_the_array(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "p" * 500, "completion": "c" * 500})
    with (tmp_path / "rows.json").open("w") as file:
        file.write("[" + ", ".join([row] * 40_000) + "]")  # 40 MB on one line
    tracemalloc.start()
    count = sum(1 for _ in read_rows("rows.json", root=tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40_000
    assert peak < 12e6
