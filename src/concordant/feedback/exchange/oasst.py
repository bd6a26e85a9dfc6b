"""Open-Assistant message trees (arXiv:2304.07327): sibling answers with their rank, 0 the best, as one ranking each.

The ranks of a tree are what several people's rankings were merged into, so they are one vote of a crowd.
Read are exported trees (`prompt` with nested `replies`) and flat messages (`message_id`, `parent_id`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from concordant.data.layouts.account import BadRow, Place, Problem
from concordant.data.layouts.cells import ALIASES, cell, text_in
from concordant.data.layouts.exchange import ending_with_user, prompt_of
from concordant.data.sources import RawRow
from concordant.data.types import Message
from concordant.feedback.exchange.ballots import (
    Answer,
    Ballot,
    Format,
    Note,
    Question,
    answer,
    having,
    person,
    tiers,
)
from concordant.feedback.votes import ranking

NAME = "oasst"
CROWD = person("oasst rankers")
RANKED = Question("ranking")


@dataclass(frozen=True, slots=True)
class _Node:
    """A message with its replies and the line it stands in."""

    where: str
    value: Mapping[str, Any]
    replies: list[_Node] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.value.get("message_id", "without id"))


def _read_trees(rows: Iterable[RawRow], note: Note) -> Iterator[Ballot]:
    for row in rows:
        root = row.value.get("prompt")
        if not isinstance(root, Mapping):
            note(Problem(row.where, "type", f"prompt is {type(root).__name__}, expected a message"))
            continue
        yield from _walk(_nested(root, row.where, note), note)


def _nested(value: Mapping[str, Any], where: str, note: Note) -> _Node:
    """The tree under a message; a loop and not a recursion, since people talk for long."""
    root = _Node(where, value)
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for reply in node.value.get("replies") or ():
            if isinstance(reply, Mapping):
                node.replies.append(_Node(where, reply))
            else:
                note(Problem(where, "type", f"a reply to {node.id} is {type(reply).__name__}"))
        waiting += node.replies
    return root


def _read_flat(rows: Iterable[RawRow], note: Note) -> Iterator[Ballot]:
    nodes = [_Node(row.where, row.value) for row in rows]
    by_id = {node.id: node for node in nodes}
    roots = []
    for node in nodes:
        parent = node.value.get("parent_id")
        if not parent:
            roots.append(node)
        elif str(parent) in by_id:
            by_id[str(parent)].replies.append(node)
        else:
            note(Problem(node.where, "no parent", f"message {parent}, which it replies to, is not here"))
    for root in roots:
        yield from _walk(root, note)
    for node in _unreached(nodes, roots):
        note(Problem(node.where, "no root", f"message {node.id} replies to itself by way of others"))


def _unreached(nodes: Sequence[_Node], roots: Sequence[_Node]) -> list[_Node]:
    reached, waiting = set(), list(roots)
    while waiting:
        node = waiting.pop()
        reached.add(id(node))
        waiting += node.replies
    hanging = [node for node in nodes if id(node) not in reached]
    parents = {node.id for node in nodes}
    return [node for node in hanging if str(node.value.get("parent_id")) in parents]


def _walk(root: _Node, note: Note) -> Iterator[Ballot]:
    """The ranking of the replies to every question of a tree, from the root down."""
    waiting: deque[tuple[_Node, tuple[Message, ...]]] = deque([(root, ())])
    while waiting:
        node, before = waiting.popleft()
        try:
            if node.value.get("deleted"):
                raise BadRow("deleted", f"message {node.id} was deleted, and what follows it is left out")
            path = (*before, _message(node))
        except BadRow as bad:
            note(Problem(node.where, bad.kind, bad.detail))
            continue
        if path[-1].role == "user":
            yield from _ranked(node, path, note)
        waiting += [(reply, path) for reply in node.replies]


def _message(node: _Node) -> Message:
    role = cell(node.value, "role")
    if not isinstance(role, str) or role not in ALIASES:
        raise BadRow("role", f"message {node.id} is by {role!r}, expected prompter or assistant")
    return Message(ALIASES[role], text_in(node.value, "text"))


def _ranked(node: _Node, path: tuple[Message, ...], note: Note) -> Iterator[Ballot]:
    answers: list[Answer] = []
    ranks: list[tuple[float, str]] = []
    for reply in node.replies:
        rank = reply.value.get("rank")
        said = reply.value.get("text")
        if reply.value.get("deleted") or not isinstance(said, str) or not said.strip():
            continue  # `_walk` comes to it and says so
        if isinstance(rank, bool) or not isinstance(rank, int | float):
            note(Problem(reply.where, "unranked", f"message {reply.id} has no rank"))
            continue
        answers.append(answer(reply.id, said, NAME, reply.value.get("model_name")))
        ranks.append((rank, reply.id))
    if len(answers) == 1:
        note(Problem(node.where, "one answer", f"message {ranks[0][1]} is ranked among itself"))
    if len(answers) < 2:
        return
    place = Place(node.where, note)
    try:
        prompt = prompt_of(ending_with_user(path, "prompt"), {}, place)
    except BadRow as bad:
        note(Problem(node.where, bad.kind, bad.detail))
        return
    yield Ballot(node.where, prompt, tuple(answers), CROWD, ranking(tiers(ranks)), RANKED)


OASST = Format(NAME, "message_tree_id, prompt", having("message_tree_id", "prompt"), _read_trees)
OASST_FLAT = Format(
    "oasst-messages",
    "message_id, parent_id, role, rank",
    having("message_id", "parent_id", "role"),
    _read_flat,
)
