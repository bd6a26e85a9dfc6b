"""The two database engines of the feedback store, opened so that writers wait for each other and a crash loses nothing.

SQLite is a file of the run and needs nothing; PostgreSQL serves several web processes and machines. The statements
are the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, DisconnectionError

from concordant.errors import UserError
from concordant.feedback.database.mounts import network_file_system

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

Durability = Literal["normal", "full"]

CHECKPOINT_EVERY = 100  # transactions of a process; a thousand pages of the log or so
EXPECTED = "an SQLite file (a path, or sqlite:///path), or postgresql+psycopg://user@host/database"
_PASSWORD = re.compile(
    r"(://[^:/]*:).*@"
)  # in what may be no address otherwise: what nobody else should read


def address_of(address: str | Path) -> URL:
    """The database a path or an address means; UserError for one that cannot hold a store."""
    if isinstance(address, Path) or "://" not in address:
        return URL.create("sqlite", database=str(address))
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        shown = _PASSWORD.sub(r"\1***@", str(address))
        raise _no_place("this is not a database address", shown) from error
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "postgresql":
        if url.database in (None, ""):
            raise _no_place("this address names no database", shown)
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        raise _no_place("the feedback store cannot live here", shown)
    return url.set(drivername="sqlite")


def _no_place(what: str, where: str) -> UserError:
    return UserError(what, where=where, expected=EXPECTED, fix="give an address of this form, or a file name")


def place(engine: Engine) -> str:
    """Where the store is, for people: a file name, or an address without its password."""
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    return engine.url.render_as_string(hide_password=True)


def connect(address: str | Path, durability: Durability = "normal") -> Engine:
    """An engine on the database at `address`, with every connection set up for several writers.

    durability: whether a commit survives the machine losing power, or only this program being killed. "full" waits
    for the disk at every commit; "normal" leaves that to SQLite's checkpoints, and to the server's own setting on
    PostgreSQL. Errors: UserError for an address that cannot hold a store, such as a file on a network share.
    """
    if durability not in get_args(Durability):
        raise UserError(
            f"a durability {durability!r}",
            where="the feedback store",
            expected=", ".join(get_args(Durability)),
            fix="take full where a vote has to survive a power cut, else normal",
        )
    url = address_of(address)
    if url.get_backend_name() == "sqlite":
        _refuse_network(Path(str(url.database)))
        engine = create_engine(url, json_serializer=_dump)
        event.listen(engine, "connect", _settings)
        if durability == "full":
            event.listen(engine, "connect", _settings_full)
        event.listen(engine, "begin", _begin)
        return engine
    return _postgresql(url, durability)


def along_indexes(engine: Engine, durability: Durability) -> Engine:
    """The same database for transactions that look at a few rows of large tables.

    What PostgreSQL believes of a queue that changes all the time is never true for long, and where it guesses
    wrong it reads all tasks, or all votes, to find one. Here it walks along the indexes.
    """
    if engine.dialect.name != "postgresql":
        return engine
    other = _postgresql(engine.url, durability)
    event.listen(other, "connect", _walk)
    return other


def at_one_moment(engine: Engine) -> Engine:
    """The same connections for transactions that only read, and see the store as it was at their first statement."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine.execution_options(read_only=True)


