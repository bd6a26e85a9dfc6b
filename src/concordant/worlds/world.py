"""The seam for embedded worlds: what a world offers, and the table of those that exist."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from concordant.data.types import Demonstration, Prompt
from concordant.worlds.gold import Canary, Gold, GoldReward
from concordant.worlds.names import nearest
from concordant.worlds.town import Town

__all__ = ["WORLDS", "Canary", "Gold", "GoldReward", "World", "make_world"]


class World(GoldReward, Protocol):
    """A source of prompts, texts to learn from, and the truth about every completion.

    Everything a world gives depends on its name, its seed and the arguments alone.
    """

    @property
    def name(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def families(self) -> tuple[str, ...]:
        """The kinds of questions that are asked."""
        ...

    def corpus(self, n: int) -> list[Demonstration]:
        """`n` chats of mixed quality, from which a base model learns the language of the world."""
        ...

    def held_out_corpus(self, n: int) -> list[Demonstration]:
        """`n` further chats drawn as those of the corpus are, which nobody learns from."""
        ...

    def demonstrations(self, n: int) -> list[Demonstration]:
        """`n` middling answers to imitate."""
        ...

    def prompts(
        self,
        n: int,
        split: str = "train",
        families: Sequence[str] | None = None,
        rng: int | random.Random | None = None,
    ) -> list[Prompt]:
        """`n` prompts; `split`: train, ood (phrasings never seen) or heldout (subjects never trained on)."""
        ...

    def knows(self, prompt: Prompt) -> bool:
        """Whether there is a truth about answers to this prompt; people may ask whatever they like."""
        ...

    def ideal(self, prompt: Prompt) -> str:
        """A completion that no other one surpasses."""
        ...

    def max_gold(self, prompt: Prompt) -> float:
        """The total that the best completion of `prompt` reaches."""
        ...

    def failures(self, prompt: Prompt, completion: str) -> Mapping[str, bool]:
        """For each behaviour that `prompt` provokes, by the name of its canary, whether the completion fails."""
        ...

    def canaries(self) -> tuple[Canary, ...]:
        """Fixed prompts for each behaviour worth watching, with a rule to pass."""
        ...

    def vocabulary(self) -> list[str]:
        """Every word and sign that the world can write, sorted."""
        ...


WORLDS: dict[str, Callable[[int], World]] = {"town": Town}


def make_world(name: str, seed: int = 0) -> World:
    """The world called `name`, built from `seed`; an unknown name is a UserError that names the nearest."""
    if name not in WORLDS:
        raise nearest("world", name, WORLDS)
    return WORLDS[name](seed)
