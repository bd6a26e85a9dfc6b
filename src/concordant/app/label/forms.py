"""What the API takes and gives. The contract is the OpenAPI page at /docs of a running server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

DAY_MS = 24 * 60 * 60 * 1000

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:.-]{1,80}$")]
Words = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
Text = Annotated[str, StringConstraints(max_length=100_000, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00]*$")]


class Form(BaseModel):
    """Unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Pairwise(Form):
    """One of two completions is better, both are equal, or neither will do."""

    type: Literal["pairwise"]
    verdict: Literal["prefer", "tie", "both_bad"]
    winner: Id | None = None
    strength: Annotated[int, Field(ge=0, le=3)] = 0
    dims: dict[Name, Annotated[int, Field(ge=-3, le=3)]] = Field(default_factory=dict)
    rationale: Words = ""


class Ranking(Form):
    """Completions in tiers, the best first."""

    type: Literal["ranking"]
    tiers: Annotated[list[Annotated[list[Id], Field(min_length=1)]], Field(min_length=1, max_length=9)]
    unacceptable: list[Id] = Field(default_factory=list)
    rationale: Words = ""


class Rating(Form):
    """Each completion by itself, by dimension, 1 to 7."""

    type: Literal["rating"]
    scores: dict[Id, dict[Name, Annotated[int, Field(ge=1, le=7)]]]
    rationale: Words = ""


class Edit(Form):
    """A better text than the one shown, the one shown as it is, or an answer of one's own."""

    type: Literal["edit"]
    parent: Id | None = None
    accept: bool = False
    text: Text | None = None
    rationale: Words = ""


class Passed(Form):
    """No verdict: skipped by this labeler, or flagged as a question with something wrong in it."""

    type: Literal["skip", "flag"]
    reason: Words


Payload = Annotated[Pairwise | Ranking | Rating | Edit | Passed, Field(discriminator="type")]


class LeasesAsked(Form):
    """How many questions, of which project."""

    project: Id
    n: Annotated[int, Field(ge=1, le=10)] = 2


class VoteGiven(Form):
    """An answer. The same key sent twice is kept once."""

    token: Id
    key: Id
    task: Id
    payload: Payload
    active_ms: Annotated[int, Field(ge=0, le=DAY_MS)] = 0
    wall_ms: Annotated[int, Field(ge=0, le=DAY_MS)] = 0


class Erased(BaseModel):
    """What there was of somebody; `compact` says whether the file was written anew without it."""

    votes: int
    completions: int
    compact: bool


class Turn(BaseModel):
    """A turn of the chat, as safe HTML."""

    role: str
    html: str


class Answer(BaseModel):
    """A completion as safe HTML; where it is to be edited, its text too."""

    id: str
    html: str
    text: str | None = None


class Dimension(BaseModel):
    """One way in which an answer may be good, and what is meant by it."""

    name: str
    meaning: str


class Question(BaseModel):
    """A leased task, with its completions in the order in which they are to be shown."""

    token: str
    task: str
    kind: str
    expires: int
    question: str
    asked: Literal["never", "optional", "always"]  # of a pair, by dimension too
    dimensions: list[Dimension]
    prompt: list[Turn]
    completions: list[Answer]


class Progress(BaseModel):
    """How far it is."""

    mine: int
    finished: int
    tasks: int


class Questions(BaseModel):
    """Leased tasks: those that are held already, then new ones."""

    questions: list[Question]
    progress: Progress


class Lesson(BaseModel):
    """What to say about an answer to an exercise."""

    right: bool
    better: str
    why: str


class Kept(BaseModel):
    """The vote is on disk."""

    vote: str
    repeated: bool
    extra: bool
    lesson: Lesson | None


class Held(BaseModel):
    """Until when (UTC ms)."""

    expires: int


class Me(BaseModel):
    """Who is asking."""

    name: str
    role: str
    settings: dict[str, Any]


class Settings(Form):
    """What a labeler has set: keys by action, practice done."""

    keys: dict[Id, Annotated[str, StringConstraints(max_length=20)]] | None = None
    practised: bool | None = None


class ProjectRow(BaseModel):
    """A project and how far it is."""

    id: str
    name: str
    purpose: str
    tasks: int
    finished: int
    disputed: int
    verdicts: int


class LabelerRow(BaseModel):
    """What one labeler did, and how far to trust it; figures are null where there is too little to say."""

    labeler: str
    name: str
    kind: str
    verdicts: int
    skips: int
    median_ms: float | None
    first_chosen: float | None
    first_chosen_low: float | None
    longer_chosen: float | None
    agreement: float | None
    gold: float | None  # share of the known answers given, with its 95 % interval
    gold_n: int
    gold_low: float | None
    gold_high: float | None
    gold_below: bool  # the interval ends below the share of all others
    reliability: float | None  # probability of not voting at random, as last estimated
    reliability_n: int
    flagged: bool  # enough votes to say that this labeler mostly votes without looking


class Decision(Form):
    """What a lead decides about a disputed question, and why."""

    payload: Annotated[Pairwise | Ranking, Field(discriminator="type")]
    reason: Words


class Decided(BaseModel):
    """The decision is on disk."""

    decision: str


class AccountAsked(Form):
    """Somebody to be let in."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00]*$")]
    role: Literal["admin", "lead", "labeler", "viewer"] = "labeler"
    again: bool = False


class Invited(BaseModel):
    """A link that works once, within a week."""

    name: str
    role: str
    link: str


class TokenAsked(Form):
    """A token for a program."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00]*$")]
    scopes: Annotated[list[Literal["read", "vote", "lead"]], Field(min_length=1)]
    days: Annotated[int, Field(ge=1, le=366)] = 30


class Done(BaseModel):
    """Whether there was anything to do."""

    done: bool


class TokenGiven(BaseModel):
    """The token is shown once; with its id it can be revoked."""

    id: str
    token: str
