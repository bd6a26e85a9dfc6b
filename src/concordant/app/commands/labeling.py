"""label: people compare the answers of a run in the browser."""

from __future__ import annotations

import argparse
import getpass

from rich.console import Console

from concordant.app.runs import store_at
from concordant.errors import UserError

AGAIN = 200  # questions opened again where all have been answered


def label(arguments: argparse.Namespace, console: Console) -> int:
    """Serve the labeling page until Ctrl-C."""
    from concordant.app.label.server import LOOPBACK, create_app, free_port, serve
    from concordant.feedback.accounts import add_account, anybody_can_log_in
    from concordant.feedback.layout import DEFAULT_PROJECT
    from concordant.feedback.projects import projects
    from concordant.feedback.store import Store

    address = store_at(arguments.store)
    with Store.open(address) as store:
        local = not arguments.share
        if not local and not anybody_can_log_in(store):
            raise UserError(
                "nobody has a password yet, so everybody on the network could come in",
                where="--share",
                expected="an account with a password",
                fix=f"concordant label {arguments.store}, then People: invite yourself and open the link",
            )
        answered = [one for one in projects(store) if one.id == DEFAULT_PROJECT and one.finished == one.tasks]
        if arguments.more or answered:
            n = store.ask_again(DEFAULT_PROJECT, arguments.more or AGAIN)
            console.print(f"{n} answered questions want one more labeler", highlight=False)
        owner = add_account(store, getpass.getuser(), "admin") if local else None
        host = "127.0.0.1" if local else "0.0.0.0"
        port = arguments.port or free_port(host)
        app = create_app(store, owner=owner, hosts=LOOPBACK if local else arguments.name or ["*"])
        where = f"http://{'127.0.0.1' if local else (arguments.name or [host])[0]}:{port}"
        open_at = f"{where}/enter?token={app.state.owner_token}" if local else f"{where}/login"
        console.print(f"labeling {address}", markup=False, highlight=False)
        console.print(f"open {open_at}", markup=False, highlight=False)
        console.print("Votes are kept as they come. Ctrl-C ends the server.", highlight=False)
        serve(app, host, port)
    return 0
