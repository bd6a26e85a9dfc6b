"""What people write: answers of their own, and answers of a model made better. Texts become completions."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, select

from concordant.errors import UserError
from concordant.feedback.database.queries import chunks, insert_missing
from concordant.feedback.database.schema import completion, task
from concordant.feedback.ids import content_id
from concordant.feedback.votes import no_text


def keep_texts(connection: Connection, votes: Sequence[dict[str, Any]]) -> None:
    """Keep the texts of rows of `vote` that are edits as completions, and let the rows name them.

    Errors: UserError for a text that is the one it began from, which is an answer left as it is, and for an edit
    that names a completion: which one it is, the store says.
    """
    written = [one for one in votes if one["type"] == "edit" and not one["payload"].get("accept")]
    if not written:
        return
    items = dict(_pairs(connection, task.c.id, task.c.item, [one["task"] for one in written]))
    parents = [key for one in written if (key := one["payload"].get("parent")) is not None]
    before = dict(_pairs(connection, completion.c.id, completion.c.text, parents))
    rows = []
    for one in written:
        parent, text = one["payload"].get("parent"), one["payload"].get("text")
        if text is None:
            raise no_text(f"task {one['task']}")
        if text == before.get(parent):
            raise UserError(
                "an edit that changes nothing",
                where=f"task {one['task']}",
                expected="another text, or accept where the answer is good as it is",
                fix="change the text, or accept the answer",
            )
        row = written_row(items[one["task"]], text, parent, one["labeler"], one["task"], one["created"])
        rows.append(row)
        said = {key: value for key, value in one["payload"].items() if key != "text"}
        one["payload"] = said | {"completion": row["id"]}
    insert_missing(connection, completion, rows)


def written_row(
    item: str, text: str, parent: str | None, author: str, task_id: str, now: int
) -> dict[str, Any]:
    """A row of `completion` for what `author` wrote in answer to a task."""
    return {
        "id": written_id(item, text, author, task_id),
        "item": item,
        "text": text,
        "sha256": sha256(text.encode()).hexdigest(),
        "tokens": None,
        "ended": True,
        "producer": _producer(task_id),
        "source": "human" if parent is None else "edit",
        "author": author,
        "parent": parent,
        "created": now,
    }


def written_id(item: str, text: str, author: str, task_id: str) -> str:
    """The id of the completion that `written_row` makes."""
    return content_id("completion", item, text, _producer(task_id), author)


def _producer(task_id: str) -> dict[str, str]:
    """Where a text comes from; says too that a vote stands for it: without one it is no demonstration."""
    return {"task": task_id}


def _pairs(connection: Connection, key: Any, value: Any, wanted: Sequence[str]) -> list[tuple[str, str]]:
    return [
        (row[0], row[1])
        for some in chunks(wanted)
        for row in connection.execute(select(key, value).where(key.in_(some)))
    ]
