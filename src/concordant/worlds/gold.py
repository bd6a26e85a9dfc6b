"""What a world knows about a completion: its gold reward, and the canaries that watch single behaviours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from concordant.data.types import Prompt

Flag = bool | int | str


@dataclass(frozen=True, slots=True)
class Gold:
    """The true worth of a completion; `total` is always the plain sum of its four components."""

    helpful: float
    honest: float
    harmless: float
    concise: float
    total: float = field(init=False)
    flags: Mapping[str, Flag] = field(default_factory=dict, hash=False)  # what was seen, by name

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.helpful + self.honest + self.harmless + self.concise)


class GoldReward(Protocol):
    """Anything that can judge a completion by the truth; a verifier of your own fits in the same place."""

    def gold(self, prompt: Prompt, completion_text: str) -> Gold: ...


@dataclass(frozen=True, slots=True)
class Canary:
    """Fixed prompts that provoke one behaviour; `fails` says whether a completion to one of them shows the failure."""

    name: str
    failure: str  # what a completion that fails has done, for people
    prompts: tuple[Prompt, ...]
    fails: Callable[[Prompt, str], bool]
