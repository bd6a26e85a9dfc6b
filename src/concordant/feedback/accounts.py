"""Who may log in: accounts with a role, invitations that work once, sessions, and tokens for programs.

Secrets are shown once and kept as hashes: passwords by argon2id, what is random anyway by SHA-256.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, insert, select, update

from concordant.errors import UserError
from concordant.feedback.database import schema
from concordant.feedback.database.queries import audit
from concordant.feedback.ids import new_id
from concordant.feedback.names import checked_name
from concordant.feedback.store import Store

DAY_MS = 24 * 60 * 60 * 1000
SESSION_MS = 14 * DAY_MS
INVITATION_MS = 7 * DAY_MS
SHORTEST_PASSWORD = 10
SCOPES = ("read", "vote", "lead")
RANKS = {"viewer": 0, "labeler": 1, "lead": 2, "admin": 3}

_hasher = PasswordHasher()
_NOBODY = _hasher.hash(
    "somebody who does not exist"
)  # so that an unknown name takes as long as a wrong password


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has come in; `scopes` is None for a person, and limits a program with a token."""

    id: str
    name: str
    role: str
    labeler: str
    settings: Mapping[str, Any]
    scopes: frozenset[str] | None = None

    def may(self, role: str, scope: str) -> bool:
        """Whether this account has at least `role`, and its token `scope`."""
        return RANKS[self.role] >= RANKS[role] and (self.scopes is None or scope in self.scopes)


def digest(secret: str) -> str:
    """What is kept of a random secret."""
    return sha256(secret.encode()).hexdigest()


def add_account(store: Store, name: str, role: str) -> Account:
    """The account of this name, made with `role` if it is not there. It cannot log in before it has a password."""
    name = checked_name(name, "an account")
    if role not in schema.ROLES:
        raise UserError(
            f"a role {role!r}",
            where=f"the account of {name}",
            expected=", ".join(schema.ROLES),
            fix="take one of these",
        )
    labeler = store.add_labeler(name, "human")
    with store.writing() as connection:
        row = connection.execute(select(schema.account).where(schema.account.c.name == name)).one_or_none()
        if row is None:
            values = {
                "id": new_id(store.now()),
                "labeler": labeler,
                "name": name,
                "role": role,
                "disabled": False,
                "settings": {},
                "created": store.now(),
            }
            connection.execute(insert(schema.account), values)
            audit(connection, "create", "account", {"name": name, "role": role}, store.now())
            row = connection.execute(select(schema.account).where(schema.account.c.name == name)).one()
    return _account(row)


def invite(store: Store, account: Account) -> str:
    """A token with which this account can set a password, once and within a week; shown once, kept as a hash."""
    token = secrets.token_urlsafe(24)
    now = store.now()
    with store.writing() as connection:
        row = {
            "id": new_id(now),
            "account": account.id,
            "digest": digest(token),
            "expires": now + INVITATION_MS,
            "created": now,
        }
        connection.execute(insert(schema.invitation), row)
        audit(connection, "invite", "account", {"name": account.name}, now)
    return token


