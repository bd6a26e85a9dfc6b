"""What accounts, invitations and tokens refuse, in words that say what to do."""

from __future__ import annotations

import pytest

from clocks import Clock
from concordant.feedback import accounts
from concordant.feedback.accounts import INVITATION_MS, accept, add_account, invite, make_token
from concordant.feedback.store import Store
from telling import tells

PASSWORD = "correct horse battery"


def test_a_role_that_is_none(store: Store) -> None:
    with tells("a role 'boss'", where="ada", expected="lead", fix="one of these"):
        add_account(store, "ada", "boss")


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "nul\x00"])
def test_a_name_of_no_use(store: Store, name: str) -> None:
    with tells("a name of no use", where="an account", expected="1 to 80 characters", fix="another"):
        add_account(store, name, "labeler")
    assert not accounts.accounts(store)


def test_a_password_that_is_too_short(store: Store) -> None:
    token = invite(store, add_account(store, "ada", "labeler"))
    with tells("this password is too short", where="password", expected="10 characters", fix="longer"):
        accept(store, token, "short")
    assert accept(store, token, PASSWORD).name == "ada"  # the link is not used up


def test_a_link_that_is_old_used_or_made_up(store: Store, clock: Clock) -> None:
    account = add_account(store, "ada", "labeler")
    used, old = invite(store, account), invite(store, account)
    accept(store, used, PASSWORD)
    fresh = invite(store, account)
    clock.now += INVITATION_MS + 1
    for token in (used, old, fresh, "made up"):
        with tells("this link has been used", where="invitation", expected="7 days", fix="ask for a new one"):
            accept(store, token, PASSWORD)


def test_a_link_that_somebody_else_used_a_moment_ago(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passwords for one link, both hashed before either is written."""
    token = invite(store, add_account(store, "ada", "labeler"))
    hashed = accounts._hasher.hash

    class Slow:
        def hash(self, password: str) -> str:
            monkeypatch.undo()
            accept(store, token, PASSWORD)
            return hashed(password)

    monkeypatch.setattr(accounts, "_hasher", Slow())
    with tells("this link has been used"):
        accept(store, token, "the other password")
    assert accounts.log_in(store, "ada", PASSWORD) is not None


@pytest.mark.parametrize(
    ("scopes", "days", "what", "where"),
    [
        (["vote", "rule"], 7, "a token for rule", "scopes"),
        ([], 7, "a token for nothing", "scopes"),
        (["vote"], 0, "a token for 0 days", "days"),
        (["vote"], 367, "a token for 367 days", "days"),
    ],
)
def test_a_token_that_is_none(store: Store, scopes: list[str], days: int, what: str, where: str) -> None:
    account = add_account(store, "ada", "labeler")
    with tells(what, where=where, expected="366" if where == "days" else "read, vote, lead"):
        make_token(store, account, "a program", scopes, days)
