"""Reading rows: every format gives the same rows, and every broken line is named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from concordant.data.layouts.reading import read_documents
from concordant.data.sources import byte_marks, hub_needs, is_hub_name, read_rows
from concordant.errors import UserError
from telling import tells

ROWS = [
    {"prompt": "Wie geht's?", "completion": "Gut – danke"},
    {"prompt": "two\nlines", "completion": "a, b"},
]


def lines(rows: list[dict[str, str]], end: str = "\n") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode()


def write(folder: Path, kind: str) -> str:
    """Write ROWS in one format; the name of the file or folder."""
    import pyarrow
    import pyarrow.parquet

    path = folder / f"rows{kind}"
    if kind == ".jsonl":
        path.write_bytes(lines(ROWS))
    elif kind == ".jsonl.gz":
        path.write_bytes(gzip.compress(lines(ROWS)))
    elif kind == ".json":
        path.write_text(json.dumps(ROWS, indent=2), encoding="utf-8")
    elif kind == ".csv":
        path.write_text(
            'prompt,completion\nWie geht\'s?,Gut – danke\n"two\nlines","a, b"\n', encoding="utf-8"
        )
    elif kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif kind == "folder":
        path.mkdir()
        (path / "train-00000.jsonl").write_bytes(lines(ROWS[:1]))
        (path / "train-00001.jsonl").write_bytes(lines(ROWS[1:]))
    return path.name


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        (".jsonl", ("rows.jsonl:1", "rows.jsonl:2")),
        (".jsonl.gz", ("rows.jsonl.gz:1", "rows.jsonl.gz:2")),
        (".json", ("rows.json:2", "rows.json:6")),
        (".csv", ("rows.csv:2", "rows.csv:3")),
        (".parquet", ("rows.parquet:row 1", "rows.parquet:row 2")),
        ("folder", ("rowsfolder/train-00000.jsonl:1", "rowsfolder/train-00001.jsonl:1")),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str, where: tuple[str, str]) -> None:
    rows = list(read_rows(write(tmp_path, kind), root=tmp_path))
    assert [row.value for row in rows] == ROWS
    assert tuple(row.where for row in rows) == where


def test_saved_data_set_and_its_splits(tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_list(ROWS)
    one.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(train=one, test=one.select([0])).save_to_disk(str(tmp_path / "both"))
    datasets.DatasetDict(valid=one, test=one.select([0])).save_to_disk(str(tmp_path / "two"))
    assert [row.value for row in read_rows("one", root=tmp_path)] == ROWS
    assert [row.value for row in read_rows("two", root=tmp_path, split="test")] == ROWS[:1]
    assert [row.value for row in read_rows("both", root=tmp_path)] == ROWS
    with pytest.raises(UserError, match="2 splits and none chosen"):
        read_rows("two", root=tmp_path)


def test_a_folder_with_train_and_test_is_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(lines(ROWS[:1]))
    (tmp_path / "test.jsonl").write_bytes(lines(ROWS[1:]))
    assert [row.value for row in read_rows(str(tmp_path))] == ROWS[:1]
    assert [row.value for row in read_rows(str(tmp_path), split="test")] == ROWS[1:]
    with pytest.raises(UserError, match="no split 'dev'"):
        read_rows(str(tmp_path), split="dev")


def test_broken_line_names_file_line_column_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"prompt": "x"}\n\n{"prompt": "y" "completion": "z"}\n{"prompt": "w"}\n'
    )
    with pytest.raises(UserError) as caught:
        list(read_rows("a.jsonl", root=tmp_path))
    assert caught.value.where == "a.jsonl:3:16"
    assert '{"prompt": "y" "completion": "z"}' in caught.value.what
    errors: list[UserError] = []
    rows = list(read_rows("a.jsonl", root=tmp_path, on_broken=errors.append))
    assert [row.where for row in rows] == ["a.jsonl:1", "a.jsonl:4"]
    assert len(errors) == 1


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("a.json", b'[{"a": 1},\n {"a": 2} {"a": 3}]', "a.json:2:11", "delimiter"),
        ("a.json", b'[{"a": 1},\n {"a": 2},]', "a.json:2:11", "Expecting value"),
        ("a.json", b'{\n "data": []\n}', "a.json:1:2", "neither a JSON array nor JSON lines"),
        ("a.jsonl", b'{"a": 1}\n[1, 2]\n', "a.jsonl:2", "not an object but list"),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "a.jsonl:2:11", "byte 0xe9 is not UTF-8"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "a.jsonl", "UTF-16"),
        ("a.jsonl", b'{"a": 1}\n\xef\xbb\xbf{"a": 2}\n', "a.jsonl:2:1", "byte order mark inside the file"),
        ("a.jsonl", b'{"a": 1}\n{"a": "cut o', "a.jsonl:2:7", "Unterminated string"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "a.csv:3", "3 fields"),
        ("a.parquet", b"no parquet at all", "a.parquet", "not a readable Parquet file"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, where: str, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=what) as caught:
        list(read_rows(name, root=tmp_path))
    assert caught.value.where == where


def test_documents_of_plain_text_stand_between_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\n\nOne,\r\ntwo.\n \n\nThree \u2028 four.".encode())
    rows = list(read_rows("a.txt", root=tmp_path))
    assert [row.value for row in rows] == [{"text": "One,\ntwo."}, {"text": "Three \u2028 four."}]
    assert [row.where for row in rows] == ["a.txt:3", "a.txt:7"]
    assert [one.text for one in read_documents("a.txt", root=tmp_path).rows] == [
        r.value["text"] for r in rows
    ]
    (tmp_path / "bad.txt").write_bytes(b"One.\n\nTwo caf\xe9.\n")
    with pytest.raises(UserError, match=r"1 of 2 rows cannot be used \(1 broken line\)"):
        read_documents("bad.txt", root=tmp_path)


def test_a_note_beside_data_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "notes.txt").write_text("Made by hand.", encoding="utf-8")
    assert [row.value for row in read_rows(str(tmp_path))] == ROWS


def test_byte_order_mark_and_crlf_are_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(ROWS, end="\r\n"))
    assert [row.value for row in read_rows("a.jsonl", root=tmp_path)] == ROWS
    assert byte_marks("a.jsonl", tmp_path) == (1, 2)


def test_missing_file_suggests_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "preferences.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match=r"preferences\.jsonl"):
        read_rows("preference.jsonl", root=tmp_path)
    (tmp_path / "table.xlsx").write_bytes(b"")
    with pytest.raises(UserError, match=r"no reader for \.xlsx"):
        read_rows("table.xlsx", root=tmp_path)


def test_hub_names_are_told_from_paths_without_network(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert is_hub_name("Anthropic/hh-rlhf", tmp_path)
    assert not is_hub_name("data/hh-rlhf", tmp_path)
    assert not is_hub_name("nowhere/pairs.jsonl", tmp_path)
    assert "Anthropic/hh-rlhf" in (hub_needs("Anthropic/hh-rlhf", tmp_path) or "")
    assert hub_needs("data/hh.jsonl", tmp_path) is None


def test_hub_data_set_offline_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"to be downloaded from the Hugging Face hub"):
        read_rows("concordant-tests/no-such-set", root=tmp_path)


@pytest.mark.parametrize("kind", [".jsonl", ".json"])
@pytest.mark.parametrize("monster", ['{"a": ' + "[" * 100_000, '{"a": ' + "9" * 5_000 + "}"])
def test_json_that_nobody_writes_is_a_broken_line(tmp_path: Path, kind: str, monster: str) -> None:
    (tmp_path / f"a{kind}").write_text('{"a": 1}\n' + monster + '\n{"a": 2}\n', encoding="utf-8")
    (tmp_path / "array.json").write_text('[{"a": 1},\n' + monster + "]", encoding="utf-8")
    told: list[UserError] = []
    rows = list(read_rows(f"a{kind}", root=tmp_path, on_broken=told.append))
    assert [row.value for row in rows] == [{"a": 1}, {"a": 2}]
    assert [error.where for error in told] == [f"a{kind}:2"]
    rows = list(read_rows("array.json", root=tmp_path, on_broken=told.append))
    assert [row.value for row in rows] == [{"a": 1}]
    assert told[-1].where == "array.json:2"


def test_a_csv_that_cannot_be_read_on_says_from_where(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n3,4\r5,6\n7,8\n")
    told: list[UserError] = []
    rows = list(read_rows("a.csv", root=tmp_path, on_broken=told.append))
    assert [row.value for row in rows] == [{"a": "1", "b": "2"}]
    assert [error.where for error in told] == ["a.csv:3"]
    assert "from here on" in told[0].what


DAMAGES: tuple[Callable[[bytes], bytes], ...] = (
    lambda packed: packed[:-9],
    lambda packed: b"no" + packed,
    lambda packed: packed[:30] + b"\xff" * 9 + packed[39:],
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_compressed_file_is_one_clear_message(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    packed = gzip.compress(b"".join(b'{"prompt": "q%d"}\n' % n for n in range(100)))
    (tmp_path / "rows.jsonl.gz").write_bytes(damage(packed))
    with pytest.raises(UserError, match="cut off or damaged"):
        list(read_rows("rows.jsonl.gz", root=tmp_path))


def test_a_line_that_is_cut_off_is_broken_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "q"}\r\n{"prompt": "q", "chosen"\r\n')
    broken: list[UserError] = []
    list(read_rows("rows.jsonl", root=tmp_path, on_broken=broken.append))
    assert [error.where for error in broken] == ["rows.jsonl:2:25"]


def test_a_source_that_is_not_what_its_name_says_tells_what_to_give(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]))
    with tells("a single file has no split 'train'", where="rows.jsonl", expected="a folder", fix="leave"):
        read_rows("rows.jsonl", root=tmp_path, split="train")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").write_text("no rows")
    with tells("no data files in this folder", where="notes", expected=".jsonl", fix="the folder that holds"):
        read_rows("notes", root=tmp_path)
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / "state.json").write_text("{")
    with tells("not a readable saved data set", where="saved", expected="save_to_disk", fix="save it again"):
        read_rows("saved", root=tmp_path)
