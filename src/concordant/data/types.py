"""The rows that travel between the rooms. Everything here is frozen and knows where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from concordant.errors import UserError

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat; `role` is one of `ROLES`."""

    role: str
    content: str

    def as_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


def messages_from(rows: Iterable[Mapping[str, str]]) -> tuple[Message, ...]:
    """Messages from plain dictionaries with `role` and `content`."""
    return tuple(Message(row["role"], row["content"]) for row in rows)


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: the turns before its answer."""

    messages: tuple[Message, ...]
    family: str = ""  # kind of question, where the source knows it
    where: str = ""  # file:line, or the name of a generator
    answer: str = field(default="", compare=False)  # a reference answer, where there is one

    @cached_property
    def id(self) -> str:
        """Hash of the messages: the same question has the same id in every file and run."""
        canonical = json.dumps([[m.role, m.content] for m in self.messages], ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """The last user turn, for people."""
        return self.messages[-1].content

    @classmethod
    def user(cls, text: str, **known: str) -> Prompt:
        """A prompt of a single user turn."""
        return cls((Message("user", text),), **known)


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer: its text for people, and its token ids where a sampler of ours produced it."""

    text: str
    tokens: tuple[int, ...] | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with an answer to imitate."""

    prompt: Prompt
    completion: Completion


@dataclass(frozen=True, slots=True)
class Document:
    """Text that is no chat."""

    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A prompt with an answer that was judged by itself: wanted, or not."""

    prompt: Prompt
    completion: Completion
    desirable: bool
    weight: float = 1.0


def check_strength(p_chosen: float, margin: float, where: str) -> None:
    """Raise UserError for a preference that says twice how strong it is, which losses refuse."""
    if margin and p_chosen != 1.0:
        raise UserError(
            f"a preference with p_chosen {p_chosen:g} and margin {margin:g}",
            where=where,
            expected="one of the two: each states how strong the preference is",
            fix="remove p_chosen or margin",
        )


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, and how probable it is that `chosen` is the better one."""

    prompt: Prompt
    chosen: Completion
    rejected: Completion
    p_chosen: float = 1.0  # 1 = certain, 0.5 = tie
    margin: float = 0.0  # scores should differ by at least this much
    weight: float = 1.0
    group: str = ""  # pairs of one ranking share it: their completions are scored together, once each
