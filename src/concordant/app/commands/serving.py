"""Commands that serve pages: on this machine to whoever reads the terminal, or to people with a password."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import FastAPI

from concordant.app.web.server import LOOPBACK, free_port
from concordant.errors import UserError
from concordant.feedback.accounts import Account, add_account, anybody_can_log_in
from concordant.feedback.store import Store


@dataclass(frozen=True)
class Door:
    """Where a server listens and who comes in."""

    host: str
    port: int
    owner: Account | None  # comes in with the link on the terminal; None where all come in with a password
    hosts: Sequence[str]  # names the server answers to

    def link(self, app: FastAPI) -> str:
        """The link with which to come in."""
        if self.owner is None:
            name = "THIS-MACHINE" if "*" in self.hosts else self.hosts[0]
            return f"http://{name}:{self.port}/login"
        return f"http://127.0.0.1:{self.port}/enter?token={app.state.owner_token}"


def door_of(store: Store, arguments: argparse.Namespace, run: object) -> Door:
    """The door that --share, --name and --port ask for. Errors: UserError for --share where nobody has a password."""
    host = "0.0.0.0" if arguments.share else "127.0.0.1"
    port = arguments.port or free_port(host)
    if not arguments.share:
        return Door(host, port, add_account(store, getpass.getuser(), "admin"), LOOPBACK)
    if not anybody_can_log_in(store):
        raise UserError(
            "nobody has a password yet, so everybody on the network could come in",
            where="--share",
            expected="an account with a password",
            fix=f"concordant label {run}, then People: invite yourself and open the link",
        )
    return Door(host, port, None, arguments.name or ["*"])
