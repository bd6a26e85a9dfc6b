"""Who compares which completions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from concordant.config import Config


class FeedbackConfig(Config):
    """Candidates are sampled from the fine-tuned model and ranked by labelers."""

    url: str = Field("", pattern=r"^$|^postgresql(\+psycopg)?://")
    """Address of the store in an empty PostgreSQL database; empty = feedback.sqlite of the run. No password here."""
    durability: Literal["normal", "full"] = "normal"
    """Votes survive a killed program (normal), or a power cut too, with a wait for the disk at every commit (full)."""
    source: Literal["simulated", "human", "human+simulated"] = "simulated"
    """Who is asked: simulated labelers, people (the run stops until they have answered), or both."""
    people: int = Field(0, ge=0)
    """Questions that people answer before the run goes on; 0 = all of them where source = human, else none."""
    labelers: str = "careful"
    """Simulated labelers of a world: careful, length-lover, pleaser, worrier, careless or pool."""
    prompts: int = Field(4_000, ge=1, le=10_000_000)
    """Prompts that get candidates."""
    completions: int = Field(2, ge=2, le=9)
    """Candidates per prompt; they are ranked together."""
    completion: int = Field(64, ge=1)
    """Most tokens of a candidate."""
    votes: int = Field(1, ge=1)
    """Votes wanted per prompt, each from another labeler."""
    most_votes: int = Field(0, ge=0)
    """Where labelers disagree, two more are asked, up to this many; then a lead decides. 0 = never more than votes."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature of the candidates."""
    view: Literal["each", "majority", "posterior"] = "posterior"
    """What several votes on a pair become: a row each, their majority, or one row with its Dawid–Skene posterior."""
    rubric: str = ""
    """What people are asked, a TOML file as `concordant feedback rubric` prints one; empty = its default."""
    dimension: str = ""
    """Learn from what votes say of this dimension of the rubric alone; empty = from what they say on the whole."""
    ties: Literal["drop", "half"] = "drop"
    """What a tie becomes: no pair, or a pair with probability one half."""


class ProjectConfig(Config):
    """What a lead sets for a project; kept in the store, beside what the project is for."""

    instructions: str = Field("", max_length=20_000, pattern=r"^[^\x00]*$")
    """Shown to labelers before their first question (Markdown)."""
    votes: int | None = Field(None, ge=1, le=100)
    """Labelers for each question; none = as many as each was asked with."""
    most_votes: int | None = Field(None, ge=0, le=100)
    """Where labelers disagree, two more are asked, up to this many; then a lead decides. 0 = never more than votes."""
    known_every: int = Field(10, ge=0, le=1_000)
    """One of so many questions has a known answer, as long as there are any; 0 = none."""
