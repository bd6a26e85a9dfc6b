"""Where the data of a run lies. No torch here: recipes are read without it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from concordant.config import Config


class Source(Config):
    """One file, folder or hub name; in a recipe a plain string will do."""

    path: str
    """JSONL, JSON, CSV or Parquet file, a folder written by `datasets`, or a hub name."""
    split: str | None = None
    """Split of a hub data set."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of your columns: {chosen = "good", rejected = "bad"}."""
    limit: int = Field(0, ge=0)
    """Read at most this many rows; 0 = all."""


def _sources(value: Any) -> Any:
    """Let a recipe say "file", {path = "file"} or a list of either."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple({"path": v} if isinstance(v, str) else v for v in values)


Sources = Annotated[tuple[Source, ...], BeforeValidator(_sources)]


class DataConfig(Config):
    """The files of a run; the embedded world needs none."""

    demonstrations: Sources = ()
    """Answers to imitate, for supervised fine-tuning."""
    preferences: Sources = ()
    """Pairs of answers with the better one known."""
    judgements: Sources = ()
    """Completions judged one by one, good or bad: for KTO."""
    prompts: Sources = ()
    """Prompts for sampling; empty = the prompts of the preferences, or else of the judgements."""
    validation: float = Field(0.1, gt=0, lt=1)
    """Share of prompts kept out of training; which ones depends on a hash of the prompt alone."""
    overlong: Literal["trim_prompt_left", "drop", "error"] = "trim_prompt_left"
    """Rows longer than the context: the prompt loses its oldest tokens, the row is left out, or the run stops.
    How many there were is always said; the end of an answer is never cut."""
    skip_bad_rows: bool = False
    """Count and report rows that cannot be read as given, and go on without them."""

    @property
    def sources(self) -> dict[str, tuple[Source, ...]]:
        """All files by what they hold."""
        return {
            "demonstrations": self.demonstrations,
            "preferences": self.preferences,
            "judgements": self.judgements,
            "prompts": self.prompts,
        }
