"""The votes of a store as JSON lines, each with all that it is about, and back into a store.

Behind them stand the known answers (gold), the decisions of leads and the events, in rows of the same form.

Retracted and superseded votes are among them: votes are kept for ever. Ids are made from content, so that votes
which come back are about the same tasks, completions and labelers, and a second import adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import is_list
from concordant.data.types import Completion, Prompt, messages_from
from concordant.feedback.answering.labelers import Identity
from concordant.feedback.asking.project_settings import config_of
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.database.schema import (
    COMPLETION_SOURCES,
    LABELER_KINDS,
    PROJECT_PURPOSES,
    completion,
    item,
    labeler,
    project,
    rubric_version,
    task,
    task_completion,
    vote,
)
from concordant.feedback.exchange.ballots import BESIDES, Answer, Ballot, Beside, Format, Question, each
from concordant.feedback.ids import content_id
from concordant.feedback.store import Store
from concordant.feedback.votes import COMPARED

NAME = "votes"
VERSION = 2
ANSWERABLE = (*COMPARED, "edit", "demonstration")
READ = (1, VERSION)  # before 2 there were votes alone, and nothing of projects
BESIDE = "beside"  # the column that says of a row that it is no vote
MARK = "concordant_votes"  # the column that shows the format; its value is the version
NOBODY = Identity("", "end_user", {})  # of events that are nobody's
OWN = ("id", "pass", "client", "idempotency_key", "supersedes", "extra", "created")


Rows = Mapping[str, Mapping[str, Any]]  # rows by id


@dataclass(frozen=True)
class _Kept:
    """The tables of a store from which rows are put together."""

    labelers: Rows
    items: Rows
    completions: Rows
    rubrics: Rows
    tasks: Rows
    projects: Rows
    members: Mapping[str, Sequence[str]]  # completions by task

    def question(self, key: str) -> dict[str, Any]:
        """A task with its prompt and completions."""
        asked = self.tasks[key]
        settings = {name: asked[name] for name in ("id", "kind", "need", "priority", "policy")}
        settings |= {"withdrawn": True} if asked["state"] == "cancelled" else {}
        settings |= {"rubric": self.rubrics[asked["rubric_version"]]["body"]}
        if asked["project"] not in (None, DEFAULT_PROJECT):
            here = self.projects[asked["project"]]
            settings |= {"project": {name: here[name] for name in ("name", "purpose", "settings")}}
        return self.about(asked["item"], self.members.get(key, ())) | {"task": settings}

    def about(self, item_id: str, completion_ids: Sequence[str]) -> dict[str, Any]:
        """A prompt and completions of it."""
        asked = self.items[item_id]
        return {
            MARK: VERSION,
            "prompt": {name: asked[name] for name in ("messages", "family", "source", "answer")},
            "completions": [self.answer(key) for key in completion_ids],
        }

    def who(self, key: str | None) -> dict[str, Any] | None:
        """A labeler by what makes its id."""
        if key is None:
            return None
        return {name: self.labelers[key][name] for name in ("name", "kind", "settings")}

    def answer(self, key: str) -> dict[str, Any]:
        """A completion with what makes its id."""
        row = self.completions[key]
        kept = {name: row[name] for name in ("id", "text", "tokens", "ended", "producer", "source")}
        return kept | {"author": self.who(row["author"])}


def raw_votes(store: Store, of_project: str | None = None) -> list[dict[str, Any]]:
    """The votes of a project (id), or all, in the order of their tasks, as JSON-able rows.

    A vote stands behind the one it supersedes. Then come gold answers, decisions and events.
    """
    here = select(task.c.id).where(task.c.project == of_project)
    with store.reading() as connection:
        kept = _kept(connection)
        ordered = select(vote).join(task).order_by(task.c.seq, vote.c.created, vote.c.id)
        ordered = ordered if of_project is None else ordered.where(task.c.project == of_project)
        rows = [_vote_row(kept, dict(row._mapping)) for row in connection.execute(ordered)]
        for kind, table in BESIDES.items():
            asked = select(table).order_by(*table.primary_key)
            if of_project is not None:
                about = select(task_completion.c.completion).where(task_completion.c.task.in_(here))
                asked = asked.where(
                    table.c.completion.in_(about) if kind == "event" else table.c.task.in_(here)
                )
            rows += [_beside_row(kept, kind, dict(row._mapping)) for row in connection.execute(asked)]
    return rows


def _kept(connection: Connection) -> _Kept:
    def table(one: Table) -> Rows:
        return {row.id: dict(row._mapping) for row in connection.execute(select(one))}

    members: dict[str, list[str]] = {}
    listed = select(task_completion).order_by(task_completion.c.task, task_completion.c.position)
    for row in connection.execute(listed):
        members.setdefault(row.task, []).append(row.completion)
    named = map(table, (labeler, item, completion, rubric_version, task, project))
    labelers, items, completions, rubrics, tasks, projects = named
    return _Kept(labelers, items, completions, rubrics, tasks, projects, members)


def _vote_row(kept: _Kept, one: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: one[name] for name in (*OWN, "shown", "payload", "active_ms", "wall_ms")}
    written = one["payload"].get("completion")
    return kept.question(one["task"]) | {
        "labeler": kept.who(one["labeler"]),
        "written": None if written is None else kept.answer(written),
        "vote": said,
    }


def _beside_row(kept: _Kept, kind: Beside, one: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "event":
        about = kept.about(kept.completions[one["completion"]]["item"], [one["completion"]])
    else:
        about = kept.question(one["task"])
    columns = {name: value for name, value in one.items() if name not in ("task", "labeler")}
    return about | {"labeler": kept.who(one.get("labeler")), BESIDE: kind, kind: columns}


def _read(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    if row.get(MARK) not in READ:
        raise BadRow("version", f"votes of version {row.get(MARK)!r}, expected {VERSION}")
    try:
        ballot = _beside(row, place) if row.get(BESIDE) else _ballot(row, place)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRow("missing", f"not a vote as exported here: {type(error).__name__} {error}") from None
    _check_names(ballot)
    _check_ids(ballot)
    return [ballot]


def _ballot(row: Mapping[str, Any], place: Place) -> Ballot:
    said = row["vote"]
    shown = tuple(said["shown"]) if is_list(said["shown"]) else None
    return Ballot(
        place.where,
        *_about(row),
        Identity(**row["labeler"]),
        dict(said["payload"]),
        _question(row["task"]),
        shown=shown,
        active_ms=said["active_ms"],
        wall_ms=said["wall_ms"],
        written=_answer(row["written"]) if row.get("written") else None,
        row={name: said[name] for name in OWN},
    )


def _beside(row: Mapping[str, Any], place: Place) -> Ballot:
    """A row that is no vote; an event is about a completion, without a question, and may be nobody's."""
    kind = row[BESIDE]
    if kind not in BESIDES:
        raise BadRow("missing", f"a row of kind {kind!r}, expected {', '.join(BESIDES)}")
    names = {column.name for column in BESIDES[kind].c} - {"task", "labeler"}
    columns = {name: row[kind][name] for name in sorted(names)}
    labeler = NOBODY if row["labeler"] is None else Identity(**row["labeler"])
    question = _question(row["task"]) if kind != "event" else Question("rating")
    return Ballot(place.where, *_about(row), labeler, {"type": kind}, question, row=columns, beside=kind)