def without_transaction(engine: Engine) -> Engine:
    """The same connections for statements that stand alone."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="AUTOCOMMIT")
    return engine.execution_options(read_only=True)


def _walk(connection: Any, _record: object) -> None:
    for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin", "material"):
        connection.execute(f"SET enable_{way} = off")
    connection.execute("SET plan_cache_mode = force_generic_plan")
    connection.commit()


def _postgresql(url: URL, durability: Durability) -> Engine:
    waits = {"options": "-c synchronous_commit=on"} if durability == "full" else {}
    try:
        engine = create_engine(url, json_serializer=_dump, connect_args=waits)
    except ModuleNotFoundError as error:
        raise UserError(
            "the driver for PostgreSQL is not installed",
            where=url.render_as_string(hide_password=True),
            expected="the package psycopg",
            fix='pip install "concordant[postgres]"',
        ) from error
    event.listen(engine, "checkout", _still_there)
    return engine


def _still_there(connection: Any, _record: object, _proxy: object) -> None:
    # A server says nothing to a connection that rests, unless it closes it. Asking it each time would cost a journey.
    with DefaultSelector() as heard:
        heard.register(connection.fileno(), EVENT_READ)
        if heard.select(0):
            raise DisconnectionError


@contextmanager
def turn(engine: Engine) -> Iterator[None]:
    """Wait for one's turn to write, in the order in which writers came.

    Writers of SQLite that find the file locked sleep and try again, longer each time: with many of them one may
    sleep past every chance it had until its time is up. A lock of the operating system beside the file lets them
    wait in line. Where there is none, SQLite's own waiting has to do.
    """
    if engine.dialect.name != "sqlite" or fcntl is None:
        yield
        return
    with ExitStack() as line:
        with suppress(OSError):  # no folder, or not ours to write in: SQLite says so better
            queue = line.enter_context(open(f"{engine.url.database}-turn", "a"))
            fcntl.flock(queue, fcntl.LOCK_EX)
        yield


def _refuse_network(path: Path) -> None:
    kind = network_file_system(path)
    if kind is not None:
        raise UserError(
            f"the feedback store cannot live on a network file system ({kind})",
            where=str(path),
            expected="a disk of this machine: two machines would write over each other's votes",
            fix="put the run on a local disk, or keep its votes in PostgreSQL (feedback.url)",
        )


def _settings_full(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=FULL")


def _settings(connection: Any, _record: object) -> None:
    # Transactions are begun by us (see `_begin`), not by the driver, which would begin them deferred.
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout=5000")
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        raise UserError(
            "this file system cannot hold the feedback store",
            where=path,
            expected=f"write-ahead logging, but SQLite chose journal mode {mode!r}",
            fix="put the run on a local disk, not a network share",
        )
    connection.execute("PRAGMA synchronous=NORMAL")
    # Checkpoints are made between writes (see `checkpoint`); this one is for when nobody leaves a gap for them.
    connection.execute("PRAGMA wal_autocheckpoint=16000")
    connection.execute("PRAGMA foreign_keys=ON")
    # Without this an INSERT OR REPLACE would remove a vote without asking the trigger.
    connection.execute("PRAGMA recursive_triggers=ON")


def checkpoint(connection: Connection) -> None:
    """Copy what the log of SQLite holds into the file, while others go on writing; nothing on PostgreSQL.

    SQLite by itself does this within a commit, and whoever waits for their turn to write waits for it too. Where it
    fails, as on a full disk, the log keeps everything, and the next one who writes is told.
    """
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        with suppress(connection.dialect.loaded_dbapi.Error):
            driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another committed in between,
    # whatever the timeout. Taking the write lock at the start makes it wait instead.
    read_only = connection.get_execution_options().get("read_only", False)
    driver: Any = connection.connection.driver_connection
    driver.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def database_errors(engine: Engine) -> Iterator[None]:
    """Turn the failures of the database itself into messages that name it; other errors pass."""
    try:
        yield
    except DatabaseError as error:
        said = str(error.orig)
        if error.connection_invalidated or any(sign in said for sign in _HUNG_UP):
            raise UserError(
                "the feedback store: the connection to the server is lost",
                where=place(engine),
                expected="a PostgreSQL server that stays; what it had acknowledged is kept",
                fix="see that it runs, then give the same command again: it goes on where it stood",
            ) from error
        for sign, expected, fix in FAILURES:
            if sign in said:
                what = f"the feedback store: {said.strip().splitlines()[0]}"
                raise UserError(what, where=place(engine), expected=expected, fix=fix) from error
        raise


# Statements of `queries.together` do not pass by SQLAlchemy, which would know a lost connection by itself.
_HUNG_UP = (
    "terminating connection",
    "server closed the connection",
    "connection is lost",
    "connection is closed",
)
FAILURES = (  # what the database says, what was expected, what to do
    ("database is locked", "a free turn within five seconds", "stop the other process that holds the file"),
    (
        "disk is full",
        "room for the next write; what was written before is safe",
        "free some space, run again",
    ),
    ("unable to open", "a folder that exists and may be written to", "make the folder, or choose another"),
    ("not a database", "an SQLite file made by concordant", "choose another name, or move the file away"),
    ("readonly database", "a file this user may write to", "change its owner or its mode"),
    ("authentication failed", "a user and password the server accepts", "check the address"),
    ("does not exist", "a database and a user that are there", "make them with createdb and createuser"),
    ("connection failed", "a PostgreSQL server that answers there", "start it, or check the address"),
    ("connection to server", "a PostgreSQL server that answers there", "start it, or check the address"),
)