def accept(store: Store, token: str, password: str) -> Account:
    """Set the password of an invited account; what was open under the old one ends.

    Errors: UserError for a used or old link, or a short password.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise UserError(
            "this password is too short",
            where="the password",
            expected=f"at least {SHORTEST_PASSWORD} characters",
            fix="choose a longer one; several words are easier to keep in mind",
        )
    now, found = store.now(), schema.invitation.c
    open_ones = (found.digest == digest(token)) & found.used.is_(None) & (found.expires > now)
    with (
        store.reading() as connection
    ):  # a hash costs memory and time, and is not for whoever makes up a link
        if connection.scalar(select(found.id).where(open_ones)) is None:
            raise _stale()
    hashed = _hasher.hash(password)
    with store.writing() as connection:
        taken = connection.execute(update(schema.invitation).where(open_ones).values(used=now))
        if taken.rowcount != 1:
            raise _stale()
        key = connection.scalar(select(found.account).where(found.digest == digest(token)))
        connection.execute(update(schema.account).where(schema.account.c.id == key).values(password=hashed))
        mine = (found.account == key) & found.used.is_(None)
        connection.execute(update(schema.invitation).where(mine).values(used=now))
        _end_access(connection, str(key), now)
        audit(connection, "password", "account", {"account": key}, now)
        row = connection.execute(select(schema.account).where(schema.account.c.id == key)).one()
    return _account(row)


def _stale() -> UserError:
    return UserError(
        "this link has been used, or is too old",
        where="the link of an invitation",
        expected=f"one of the last {INVITATION_MS // DAY_MS} days that nobody has used",
        fix="ask for a new one",
    )


def log_in(store: Store, name: str, password: str) -> Account | None:
    """The account of this name, if the password is right; an unknown name takes as long as a wrong password."""
    with store.reading() as connection:
        row = connection.execute(select(schema.account).where(schema.account.c.name == name)).one_or_none()
    usable = row is not None and row.password is not None and not row.disabled
    try:
        _hasher.verify(row.password if row is not None and usable else _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return None
    return _account(row) if row is not None and usable else None


def open_session(store: Store, account: Account) -> str:
    """A secret for the cookie of somebody who has logged in."""
    token, now = secrets.token_urlsafe(32), store.now()
    row = {"digest": digest(token), "account": account.id, "expires": now + SESSION_MS, "created": now}
    with store.writing() as connection:
        connection.execute(insert(schema.session), row)
    return token


def close_session(store: Store, token: str) -> None:
    """Log out."""
    with store.writing() as connection:
        connection.execute(schema.session.delete().where(schema.session.c.digest == digest(token)))


def of_session(store: Store, token: str) -> Account | None:
    """Whose session this is."""
    mine = (schema.session.c.digest == digest(token)) & (schema.session.c.expires > store.now())
    query = select(schema.account).join(schema.session, schema.session.c.account == schema.account.c.id)
    with store.reading() as connection:
        row = connection.execute(query.where(mine, ~schema.account.c.disabled)).one_or_none()
    return None if row is None else _account(row)


def _end_access(connection: Connection, account_id: str, now: int) -> None:
    """End the sessions and tokens of an account."""
    connection.execute(schema.session.delete().where(schema.session.c.account == account_id))
    mine = (schema.api_token.c.account == account_id) & schema.api_token.c.revoked.is_(None)
    connection.execute(update(schema.api_token).where(mine).values(revoked=now))


def make_token(
    store: Store, account: Account, name: str, scopes: Collection[str], days: int
) -> tuple[str, str]:
    """Id and text of a token for a program, for so many days; the text is shown once and kept as a hash."""
    strange = sorted(set(scopes) - set(SCOPES))
    if strange or not scopes:
        raise UserError(
            f"a token for {', '.join(strange) or 'nothing'}",
            where="scopes",
            expected=", ".join(SCOPES),
            fix="name one of these or several",
        )
    if not 1 <= days <= 366:
        raise UserError(
            f"a token for {days} days", where="days", expected="1 to 366", fix="make a new one every year"
        )
    token, now = f"cc_{secrets.token_urlsafe(32)}", store.now()
    row = {
        "id": new_id(now),
        "account": account.id,
        "name": name,
        "digest": digest(token),
        "scopes": sorted(set(scopes)),
        "expires": now + days * DAY_MS,
        "created": now,
    }
    with store.writing() as connection:
        connection.execute(insert(schema.api_token), row)
        audit(connection, "token", "account", {"account": account.id, "scopes": row["scopes"]}, now)
    return str(row["id"]), token


def of_token(store: Store, token: str) -> Account | None:
    """Whose token this is."""
    known = schema.api_token.c
    alive = (known.digest == digest(token)) & (known.expires > store.now()) & known.revoked.is_(None)
    query = select(schema.account, known.scopes).join(schema.api_token, known.account == schema.account.c.id)
    with store.reading() as connection:
        row = connection.execute(query.where(alive, ~schema.account.c.disabled)).one_or_none()
    return None if row is None else _account(row, frozenset(row.scopes))


def revoke(store: Store, token_id: str, account: Account) -> bool:
    """End a token of this account before its time; False where there is none."""
    known = schema.api_token.c
    mine = (known.id == token_id) & (known.account == account.id) & known.revoked.is_(None)
    with store.writing() as connection:
        ended = connection.execute(update(schema.api_token).where(mine).values(revoked=store.now()))
        audit(connection, "revoke", "token", {"token": token_id, "ended": ended.rowcount}, store.now())
    return ended.rowcount == 1


def set_disabled(store: Store, account_id: str, disabled: bool) -> None:
    """Close an account, with its sessions and tokens, or open it again; its votes stay."""
    with store.writing() as connection:
        if disabled:
            _end_access(connection, account_id, store.now())
        mine = schema.account.c.id == account_id
        connection.execute(update(schema.account).where(mine).values(disabled=disabled))
        audit(
            connection, "disable" if disabled else "enable", "account", {"account": account_id}, store.now()
        )


def save_settings(store: Store, account: Account, changed: Mapping[str, Any]) -> None:
    """Remember what somebody has set for themselves, such as keys."""
    with store.writing() as connection:
        mine = schema.account.c.id == account.id
        now_set = connection.scalar(select(schema.account.c.settings).where(mine)) or {}
        connection.execute(update(schema.account).where(mine).values(settings={**now_set, **changed}))


def accounts(store: Store) -> list[Row[Any]]:
    """All accounts, without their passwords: `can_log_in` says whether there is one."""
    known = schema.account.c
    columns = (known.id, known.name, known.role, known.labeler, known.disabled, known.created)
    query = select(*columns, known.password.is_not(None).label("can_log_in"))
    with store.reading() as connection:
        return list(connection.execute(query.order_by(known.name)))


def anybody_can_log_in(store: Store) -> bool:
    """Whether there is an account with a password."""
    return any(row.can_log_in and not row.disabled for row in accounts(store))


def _account(row: Row[Any], scopes: frozenset[str] | None = None) -> Account:
    return Account(row.id, row.name, row.role, row.labeler, row.settings, scopes)
