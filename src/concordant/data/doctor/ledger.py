"""What the doctor remembers of every row: hashes and problems in a temporary database on disk.

Memory stays the same for a thousand rows and for ten million: SQLite sorts on disk, and keeps `CACHE` in memory.
Hashes have 64 bits, so that among ten million rows two different ones are taken for the same with a probability
of 3e-6.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from concordant.data.layouts.account import Problem, place_of
from concordant.errors import UserError

CACHE = 64 * 2**20  # bytes
BATCH = 5_000  # rows and problems between two writes
_FILE = 40  # bits for the number behind a file

# `about` is what a row speaks of, and `side` which way it speaks: equal in both, it repeats another row; equal in
# the first alone, it says the opposite. `plain` is the prompt without case and spaces.
_TABLES = """
CREATE TABLE rows (n INTEGER PRIMARY KEY, place INT, about INT, side INT, prompt INT, plain INT, p REAL);
CREATE TABLE problems (place INT, col INT, n INT, kind TEXT, detail TEXT, dropped INT);
CREATE TABLE held (prompt INT, plain INT);
"""

_REPEATED = """
SELECT n, place, side, first0, first1 FROM rows JOIN (
    SELECT about, min(CASE side WHEN 0 THEN n END) first0, min(CASE side WHEN 1 THEN n END) first1
    FROM rows GROUP BY about HAVING count(*) > 1
) USING (about) ORDER BY about, n
"""

_LEAKED = """
SELECT n, place, prompt IN (SELECT prompt FROM held) FROM rows WHERE plain IN (SELECT plain FROM held) ORDER BY n
"""

_MERGED = """
SELECT min(n), avg(p) FROM rows GROUP BY about HAVING count(DISTINCT side) > 1 ORDER BY 1
"""


def hashed(*parts: str) -> int:
    """64 bits of a hash of texts, as a signed integer."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = part.encode()
        digest.update(len(text).to_bytes(8) + text)
    return int.from_bytes(digest.digest(), signed=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row as the ledger has it. `p`: how sure it is that of the two sides, side 1 is right."""

    where: str
    about: int
    side: int
    prompt: int
    plain: int
    p: float


class Ledger:
    """A temporary database; it is gone when it is closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE; "
            f"PRAGMA cache_size=-{CACHE // 1024};{_TABLES}"
        )
        self._files: dict[tuple[str, str], int] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._problems: list[tuple[Any, ...]] = []
        self.n = 0  # rows so far

    def close(self) -> None:
        self._database.close()

    def row(self, entry: Entry) -> int:
        """Remember a usable row; its number, from 0."""
        place, _ = self._place(entry.where)
        self._rows.append((self.n, place, entry.about, entry.side, entry.prompt, entry.plain, entry.p))
        if len(self._rows) >= BATCH:
            self._write()
        self.n += 1
        return self.n - 1

    def problem(self, problem: Problem, n: int | None = None) -> None:
        """Remember something about row `n`, or about a row of the source that is not usable."""
        place, column = self._place(problem.where)
        self._problems.append((place, column, n, problem.kind, _storable(problem.detail), problem.dropped))
        if len(self._problems) >= BATCH:
            self._write()

    def hold(self, prompts: Iterable[tuple[int, int]]) -> None:
        """Remember prompts, and what is left of them without case and spaces, that should not be among the rows."""
        self._database.executemany("INSERT INTO held VALUES (?, ?)", prompts)

    def settle(self) -> None:
        """Look for what only all rows together show: repetitions, contradictions, prompts that are held."""
        self._write()
        self._database.execute("CREATE INDEX spoken ON rows (about, side)")
        for n, place, side, *firsts in self._database.execute(_REPEATED):
            mine, other = firsts[side], firsts[1 - side]
            if n > mine:
                self._find(n, place, "duplicate", f"the same as {self._where_of(mine)}")
            if other is not None and n > other:
                self._find(n, place, "contradiction", f"says the opposite of {self._where_of(other)}")
        for n, place, exact in self._database.execute(_LEAKED):
            self._find(
                n, place, "leak", "the prompt is held out" + ("" if exact else ", but for case and spaces")
            )
        self._write()
        self._database.execute("CREATE INDEX placed ON problems (place)")

    @property
    def prompts(self) -> int:
        """How many different prompts there are."""
        found: int = self._database.execute("SELECT count(DISTINCT prompt) FROM rows").fetchone()[0]
        return found

    def problems(self, most: int = -1) -> Iterator[Problem]:
        """The problems in the order of the source, the first `most` of them."""
        found = self._database.execute(
            "SELECT place, col, kind, detail, dropped FROM problems ORDER BY place, rowid LIMIT ?", (most,)
        )
        for place, column, kind, detail, dropped in found:
            where = self._where(place) + (f":{column}" if column else "")
            yield Problem(where, kind, detail, bool(dropped))

    def counts(self) -> dict[str, int]:
        """How often each kind of problem occurs, in the order in which they first do."""
        return dict(
            self._database.execute("SELECT kind, count(*) FROM problems GROUP BY kind ORDER BY min(place)")
        )

    def rows_with(self, kinds: Iterable[str]) -> Iterator[tuple[int, str]]:
        """Numbers of the rows about which one of `kinds` was said, in order, each with the first kind said."""
        wanted = tuple(kinds)
        marks = ",".join("?" * len(wanted))
        yield from self._database.execute(
            f"SELECT n, kind FROM problems WHERE n IS NOT NULL AND kind IN ({marks}) "
            "GROUP BY n HAVING rowid = min(rowid) ORDER BY n",
            wanted,
        )

    def merged(self) -> Iterator[tuple[int, float]]:
        """Of rows that contradict each other the first one, and how sure all of them are that side 1 is right."""
        yield from self._database.execute(_MERGED)

    def _find(self, n: int, place: int, kind: str, detail: str) -> None:
        self.problem(Problem(self._where(place), kind, detail, dropped=False), n)

    def _write(self) -> None:
        self._database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", self._rows)
        self._database.executemany("INSERT INTO problems VALUES (?, ?, ?, ?, ?, ?)", self._problems)
        self._rows.clear()
        self._problems.clear()

    def _place(self, where: str) -> tuple[int, int]:
        """A place as a number that sorts like the source, and the column in its line (0: none)."""
        file, mark, number, column = place_of(where)
        known = self._files.setdefault((file, mark), len(self._files))
        return known << _FILE | number, column

    def _where(self, place: int) -> str:
        name, mark = list(self._files)[place >> _FILE]
        return f"{name}{mark}{place & (1 << _FILE) - 1}" if mark else name

    def _where_of(self, n: int) -> str:
        return self._where(self._database.execute("SELECT place FROM rows WHERE n = ?", (n,)).fetchone()[0])


def _storable(text: str) -> str:
    """Text without halves of surrogate pairs, which no database takes."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def ledger() -> Iterator[Ledger]:
    """A ledger for the block. A disk without room for it is one clear message."""
    book = Ledger()
    try:
        yield book
    except sqlite3.OperationalError as error:
        if "full" not in str(error) and "I/O" not in str(error):
            raise
        raise UserError(
            "there is no room for the temporary files of the data doctor",
            where=tempfile.gettempdir(),
            expected="about 150 bytes for each row, and as much again for each problem",
            fix="free some space, or set TMPDIR (SQLITE_TMPDIR) to a folder with room",
        ) from error
    finally:
        book.close()
