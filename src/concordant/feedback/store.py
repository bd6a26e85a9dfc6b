"""The feedback store of a run: prompts, completions, tasks and votes, in an SQLite file or in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from sqlite3 import OperationalError
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.leasing import (
    LEASE_MS,
    give_leases,
    hand_in,
    lock_tasks,
    of_project,
    prompt_from,
    recount,
    with_questions,
)
from concordant.feedback.answering.statements import DECIDED, LIVE
from concordant.feedback.asking.overlap import settle
from concordant.feedback.asking.rubric import default_rubric
from concordant.feedback.asking.tasks import TasksCreated, write_demonstration_tasks, write_tasks
from concordant.feedback.database import schema
from concordant.feedback.database.engine import (
    CHECKPOINT_EVERY,
    Durability,
    along_indexes,
    at_one_moment,
    checkpoint,
    connect,
    database_errors,
    turn,
    without_transaction,
)
from concordant.feedback.database.layout import DEFAULT_PROJECT, prepare, project_row
from concordant.feedback.database.queries import audit, chunks, insert_missing, known
from concordant.feedback.ids import content_id, new_id, now_ms
from concordant.feedback.missing import no_labeler
from concordant.feedback.votes import COMPARED, VERDICT_TYPES, Lease, Receipt, Submission, Vote

Sampled = tuple[Prompt, Completion, Mapping[str, Any], bool | None]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An open task: how many labelers it still wants, and whose answer it has."""

    task_id: str
    missing: int
    answered_by: frozenset[str]


