"""What a sampler gives back: completions as token ids, with the log-probability of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from concordant.data.batches import Example, Row
from concordant.data.types import Prompt

Asked = tuple[Prompt, tuple[int, ...]]
"""A prompt with its token ids, as a sampler takes them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion. Token ids are the truth; text is decoded from them for people and rewards."""

    prompt: int  # number of its prompt in the list that was sampled
    prompt_ids: tuple[int, ...]
    completion: tuple[int, ...]  # includes the stop token, if there is one
    logprobs: tuple[float, ...]  # of the completion's tokens, at the sampling temperature
    ended: bool  # a stop token was drawn, rather than the limit reached

    @property
    def row(self) -> Row:
        return Row(self.prompt_ids, self.completion)

    @property
    def example(self) -> Example:
        return Example((self.row,))


@dataclass(frozen=True, slots=True)
class Rollout:
    """The completions of a list of prompts, those of one prompt side by side."""

    samples: tuple[Sample, ...]
    temperature: float

    @property
    def groups(self) -> tuple[int, ...]:
        """For each completion the draw of a prompt that it belongs to.

        A prompt drawn twice makes two groups: the best of n is to be the best of n, and labelers rank n, however
        often a question comes.
        """
        return tuple(sample.prompt for sample in self.samples)

    @property
    def tokens(self) -> int:
        """Sampled tokens."""
        return sum(len(sample.completion) for sample in self.samples)

    @property
    def read(self) -> int:
        """Tokens that scoring reads: prompts and completions."""
        return sum(sample.row.length for sample in self.samples)


class Sampler(Protocol):
    """Anything that completes prompts: the policy in this process, or a server."""

    @property
    def temperature(self) -> float:
        """Of the distribution that is sampled."""
        ...

    def sample(self, prompts: Sequence[tuple[int, ...]], *, samples: int = 1, seed: int) -> Rollout:
        """`samples` completions of each prompt, given as token ids; the same seed gives the same completions."""
        ...
