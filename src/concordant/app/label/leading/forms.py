"""What the API takes from a lead and gives back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from concordant.app.label.forms import Form

Name = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00]*$")]
Votes = Annotated[int, Field(ge=1, le=100)]
MostVotes = Annotated[int, Field(ge=0, le=100)]


class Asking(Form):
    """Where the questions of a file are asked, and of how many."""

    file: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    """Its name; the ending tells what it is: .jsonl, .json, .csv or .tsv."""
    project: Name
    purpose: Literal["training", "evaluation"] = "training"
    kind: Literal["pairwise", "ranking", "rating", "edit", "demonstration"] | None = None
    votes: Votes | None = None
    most_votes: MostVotes | None = None


class ProblemRow(BaseModel):
    """Something about a row of the file; `dropped` is false where it was mended and kept."""

    where: str
    kind: str
    detail: str
    dropped: bool


class Asked(BaseModel):
    """What became of the questions of a file."""

    project: str
    rows: int
    tasks: int
    repeated: int
    known: int
    dropped: int
    unused: list[str]  # columns nobody looks at
    problems: list[ProblemRow]  # the first ones
    more_problems: int


class SettingsAsked(Form):
    """What is to hold for a project from now on; what is left out stays as it is."""

    instructions: Annotated[str, StringConstraints(max_length=20_000, pattern=r"^[^\x00]*$")] | None = None
    votes: Votes | None = None
    most_votes: MostVotes | None = None
    known_every: Annotated[int, Field(ge=0, le=1_000)] | None = None


class SettingsRow(BaseModel):
    """What holds for a project; null is as the questions were asked."""

    instructions: str
    votes: int | None
    most_votes: int | None
    known_every: int


class Said(BaseModel):
    """What a labeler said of a question, or a lead of its answer."""

    labeler: str
    payload: dict[str, Any]


class Text(BaseModel):
    """An answer as it was given."""

    id: str
    text: str


class AnsweredRow(BaseModel):
    """A question with what was said of it."""

    task: str
    kind: str
    prompt: list[dict[str, str]]
    completions: list[Text]
    said: list[Said]


class KnownRow(AnsweredRow):
    """A question with a known answer, and the share of those asked who gave it."""

    better: str
    why: str
    rate: float | None
    low: float
    high: float
    n: int


class Made(BaseModel):
    """The question with a known answer."""

    task: str


class ResultRow(BaseModel):
    """How the second of two models does against the first; one prompt is one observation."""

    first: str
    second: str
    rate: float | None
    low: float
    high: float
    n: int
    first_better: int
    second_better: int
    ties: int
    neither: int
    alike: int
    unanswered: int
    better: str | None  # where the whole 95 % interval lies on one side
