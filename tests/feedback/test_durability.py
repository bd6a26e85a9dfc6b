"""Where a store may live, and what of it survives a power cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from concordant.errors import UserError
from concordant.feedback.answering.statements import RECOUNT
from concordant.feedback.database import mounts
from concordant.feedback.database.prepared import together
from concordant.feedback.store import Store
from servers import Postgres


def of(store: Store, query: str) -> str:
    with store.reading() as connection:
        return str(connection.execute(text(query)).scalar())


def test_full_durability_waits_for_the_disk_on_every_connection(tmp_path: Path) -> None:
    for durability, level in (("normal", "1"), ("full", "2")):
        with Store.open(tmp_path / f"{durability}.sqlite", durability=durability) as store:
            assert of(store, "PRAGMA synchronous") == level
            with store.writing() as writer, store.reading() as reader:  # two connections
                assert {
                    str(one.execute(text("PRAGMA synchronous")).scalar()) for one in (writer, reader)
                } == {level}
    with pytest.raises(UserError, match="durability 'best'"):
        Store.open(tmp_path / "x.sqlite", durability="best")  # type: ignore[arg-type]


def test_full_durability_overrules_a_server_that_does_not_wait(postgres: Postgres) -> None:
    address = postgres.database()
    with Store.open(address) as store, store.writing() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar()
        connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    with Store.open(address) as store:
        assert of(store, "SHOW synchronous_commit") == "off"
    with Store.open(address, durability="full") as store:
        assert of(store, "SHOW synchronous_commit") == "on"


LINES = r"""sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb1 /home/local xfs rw 0 0
//box/share /mnt/my\040share cifs rw 0 0
me@there: /mnt/far fuse.sshfs rw 0 0
tmpfs /mnt/covered tmpfs rw 0 0
server:/x /mnt/covered nfs rw 0 0
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with these mounts."""
    table = tmp_path / "mounts"
    table.write_text(LINES + f"server:/data {tmp_path}/data nfs rw 0 0\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    (tmp_path / "data").mkdir()
    return tmp_path


def test_the_longest_mount_point_decides(machine: Path) -> None:
    for path, kind in (
        ("/home/ada/run", "nfs4"),
        ("/home/local/run", None),
        ("/home2/run", None),
        ("/mnt/my share/run/feedback.sqlite", "cifs"),
        ("/mnt/far", "fuse.sshfs"),
        ("/mnt/covered/run", "nfs"),
        ("/srv/run", None),
    ):
        assert mounts.network_file_system(Path(path)) == kind, path
    (machine / "link").symlink_to(machine / "data")
    assert mounts.network_file_system(machine / "link" / "feedback.sqlite") == "nfs"


def test_a_store_on_a_network_share_is_refused_in_words(machine: Path) -> None:
    with pytest.raises(UserError, match=r"network file system \(nfs\)") as refused:
        Store.open(machine / "data" / "feedback.sqlite")
    assert "feedback.url" in (refused.value.fix or "")
    assert not list((machine / "data").iterdir())
    with Store.open(machine / "feedback.sqlite") as store:
        assert store.counts()["votes"] == 0


def test_where_nobody_tells_of_mounts_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "nothing")
    assert mounts.file_system(tmp_path) is None
    Store.open(tmp_path / "feedback.sqlite").close()


def test_a_lost_connection_is_told_in_words_and_the_next_one_works(postgres: Postgres) -> None:
    with Store.open(postgres.database()) as store:

        def cut(connection: Connection) -> None:
            pid = connection.scalar(text("SELECT pg_backend_pid()"))
            with store.looking_up() as other:
                other.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))

        def by_sqlalchemy(connection: Connection) -> None:
            cut(connection)
            connection.execute(text("SELECT 1"))

        def by_the_driver(connection: Connection) -> None:
            cut(connection)
            together(connection, (RECOUNT, {"tasks": []}))

        for transaction in (store.reading, store.writing):
            for ask in (by_sqlalchemy, by_the_driver):
                with pytest.raises(UserError, match="connection to the server is lost"), transaction() as one:
                    ask(one)
                assert store.counts()["votes"] == 0
