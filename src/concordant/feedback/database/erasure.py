"""Forgetting a person who asks for it: who they are and what they wrote goes, what they decided stays.

Votes are kept for ever, and are about nobody once nothing says whose they are: counts, verdicts and agreement do not
change. Ids made from content would give a name away to whoever guesses it, so the labeler, what they wrote, the tasks
it stands in and their votes get new random ids, wherever they are named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from concordant.errors import UserError
from concordant.feedback.answering.finds import SOURCE, TURN
from concordant.feedback.database import schema
from concordant.feedback.database.queries import audit, chunks
from concordant.feedback.ids import new_id
from concordant.feedback.store import Store

PEOPLE = ("human", "end_user")
ERASED = "erased"  # begins the name of a labeler who was
SHORT = 3  # letters; a name of fewer is replaced where it stands by itself, not in the midst of a sentence

_ID = re.compile(r"^[0-9A-HJKMNP-TV-Z]{26}$")
_STRUCTURE = ("type", "verdict")  # words of a payload that are ours
# Columns in which people, or we about them, may have written a name; what models wrote is not about a labeler.
_WORDS = {
    "gold": ("explanation",),
    "project": ("name", "settings"),
    "audit": ("object", "detail"),
    "adjudication": ("reason", "payload", "votes_seen"),
    "vote": ("payload", "shown", "client"),
    "event": ("value", "client"),
    "api_token": ("name",),
    "account": ("settings",),
}
_IDS = {"gold": ("expected",), "lease": ("shown",), "task": ("policy",), "completion": ("producer",)}


@dataclass(frozen=True, slots=True)
class Found:
    """What a store holds of a person."""

    labelers: tuple[str, ...]  # ids
    accounts: tuple[str, ...]  # ids
    votes: int
    completions: int  # that they wrote
    prompts: int  # that they wrote to attack models

    @property
    def texts(self) -> int:
        """All that they wrote."""
        return self.completions + self.prompts


def find(store: Store, name: str) -> Found:
    """The person of this name, as a labeler or an account. Errors: UserError where there is none."""
    with store.reading() as connection:
        return _find(connection, name)


def _find(connection: Connection, name: str) -> Found:
    labeler, account, vote = schema.labeler.c, schema.account.c, schema.vote.c
    known = set(connection.scalars(select(labeler.id).where(labeler.name == name, labeler.kind.in_(PEOPLE))))
    known |= set(connection.scalars(select(account.labeler).where(account.name == name)))
    if not known:
        raise UserError(
            f"there is no person called {name!r}",
            where="the store",
            expected="the name of a labeler or an account, as the pages show it",
            fix="look it up on the page People, capitals included",
        )
    accounts = connection.scalars(select(account.id).where(account.labeler.in_(known)))
    voted = select(func.count()).select_from(schema.vote).where(vote.labeler.in_(known))
    wrote = select(func.count()).select_from(schema.completion).where(schema.completion.c.author.in_(known))
    return Found(
        tuple(sorted(known)),
        tuple(accounts),
        connection.scalar(voted) or 0,
        connection.scalar(wrote) or 0,
        len(_prompts(connection, known)),
    )


def _prompts(connection: Connection, labelers: set[str]) -> list[str]:
    """The prompts (ids) that they alone wrote in conversations of the red team."""
    event, completion = schema.event_table, schema.completion
    said = select(completion.c.item).join(event, event.c.completion == completion.c.id).join(schema.item)
    said = said.where(event.c.kind == TURN, schema.item.c.source == SOURCE)
    theirs = set(connection.scalars(said.where(event.c.labeler.in_(labelers))))
    return sorted(theirs - set(connection.scalars(said.where(event.c.labeler.not_in(labelers)))))


def erase(store: Store, name: str, *, by: str | None = None) -> Found:
    """Erase the person of this name, in one transaction; returns what there was. `by` (labeler id) is who did it.

    Gone are name, account, settings, reasons and rationales, diagnostics of their votes, the texts they wrote, what
    models answered to those, and their name in what others wrote. A copy of the store made before still has all of
    it, and so may the free pages of a database file until `Store.compact`. Errors: UserError where there is nobody
    of this name.
    """
    now = store.now()
    with store.writing() as connection, _changeable(connection):
        found = _find(connection, name)
        fresh = {key: new_id(now) for key in found.labelers}
        names = _names(connection, found, name)
        moved = dict(fresh)
        _forget_labelers(connection, fresh)
        moved |= _forget_texts(connection, set(fresh.values()), now)
        moved |= _forget_votes(connection, set(fresh.values()), now)
        _end_accounts(connection, found.accounts, fresh)
        _forget_explanations(connection, set(fresh.values()), moved)
        _rewrite(connection, moved, names)
        detail = {"votes": found.votes, "completions": found.completions, "accounts": len(found.accounts)}
        detail |= {"prompts": found.prompts} if found.prompts else {}
        for key in fresh.values():
            audit(connection, "erase", key, detail, now, labeler=moved.get(by or "", by))
    return found


@contextmanager
def _changeable(connection: Connection) -> Iterator[None]:
    """Lift the rules that refuse changes until the end of this block; where it fails they come back with all else."""
    for table in schema.APPEND_ONLY:
        for statement in schema.permissions(table.name, connection.dialect.name):
            connection.exec_driver_sql(statement)
    yield
    for table in schema.APPEND_ONLY:
        for statement in schema.refusals(table.name, connection.dialect.name):
            connection.exec_driver_sql(statement)


def _names(connection: Connection, found: Found, name: str) -> set[str]:
    labeler, account = schema.labeler.c, schema.account.c
    names = {name, *connection.scalars(select(labeler.name).where(labeler.id.in_(found.labelers)))}
    return names | set(connection.scalars(select(account.name).where(account.id.in_(found.accounts))))


def _move(connection: Connection, table: Table, moved: Mapping[str, str], changed: Mapping[str, Any]) -> None:
    """Give rows new ids and values: copies take their place in whatever points at them."""
    pointing = [
        key.parent
        for other in schema.metadata.sorted_tables
        for key in other.foreign_keys
        if key.column is table.c.id
    ]
    for old, new in moved.items():
        row = dict(connection.execute(select(table).where(table.c.id == old)).one()._mapping)
        apart = {"seq": -row["seq"]} if "seq" in row else {}  # unique; it is put back below
        connection.execute(insert(table), row | dict(changed) | apart | {"id": new})
        for column in pointing:
            connection.execute(update(column.table).where(column == old).values({column.name: new}))
        connection.execute(delete(table).where(table.c.id == old))
        if apart:
            connection.execute(update(table).where(table.c.id == new).values(seq=row["seq"]))


def _forget_labelers(connection: Connection, fresh: Mapping[str, str]) -> None:
    for old, new in fresh.items():
        connection.execute(delete(schema.lease).where(schema.lease.c.labeler == old))
        _move(connection, schema.labeler, {old: new}, {"name": f"{ERASED} {new}", "settings": {}})


def _forget_texts(connection: Connection, labelers: set[str], now: int) -> dict[str, str]:
    """Empty what they wrote, and what models answered to it; new ids by old, of the tasks in which it stands too."""
    completion, member = schema.completion.c, schema.task_completion.c
    prompts = {key: new_id(now) for key in _prompts(connection, labelers)}
    nothing = [{"role": "user", "content": ""}]
    _move(connection, schema.item, prompts, {"messages": nothing, "family": "", "source": "", "answer": ""})
    wrote = select(completion.id).where(
        completion.author.in_(labelers) | completion.item.in_(prompts.values())
    )
    texts = {key: new_id(now) for key in connection.scalars(wrote)}
    blank: dict[str, Any] = {"text": "", "sha256": schema.NO_TEXT, "tokens": None, "producer": {}}
    _move(connection, schema.completion, texts, blank)
    asked = select(member.task).where(member.completion.in_(texts.values())).distinct()
    tasks = {key: new_id(now) for key in connection.scalars(asked)}
    _move(connection, schema.task, tasks, {})
    return prompts | texts | tasks


def _forget_votes(connection: Connection, labelers: set[str], now: int) -> dict[str, str]:
    """Leave of their votes what they decided; new ids by old. A program may have put a name into its keys."""
    vote = schema.vote
    mine = vote.c.labeler.in_(labelers)
    ordered = select(vote).where(mine).order_by(vote.c.created, vote.c.id)
    rows = [dict(row._mapping) for row in connection.execute(ordered)]
    moved = {row["id"]: key for row, key in zip(rows, sorted(new_id(now) for _ in rows), strict=True)}
    connection.execute(delete(vote).where(mine))
    for row in rows:
        key = moved[row["id"]]
        row |= {
            "id": key,
            "idempotency_key": f"{ERASED}:{key}",
            "client": None,
            "payload": _wordless(row["payload"]),
        }
        row["supersedes"] = moved.get(row["supersedes"])
    for row in _chained(rows):
        connection.execute(insert(vote), row)
    return moved


def _chained(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each behind the one it supersedes."""
    later = {row["supersedes"]: row for row in rows}
    for row in rows:
        at: dict[str, Any] | None = row if row["supersedes"] is None else None
        while at is not None:
            yield at
            at = later.get(at["id"])


