"""No network: whoever tries to reach another machine fails the test."""

from __future__ import annotations

import socket
from typing import Any

import pytest

LOCAL = ("127.0.0.1", "::1", "localhost")


def forbid_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no socket of this process connect to anything but this machine."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def local(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in LOCAL:
            raise AssertionError(f"a connection to {address}")
        connect(self, address)

    def known(host: Any, *rest: Any, **named: Any) -> Any:
        if host not in (None, *LOCAL):
            raise AssertionError(f"a look-up of {host}")
        return resolve(host, *rest, **named)

    monkeypatch.setattr(socket.socket, "connect", local)
    monkeypatch.setattr(socket, "getaddrinfo", known)