def _about(row: Mapping[str, Any]) -> tuple[Prompt, tuple[Answer, ...]]:
    asked = row["prompt"]
    prompt = Prompt(messages_from(asked["messages"]), asked["family"], asked["source"], asked["answer"])
    return prompt, tuple(_answer(one) for one in row["completions"])


def _question(asked: Mapping[str, Any]) -> Question:
    settings: dict[str, Any] = {
        name: asked[name] for name in ("kind", "rubric", "policy", "need", "priority")
    }
    settings["withdrawn"] = bool(asked.get("withdrawn", False))
    if (here := asked.get("project")) is not None:
        settings["project"] = (str(here["name"]), str(here["purpose"]), dict(here["settings"]))
    return Question(**settings)


def _answer(one: Mapping[str, Any]) -> Answer:
    tokens = None if one["tokens"] is None else tuple(one["tokens"])
    author = None if one["author"] is None else Identity(**one["author"])
    return Answer(
        one["id"], Completion(one["text"], tokens), one["producer"], one["ended"], one["source"], author
    )


def _check_names(ballot: Ballot) -> None:
    """Refuse kinds that the store has no place for."""
    if not isinstance(ballot.payload.get("type"), str):
        raise BadRow("payload", f"a vote of type {ballot.payload.get('type')!r}")
    for what, said, known in (
        ("task", ballot.question.kind, ANSWERABLE),
        ("labeler", ballot.labeler.kind, LABELER_KINDS),
        ("project", (ballot.question.project or ("", "training", {}))[1], PROJECT_PURPOSES),
        *(("completion", one.source, COMPLETION_SOURCES) for one in ballot.answers),
    ):
        if said not in known:
            raise BadRow("label", f"a {what} of kind {said!r}, expected {', '.join(known)}")
    if ballot.question.project is not None:
        try:
            config_of(ballot.question.project[2])
        except ValueError as error:
            raise BadRow("label", f"a project with settings that cannot hold: {error}") from None


def _check_ids(ballot: Ballot) -> None:
    """Refuse a row whose completions are not what their ids say: its votes would be about something else."""
    written = () if ballot.written is None else (ballot.written,)
    for one in (*ballot.answers, *written):
        if one.source != "policy" and one.author is not None and not one.completion.text and not one.producer:
            raise BadRow("erased", f"the author of completion {one.name} was erased, and its text with them")
        author = one.author and content_id("labeler", one.author.kind, one.author.name, one.author.settings)
        said = one.completion.text if one.completion.tokens is None else one.completion.tokens
        if one.name != content_id("completion", ballot.prompt.id, said, one.producer, author):
            raise BadRow(
                "changed", f"completion {one.name} is not what was voted on: its text or origin differs"
            )


VOTES = Format(
    NAME, f"{MARK}, task, prompt, completions, labeler, vote", lambda row: MARK in row, each(_read)
)
