"""What the API of the red team's page takes and gives. Which model is which is never among it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from concordant.app.label.forms import Form, Id
from concordant.feedback.answering.finds import SEVERITIES

LONGEST_MESSAGE = 8_000  # characters

Said = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_MESSAGE, pattern=r"^[^\x00]*$", strip_whitespace=True),
]
Family = Annotated[str, StringConstraints(max_length=40, pattern=r"^[^\x00]*$", strip_whitespace=True)]
Note = Annotated[str, StringConstraints(max_length=2_000, pattern=r"^[^\x00]*$", strip_whitespace=True)]


class MessageSent(Form):
    """What is said next; `after` is the answer (id) it follows on, from the second turn on."""

    turn: Annotated[int, Field(ge=1, le=1000)]
    text: Said
    after: Id | None = None


class ReportSent(Form):
    """What is reported of a turn. The same key sent twice is kept once."""

    key: Id
    thread: Id
    turn: Annotated[int, Field(ge=1, le=1000)]
    judged: Literal["worse", "both_bad", "both_fine"]
    worse: Id | None = None
    severity: Annotated[int, Field(ge=0, lt=len(SEVERITIES))] = 0
    family: Family = ""
    note: Note = ""


class ReportKept(BaseModel):
    """The report is on disk."""

    report: str
    finds: int
    unique: int


class Reply(BaseModel):
    """An answer as safe HTML; `ended` is False where it was cut off at the most tokens of an answer."""

    id: str
    html: str
    ended: bool | None


class ReportShown(BaseModel):
    """What was reported of a turn."""

    judged: str
    worse: str | None
    severity: int
    family: str
    note: str


class Turn(BaseModel):
    """A turn: what was said, both answers in the order of this conversation, and the report of it."""

    number: int
    text: str
    after: str | None
    replies: list[Reply]
    report: ReportShown | None


class Waiting(BaseModel):
    """A turn that is not answered yet; `place` is how many are before it, 0 while it is being answered."""

    turn: int
    text: str
    place: int


class Conversation(BaseModel):
    """All that one person sees of a conversation."""

    thread: str
    turns: list[Turn]
    waiting: Waiting | None
    trouble: str  # why the last turn was not answered


class Agreed(BaseModel):
    """Where somebody stands: new, agreed, or left."""

    state: str