def _wordless(value: Any, key: str = "") -> Any:
    """A payload without what was written by hand: of its texts only ids and our own words are left."""
    if isinstance(value, dict):
        return {name: _wordless(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_wordless(one) for one in value if not isinstance(one, str) or _ID.match(one)]
    if isinstance(value, str) and key not in _STRUCTURE and not _ID.match(value):
        return ""
    return value


def _end_accounts(connection: Connection, accounts: Sequence[str], fresh: Mapping[str, str]) -> None:
    """No way in, no name; decisions and events of theirs say what was decided and not why."""
    for key in accounts:
        for table in (schema.session, schema.api_token, schema.invitation):
            connection.execute(delete(table).where(table.c.account == key))
        closed: dict[str, Any] = {
            "name": f"{ERASED} {key}",
            "password": None,
            "disabled": True,
            "settings": {},
        }
        connection.execute(update(schema.account).where(schema.account.c.id == key).values(**closed))
    for table, words in ((schema.adjudication, ("payload",)), (schema.event_table, ("value",))):
        mine = table.c.labeler.in_(fresh.values())
        for row in connection.execute(select(table).where(mine)).all():
            left = {name: _wordless(row._mapping[name]) for name in words}
            left |= {"reason": ""} if "reason" in table.c else {"client": None, "thread": None}
            connection.execute(update(table).where(table.c.id == row.id).values(**left))


def _forget_explanations(connection: Connection, labelers: set[str], moved: Mapping[str, str]) -> None:
    """Why an answer is known, where one of these labelers was the last to say so."""
    audit_table, gold = schema.audit.c, schema.gold
    made = select(audit_table.labeler, audit_table.detail)
    made = made.where(audit_table.verb == "make", audit_table.object == "known answer")
    last = {
        row.detail["task"]: row.labeler
        for row in connection.execute(made.order_by(audit_table.created, audit_table.id))
    }
    mine = [moved.get(key, key) for key, who in last.items() if who in labelers]
    for some in chunks(mine):
        connection.execute(update(gold).where(gold.c.task.in_(some)).values(explanation=""))


def _rewrite(connection: Connection, moved: Mapping[str, str], names: set[str]) -> None:
    """New ids for old ones inside values, and a mark for the names where people wrote them."""
    mark = _marked(names)
    for table in schema.metadata.sorted_tables:
        spoken, pointing = _WORDS.get(table.name, ()), _IDS.get(table.name, ())
        if not spoken and not pointing:
            continue
        keys = list(table.primary_key.columns)
        columns = [table.c[name] for name in (*spoken, *pointing)]
        for row in connection.execute(select(*keys, *columns)).all():
            old = {column.name: row._mapping[column.name] for column in columns}
            new = {
                name: _renamed(value, moved, mark if name in spoken else None) for name, value in old.items()
            }
            if new != old:
                here = [key == row._mapping[key.name] for key in keys]
                connection.execute(update(table).where(*here).values(**new))


def _marked(names: set[str]) -> Callable[[str], str]:
    long = sorted((re.escape(name) for name in names if len(name) >= SHORT), key=len, reverse=True)
    found = re.compile(rf"(?<!\w)(?:{'|'.join(long)})(?!\w)", re.IGNORECASE) if long else None
    folded = {name.casefold() for name in names}

    def mark(said: str) -> str:
        if said.strip().casefold() in folded:
            return ERASED
        return found.sub(ERASED, said) if found else said

    return mark


def _renamed(value: Any, moved: Mapping[str, str], mark: Callable[[str], str] | None, key: str = "") -> Any:
    if isinstance(value, dict):
        return {moved.get(name, name): _renamed(one, moved, mark, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, moved, mark) for one in value]
    if isinstance(value, str):
        if value in moved:
            return moved[value]
        return value if mark is None or key in _STRUCTURE else mark(value)
    return value
