"""The votes of a store as JSON lines, each with all that it is about, and back into a store.

Retracted and superseded votes are among them: votes are kept for ever. Ids are made from content, so that votes
which come back are about the same tasks, completions and labelers, and a second import adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from concordant.data.layouts.account import BadRow, Place
from concordant.data.layouts.cells import is_list
from concordant.data.types import Completion, Prompt, messages_from
from concordant.feedback.exchange.ballots import Answer, Ballot, Format, Question, each
from concordant.feedback.ids import content_id
from concordant.feedback.labelers import Identity
from concordant.feedback.layout import DEFAULT_PROJECT
from concordant.feedback.schema import (
    COMPLETION_SOURCES,
    LABELER_KINDS,
    PROJECT_PURPOSES,
    completion,
    item,
    labeler,
    rubric_version,
    task,
    task_completion,
    vote,
)
from concordant.feedback.schema import project as project_table
from concordant.feedback.store import Store
from concordant.feedback.votes import COMPARED

NAME = "votes"
VERSION = 1
ANSWERABLE = (*COMPARED, "edit", "demonstration")
MARK = "concordant_votes"  # the column that shows the format; its value is the version
OWN = ("id", "pass", "client", "idempotency_key", "supersedes", "extra", "created")


def raw_votes(store: Store, project: str | None = None) -> list[dict[str, Any]]:
    """The votes of a project (id), or of all, in the order of their tasks, as JSON-able rows.

    A vote stands behind the one it supersedes.
    """
    with store.reading() as connection:

        def table(query: Any) -> dict[str, dict[str, Any]]:
            return {row.id: dict(row._mapping) for row in connection.execute(query)}

        labelers, items = table(select(labeler)), table(select(item))
        completions, rubrics = table(select(completion)), table(select(rubric_version))
        tasks, projects = table(select(task)), table(select(project_table))
        members: dict[str, list[str]] = {}
        listed = select(task_completion).order_by(task_completion.c.task, task_completion.c.position)
        for row in connection.execute(listed):
            members.setdefault(row.task, []).append(row.completion)
        ordered = select(vote).join(task).order_by(task.c.seq, vote.c.created, vote.c.id)
        if project is not None:
            ordered = ordered.where(task.c.project == project)
        votes = [dict(row._mapping) for row in connection.execute(ordered)]
    who = {key: _identity(one) for key, one in labelers.items()}
    answers = {key: _answer_row(one, who) for key, one in completions.items()}
    rows = []
    for one in votes:
        asked = tasks[one["task"]]
        rows.append(
            {
                MARK: VERSION,
                "task": {name: asked[name] for name in ("id", "kind", "need", "priority", "policy")}
                | {"rubric": rubrics[asked["rubric_version"]]["body"]}
                | _project_row(projects[asked["project"]]),
                "prompt": {
                    name: items[asked["item"]][name] for name in ("messages", "family", "source", "answer")
                },
                "completions": [answers[key] for key in members.get(one["task"], ())],
                **({"written": answers[key]} if (key := one["payload"].get("completion")) else {}),
                "labeler": who[one["labeler"]],
                "vote": {name: one[name] for name in (*OWN, "shown", "payload", "active_ms", "wall_ms")},
            }
        )
    return rows


def _identity(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("name", "kind", "settings")}


def _project_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Where a task is asked, so that votes which are not for training come back as such; the default is not said."""
    return (
        {} if row["id"] == DEFAULT_PROJECT else {"project": {name: row[name] for name in ("name", "purpose")}}
    )


def _answer_row(row: Mapping[str, Any], who: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("id", "text", "tokens", "ended", "producer", "source")}
    return kept | {"author": None if row["author"] is None else who[row["author"]]}


def _read(row: Mapping[str, Any], place: Place) -> list[Ballot]:
    if row.get(MARK) != VERSION:
        raise BadRow("version", f"votes of version {row.get(MARK)!r}, expected {VERSION}")
    try:
        ballot = _ballot(row, place)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRow("missing", f"not a vote as exported here: {type(error).__name__} {error}") from None
    _check_names(ballot)
    _check_ids(ballot)
    return [ballot]


def _ballot(row: Mapping[str, Any], place: Place) -> Ballot:
    asked, about, said = row["task"], row["prompt"], row["vote"]
    prompt = Prompt(messages_from(about["messages"]), about["family"], about["source"], about["answer"])
    answers = tuple(_answer(one) for one in row["completions"])
    settings = {name: asked[name] for name in ("kind", "rubric", "policy", "need", "priority")}
    if (where := asked.get("project")) is not None:
        settings["project"] = (where["name"], where["purpose"])
    shown = tuple(said["shown"]) if is_list(said["shown"]) else None
    return Ballot(
        place.where,
        prompt,
        answers,
        Identity(**row["labeler"]),
        dict(said["payload"]),
        Question(**settings),
        shown=shown,
        active_ms=said["active_ms"],
        wall_ms=said["wall_ms"],
        written=_answer(row["written"]) if row.get("written") else None,
        row={name: said[name] for name in OWN},
    )


def _answer(one: Mapping[str, Any]) -> Answer:
    tokens = None if one["tokens"] is None else tuple(one["tokens"])
    author = None if one["author"] is None else Identity(**one["author"])
    return Answer(
        one["id"], Completion(one["text"], tokens), one["producer"], one["ended"], one["source"], author
    )


def _check_names(ballot: Ballot) -> None:
    """Refuse kinds that the store has no place for."""
    for what, said, known in (
        ("task", ballot.question.kind, ANSWERABLE),
        ("project", ballot.question.project[1], PROJECT_PURPOSES),
        ("labeler", ballot.labeler.kind, LABELER_KINDS),
        *(("completion", one.source, COMPLETION_SOURCES) for one in ballot.answers),
    ):
        if said not in known:
            raise BadRow("label", f"a {what} of kind {said!r}, expected {', '.join(known)}")


def _check_ids(ballot: Ballot) -> None:
    """Refuse a row whose completions are not what their ids say: its votes would be about something else."""
    for one in ballot.answers:
        author = one.author and content_id("labeler", one.author.kind, one.author.name, one.author.settings)
        said = one.completion.text if one.completion.tokens is None else one.completion.tokens
        if one.name != content_id("completion", ballot.prompt.id, said, one.producer, author):
            raise BadRow(
                "changed", f"completion {one.name} is not what was voted on: its text or origin differs"
            )


VOTES = Format(
    NAME, f"{MARK}, task, prompt, completions, labeler, vote", lambda row: MARK in row, each(_read)
)