class Store:
    """Prompts, completions, tasks, leases and votes. Open one with `Store.open`.

    Every method is one transaction; what it returned survives the end of the program. Adding what is already
    there adds nothing.
    """

    def __init__(self, engine: Engine, writer: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._reader = at_one_moment(engine)
        self._writer = writer
        self._lookup = without_transaction(self._writer)
        self._clock = clock
        self._writes = count(1)

    @classmethod
    def open(
        cls, address: str | Path, *, durability: Durability = "normal", clock: Callable[[], int] = now_ms
    ) -> Store:
        """The store at `address`, a file or a database, made if it is not there; `clock` tells UTC ms.

        With `durability` "full" what a method returned survives a power cut. Errors: UserError for an address
        that cannot hold a store, or a store of another layout.
        """
        engine = connect(address, durability)
        with database_errors(engine), turn(engine), engine.begin() as connection:
            prepare(connection, engine, clock())
        return cls(engine, along_indexes(engine, durability), clock)

    def now(self) -> int:
        """UTC ms, as the store's clock tells."""
        return self._clock()

    def close(self) -> None:
        """Close the connections; the write-ahead log goes into the file."""
        self._engine.dispose()
        self._writer.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement."""
        writer = self._writer
        with database_errors(writer), writer.connect() as connection:
            with turn(writer), connection.begin():
                yield connection
            if next(self._writes) % CHECKPOINT_EVERY == 0:
                checkpoint(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the store and never waits for writers."""
        with database_errors(self._engine), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def looking_up(self) -> Iterator[Connection]:
        """A connection for statements on what never changes, each by itself."""
        with database_errors(self._lookup), self._lookup.connect() as connection:
            yield connection

    def compact(self) -> bool:
        """Write an SQLite file anew, without what its free pages remember; False where others hold it just now.

        PostgreSQL does this by itself, in its own time.
        """
        if self._engine.dialect.name != "sqlite":
            return True
        with turn(self._engine), self._engine.connect() as connection:
            connection.rollback()
            driver: Any = connection.connection.driver_connection
            try:
                driver.execute("VACUUM")
                busy: int = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            except OperationalError:
                return False
        return not busy

    # What there is to judge

    def add_project(
        self, name: str, purpose: str = "training", settings: Mapping[str, Any] | None = None
    ) -> str:
        """A project of this name and purpose; return its id, the same for the same name and purpose.

        `settings` are those of a new project; one that is there keeps its own.
        """
        if purpose not in schema.PROJECT_PURPOSES:
            raise UserError(
                f"a project for {purpose!r}",
                where=f"the project {name!r}",
                expected=", ".join(schema.PROJECT_PURPOSES),
                fix="take one of these",
            )
        key = content_id("project", name, purpose)
        row = project_row(key, name, self._clock(), purpose) | {"settings": dict(settings or {})}
        with self.writing() as connection:
            insert_missing(connection, schema.project, [row])
        return key

    def add_items(self, prompts: Sequence[Prompt]) -> list[str]:
        """Keep `prompts`; return their ids, one for each."""
        with self.writing() as connection:
            self._add_items(connection, prompts)
        return [prompt.id for prompt in prompts]

    def _add_items(self, connection: Connection, prompts: Sequence[Prompt]) -> None:
        now = self._clock()
        distinct = {prompt.id: prompt for prompt in prompts}
        insert_missing(connection, schema.item, [_item_row(prompt, now) for prompt in distinct.values()])

    def add_completions(
        self, sampled: Sequence[Sampled], *, source: str = "policy", author: str | None = None
    ) -> list[str]:
        """Keep completions given as (prompt, completion, producer, ended); return their ids, one for each.

        `producer` says what made it (policy, checkpoint, sampling, seed) and is part of the id; `ended` says
        whether the model finished, None where nobody knows; `author` is the labeler who wrote it, if one did.
        """
        now = self._clock()
        rows = [_completion_row(*one, source, author, now) for one in sampled]
        with self.writing() as connection:
            self._add_items(connection, [one[0] for one in sampled])
            insert_missing(connection, schema.completion, rows)
        return [row["id"] for row in rows]

    def create_tasks(
        self,
        kind: str,
        groups: Sequence[Sequence[str]],
        *,
        need: int = 1,
        policy: Mapping[str, Any] | None = None,
        rubric: Mapping[str, Any] | None = None,
        priority: float = 0.0,
        project: str = DEFAULT_PROJECT,
    ) -> TasksCreated:
        """Ask `need` labelers to compare, to rate or to edit the completions (ids) of each group.

        The same completions under the same rubric in the same project are one task; asking for it
        again with a larger `need` opens it for more labelers. Completions of one group with equal text are
        shown once; `TasksCreated` counts them. Kinds: "pairwise" (two completions), "ranking" and "rating" (up to
        nine), "edit" (one). Without `rubric` it is `default_rubric` of the kind.
        """
        shared = {
            "kind": kind,
            "need": need,
            "priority": priority,
            "policy": dict(policy or {}),
            "project": project,
        }
        with self.writing() as connection:
            return write_tasks(connection, groups, shared, rubric or default_rubric(kind), self._clock())

    def create_demonstration_tasks(
        self,
        prompts: Sequence[Prompt],
        *,
        need: int = 1,
        policy: Mapping[str, Any] | None = None,
        rubric: Mapping[str, Any] | None = None,
        priority: float = 0.0,
        project: str = DEFAULT_PROJECT,
    ) -> TasksCreated:
        """Ask `need` labelers to write an answer to each prompt; see `create_tasks`."""
        asked = rubric or default_rubric("demonstration")
        shared = {"need": need, "priority": priority, "policy": dict(policy or {}), "project": project}
        with self.writing() as connection:
            self._add_items(connection, prompts)
            items = [prompt.id for prompt in prompts]
            return write_demonstration_tasks(connection, items, shared, asked, self._clock())

    def answered(self, project: str) -> list[str]:
        """Tasks (ids) of a project that have all the answers they want and no decision, the fewest answers first."""
        task = schema.task.c
        done = select(task.id).where(task.project == project, task.state == "done", ~DECIDED)
        with self.reading() as connection:
            return list(connection.scalars(done.order_by(task.n_done, task.random_key)))

    def comparisons(self, tasks: Sequence[str]) -> list[tuple[Prompt, list[Completion]]]:
        """Prompt and completions of each of these tasks (ids), in order."""
        with self.reading() as connection:
            return read_comparisons(connection, tasks)

    def ask_again(self, tasks: Mapping[str, Mapping[str, Any]]) -> int:
        """Want one more labeler for each of these answered tasks (ids); kept with it is why. Returns how many."""
        task = schema.task
        with self.writing() as connection:
            for key, why in tasks.items():
                policy = connection.scalar(select(task.c.policy).where(task.c.id == key)) or {}
                more = {"need": task.c.n_done + 1, "policy": {**policy, "again": dict(why)}}
                connection.execute(update(task).where(task.c.id == key).values(**more))
            recount(connection, list(tasks))
            if tasks:
                audit(connection, "ask again", "task", {"n": len(tasks)}, self._clock())
        return len(tasks)

    def ask_under(
        self, rubric: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]], project: str
    ) -> int:
        """Ask the same of one labeler under another rubric; `tasks` as in `ask_again`. Returns how many are new."""
        asked = self.comparisons(list(tasks))
        with self.reading() as connection:
            kinds = {
                row.id: row.kind
                for some in chunks(list(tasks))
                for row in connection.execute(
                    select(schema.task.c.id, schema.task.c.kind).where(schema.task.c.id.in_(some))
                )
            }
        added = 0
        with self.writing() as connection:
            for (key, why), (_, completions) in zip(tasks.items(), asked, strict=True):
                if kinds[key] in COMPARED:
                    shared = {"kind": kinds[key], "need": 1, "priority": 0.0, "policy": dict(why)}
                    groups = [[one.id for one in completions]]
                    made = write_tasks(
                        connection, groups, shared | {"project": project}, rubric, self._clock()
                    )
                    added += made.added
        return added

    # Who judges

    def add_labeler(self, name: str, kind: str, settings: Mapping[str, Any] | None = None) -> str:
        """Register a labeler; return its id, the same for the same name, kind and settings."""
        return self.add_labelers([(name, kind, settings or {})])[0]

    def add_labelers(self, labelers: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
        """Register labelers given as (name, kind, settings), all at once; return their ids, one for each."""
        now = self._clock()
        rows = [_labeler_row(*one, now) for one in labelers]
        with self.writing() as connection:
            insert_missing(connection, schema.labeler, list({row["id"]: row for row in rows}.values()))
        return [row["id"] for row in rows]

    def lease(self, labeler: str, *, project: str | None = None) -> Lease | None:
        """The task this labeler is on, or else its next; None when there is nothing for it to do."""
        return next(iter(self.lease_many(labeler, 1, project=project)), None)

    def lease_many(
        self, labeler: str, n: int, *, among: Sequence[str] | None = None, project: str | None = None
    ) -> list[Lease]:
        """Up to `n` leases, those still held first; limited to tasks `among` these (ids), or of a project."""
        with self.writing() as connection:
            held = give_leases(connection, labeler, n, self._clock(), among, project)
        with self.looking_up() as connection:
            if not held and not known(connection, schema.labeler.c.id, [labeler]):
                raise no_labeler(labeler)
            return with_questions(connection, held)

    def release(self, leases: Sequence[Lease]) -> None:
        """Give leases back unanswered, so that others can have the tasks at once."""
        tokens = [lease.token for lease in leases]
        with self.writing() as connection:
            for some in chunks(tokens):
                connection.execute(delete(schema.lease).where(schema.lease.c.token.in_(some)))

    def extend(self, token: str, labeler: str) -> int | None:
        """Hold a lease for another quarter of an hour; until when (UTC ms), or None where there is no such lease."""
        now = self._clock()
        expires = now + LEASE_MS
        mine = (schema.lease.c.token == token) & (schema.lease.c.labeler == labeler)
        mine &= schema.lease.c.expires > now  # one that ran out may have gone to somebody else
        with self.writing() as connection:
            held = connection.execute(update(schema.lease).where(mine).values(expires=expires))
        return expires if held.rowcount else None

    def submit(self, token: str, key: str, vote: Vote, *, labeler: str | None = None) -> Receipt:
        """Hand in one vote under the lease `token`; the same `key` twice is kept once.

        With `labeler` the lease has to be its own.
        """
        return self.submit_many([Submission(token, key, vote)], labeler=labeler)[0]

    def submit_many(self, submissions: Sequence[Submission], *, labeler: str | None = None) -> list[Receipt]:
        """Hand in many votes, all or none; return a receipt for each."""
        with self.writing() as connection:
            return hand_in(connection, submissions, self._clock(), labeler)

    def task_of(self, vote_id: str) -> str:
        """The task a vote answers. Errors: UserError where there is no such vote."""
        with self.reading() as connection:
            found = connection.scalar(select(schema.vote.c.task).where(schema.vote.c.id == vote_id))
        if found is None:
            raise UserError(
                f"no vote has the id {vote_id}",
                where="the votes of this store",
                expected="the id of a receipt",
                fix="take the id that came back for the vote",
            )
        return str(found)

    def project_of_task(self, task_id: str) -> str:
        """The project in which a task is asked. Errors: UserError where there is no such task."""
        with self.reading() as connection:
            found = connection.scalar(select(schema.task.c.project).where(schema.task.c.id == task_id))
        if found is None:
            raise UserError(
                f"no task has the id {task_id}",
                where="the tasks of this store",
                expected="the id of a lease's task",
                fix="ask for a lease, and take the task it names",
            )
        return str(found)

    def retract(self, vote_id: str, *, labeler: str | None = None) -> str:
        """Take a vote back by a newer one that says so; return its id. The task may open again.

        With `labeler` only a vote of its own. Errors: UserError where there is no such live vote.
        """
        now = self._clock()
        with self.writing() as connection:
            live = select(schema.vote).where(schema.vote.c.id == vote_id, LIVE)
            if labeler is not None:
                live = live.where(schema.vote.c.labeler == labeler)
            row = connection.execute(live).one_or_none()
            if row is not None:
                lock_tasks(connection, [row.task])
                row = connection.execute(live).one_or_none()
            if row is None and (earlier := _retraction(connection, vote_id, labeler)) is not None:
                return earlier  # asked for twice: the first answer may have been lost
            if row is None:
                raise UserError(
                    f"no live vote has the id {vote_id}",
                    where="the votes of this store" if labeler is None else f"the votes of {labeler}",
                    expected="a vote that was not superseded or retracted",
                    fix="load the page again; nothing was changed",
                )
            again = dict(row._mapping) | {
                "id": new_id(now),
                "type": "retract",
                "payload": {"type": "retract"},
                "supersedes": vote_id,
                "idempotency_key": f"retract:{vote_id}",
                "client": None,
                "created": now,
            }
            connection.execute(insert(schema.vote), again)
            recount(connection, [row.task])
            settle(connection, [row.task])
            audit(connection, "retract", vote_id, {"task": row.task}, now, labeler=row.labeler)
        return str(again["id"])

    # How far it is

    def unfinished(self, project: str | None = None) -> list[Unfinished]:
        """Open comparisons of a project, or of all whose votes are for training, in the order of creation.

        What is to be written is not among them: only people write.
        """
        task, vote = schema.task.c, schema.vote.c
        answered: dict[str, set[str]] = {}
        with self.reading() as connection:
            here = (task.state == "open") & task.kind.in_(COMPARED) & of_project(project)
            wanted = select(task.id, task.need, task.n_done).where(here).order_by(task.seq)
            tasks = connection.execute(wanted).all()
            said = select(vote.task, vote.labeler).join(schema.task).where(here, LIVE)
            for row in connection.execute(said):
                answered.setdefault(row.task, set()).add(row.labeler)
        return [
            Unfinished(row.id, row.need - row.n_done, frozenset(answered.get(row.id, ()))) for row in tasks
        ]

    def counts(self) -> dict[str, int]:
        """How many of everything: items, completions and labelers; of what is for training, tasks and votes."""
        task, vote = schema.task, schema.vote
        whole = (schema.item, schema.completion, schema.labeler, schema.lease)
        votes = (
            select(func.count())
            .select_from(vote)
            .join(task, task.c.id == vote.c.task)
            .where(of_project(None))
        )
        with self.reading() as connection:
            found = {
                f"{table.name}s": connection.scalar(select(func.count()).select_from(table))
                for table in whole
            }
            by_state = select(task.c.state, func.count()).where(of_project(None)).group_by(task.c.state)
            states = {row[0]: row[1] for row in connection.execute(by_state)}
            found["tasks"] = sum(states.values())
            found["votes"] = connection.scalar(votes)
            found["live_votes"] = connection.scalar(votes.where(LIVE))
            found["verdicts"] = connection.scalar(votes.where(LIVE, vote.c.type.in_(VERDICT_TYPES)))
        found |= {f"tasks_{state}": states.get(state, 0) for state in schema.TASK_STATES}
        return {name: int(count or 0) for name, count in found.items()}


def read_comparisons(connection: Connection, tasks: Sequence[str]) -> list[tuple[Prompt, list[Completion]]]:
    """Prompt and completions of each of these tasks (ids), in order."""
    task, member, completion = schema.task, schema.task_completion.c, schema.completion.c
    asked: dict[str, Prompt] = {}
    answers: dict[str, list[Completion]] = {}
    for some in chunks(tasks):
        prompts = select(task.c.id.label("task"), schema.item).join(schema.item)
        for row in connection.execute(prompts.where(task.c.id.in_(some))):
            asked[row.task] = prompt_from(row)
        texts = select(member.task, completion.id, completion.text, completion.tokens)
        texts = texts.join(schema.completion, completion.id == member.completion)
        for row in connection.execute(texts.where(member.task.in_(some)).order_by(member.position)):
            tokens = None if row.tokens is None else tuple(row.tokens)
            answers.setdefault(row.task, []).append(Completion(row.text, tokens, row.id))
    return [(asked[key], answers.get(key, [])) for key in tasks]


def _retraction(connection: Connection, vote_id: str, labeler: str | None) -> str | None:
    """The retraction that has taken this vote back, by this labeler where one is given."""
    later = schema.vote.c
    query = select(later.id).where(later.supersedes == vote_id, later.type == "retract")
    return connection.scalar(query if labeler is None else query.where(later.labeler == labeler))


def _item_row(prompt: Prompt, now: int) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "project": DEFAULT_PROJECT,
        "messages": [message.as_dict() for message in prompt.messages],
        "family": prompt.family,
        "source": prompt.where,
        "answer": prompt.answer,
        "created": now,
    }


def _labeler_row(name: str, kind: str, settings: Mapping[str, Any], now: int) -> dict[str, Any]:
    if kind not in schema.LABELER_KINDS:
        raise UserError(
            f"labeler kind {kind!r}",
            where=f"the labeler {name!r}",
            expected=", ".join(schema.LABELER_KINDS),
            fix="take one of these",
        )
    key = content_id("labeler", kind, name, dict(settings))
    return {"id": key, "kind": kind, "name": name, "settings": dict(settings), "created": now}


def _completion_row(
    prompt: Prompt,
    completion: Completion,
    producer: Mapping[str, Any],
    ended: bool | None,
    source: str,
    author: str | None,
    now: int,
) -> dict[str, Any]:
    said = completion.text if completion.tokens is None else completion.tokens
    return {
        "id": content_id("completion", prompt.id, said, producer, author),
        "item": prompt.id,
        "text": completion.text,
        "sha256": sha256(completion.text.encode()).hexdigest(),
        "tokens": completion.tokens,
        "ended": ended,
        "producer": dict(producer),
        "source": source,
        "author": author,
        "created": now,
    }
