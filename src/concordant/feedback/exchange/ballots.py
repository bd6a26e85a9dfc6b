"""What a format makes of a file: ballots, each what one labeler said about the answers to one prompt.

The payload of a ballot is that of a vote, but names the answers as their file does ("a", "response-1"); the ids
of the store take the place of these names when the ballot is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from sqlalchemy import Table

from concordant.data.layouts.account import BadRow, Place, Problem
from concordant.data.layouts.cells import text
from concordant.data.sources import RawRow
from concordant.data.types import Completion, Prompt
from concordant.feedback.answering.labelers import Identity
from concordant.feedback.asking.rubric import DEFAULT_RUBRIC
from concordant.feedback.database.schema import adjudication, event_table, gold
from concordant.feedback.votes import BEST, WORST, Payload, prefer, tie

IMPORTED: Mapping[str, Any] = {"imported": True}  # settings of every labeler known from a file only


Beside: TypeAlias = Literal["gold", "decision", "event"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the answers on a ballot, under the name its payload uses."""

    name: str
    completion: Completion
    producer: Mapping[str, Any]
    ended: bool | None = None
    source: str = "import"
    author: Identity | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked about the answers: the settings of a task."""

    kind: str
    rubric: Mapping[str, Any] = field(default_factory=lambda: DEFAULT_RUBRIC)
    policy: Mapping[str, Any] = field(default_factory=lambda: {"selector": "import"})
    need: int = 1
    priority: float = 0.0
    withdrawn: bool = False  # asked no more, such as a question whose known answer was wrong
    project: tuple[str, str, Mapping[str, Any]] | None = (
        None  # name, purpose, settings; None: that of the run
    )


@dataclass(frozen=True, slots=True)
class Ballot:
    """One vote of a file."""

    where: str
    prompt: Prompt
    answers: tuple[Answer, ...]
    labeler: Identity
    payload: Payload  # with the names of the answers
    question: Question
    shown: tuple[str, ...] | None = None  # names in the order shown, where the file records it
    crowd: bool = True  # the labeler stands for several people: a second vote on a task is somebody else's
    active_ms: int | None = None
    wall_ms: int | None = None
    client: Mapping[str, Any] = field(default_factory=dict)
    written: Answer | None = None  # what the labeler wrote: the payload is an edit that names it
    row: Mapping[str, Any] | None = None  # a vote of another store: the columns it has there
    beside: Beside | None = None  # no vote, but this; `row` has its columns


Note: TypeAlias = Callable[[Problem], None]
Reader: TypeAlias = Callable[[Iterable[RawRow], Note], Iterator[Ballot]]
RowReader: TypeAlias = Callable[[Mapping[str, Any], Place], list[Ballot]]


@dataclass(frozen=True, slots=True)
class Format:
    """A way in which votes are kept elsewhere: its name, how it is recognised, and its reader."""

    name: str
    needs: str  # the columns that show it, in words
    fits: Callable[[Mapping[str, Any]], bool]  # asked about the first row
    read: Reader


def having(*columns: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row has all these columns."""
    return lambda row: all(column in row for column in columns)


def each(read: RowReader) -> Reader:
    """A reader of files whose rows do not depend on each other; a row that cannot be used is a problem."""

    def ballots(rows: Iterable[RawRow], note: Note) -> Iterator[Ballot]:
        for row in rows:
            try:
                yield from read(row.value, Place(row.where, note))
            except BadRow as bad:
                note(Problem(row.where, bad.kind, bad.detail))

    return ballots


def lost(place: Place, kind: str, detail: str) -> None:
    """Say that a part of a row, such as one of its votes, was left out, and go on."""
    place.note(Problem(place.where, kind, detail))


def person(name: str, kind: str = "human") -> Identity:
    """A labeler known from a file only."""
    return Identity(name, kind, IMPORTED)


def answer(name: str, said: str, source: str, model: object = None) -> Answer:
    """An answer out of the data set `source`, made by `model` where the file knows it."""
    made = {"model": model} if isinstance(model, str) and model else {}
    return Answer(name, Completion(said), {"imported": source, **made})


def observed(value: Any, column: str, place: Place) -> str:
    """The text of an answer that people saw and judged: empty ones too, since they lost their votes by it.

    A value of true or false is text that a converter took for a truth value, and is put back.
    """
    if isinstance(value, bool):
        place.mended("type", f"column {column} holds {value}, read as text")
        return str(value)
    if isinstance(value, str) and not value.strip():
        place.mended("empty answer", f"column {column} is empty; the votes on it are kept")
        return value
    return text(value, column)


def signed(score: Any, first: str, second: str, column: str) -> dict[str, Any]:
    """The vote behind a score from -3 (`first` is much better) over 0 (a tie) to 3 (`second` is)."""
    whole = isinstance(score, int | float) and not isinstance(score, bool) and score == int(score)
    if not whole or not -3 <= score <= 3:
        raise BadRow("number", f"{column} holds {score!r}, expected a whole number from -3 to 3")
    if score == 0:
        return tie()
    return prefer(first if score < 0 else second, strength=abs(int(score)))


def scaled(value: float, low: float, high: float) -> float:
    """A rating from `low` to `high` on the scale of the store, 1 to 7."""
    return WORST + (value - low) * (BEST - WORST) / (high - low)


def tiers(ranked: Iterable[tuple[float, str]]) -> list[list[str]]:
    """Names from the smallest rank to the greatest; equal ranks share a tier."""
    ordered = sorted(ranked, key=itemgetter(0))
    return [[name for _, name in tier] for _, tier in groupby(ordered, key=itemgetter(0))]


BESIDES: Mapping[Beside, Table] = {"gold": gold, "decision": adjudication, "event": event_table}
"""Where a row that is no vote is kept, by what its ballot says it is."""
