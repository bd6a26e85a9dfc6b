"""How many tokens texts have, counted without the libraries that models need."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from concordant.data.types import Message
from concordant.pipeline.context import base_path
from concordant.pipeline.forecast.size import cached_folder
from concordant.pipeline.recipe import Recipe

TURN = 4  # tokens that a chat template puts around a turn: an estimate for all but the embedded model
BYTES_A_TOKEN = 4  # of text, where there is no tokenizer to ask
_WORD = re.compile(r"\w+|[^\w\s]+")  # what the embedded tokenizer takes for one


@dataclass(frozen=True)
class Shape:
    """How long the prompt of an example is, and each of its completions, in tokens."""

    prompt: int
    completions: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of its rows, each with its prompt."""
        return len(self.completions) * self.prompt + sum(self.completions)

    def within(self, limit: int) -> Shape:
        """The same as it is trimmed to rows of `limit` tokens."""
        completions = tuple(min(one, limit - 1) for one in self.completions)
        return Shape(max(1, min(self.prompt, limit - max(completions, default=0))), completions)


@dataclass(frozen=True)
class Counting:
    """How tokens are counted, and whether by the tokenizer of the run."""

    text: Callable[[str], int]
    turn: int
    how: str

    def prompt(self, messages: Sequence[Message]) -> int:
        """Tokens up to where the assistant begins to speak."""
        return sum(self.text(message.content) + self.turn for message in messages) + self.turn

    def completion(self, text: str) -> int:
        """Tokens of an answer and of what ends it."""
        return self.text(text) + 1


def counting_of(recipe: Recipe) -> Counting:
    """The embedded tokenizer's words, the local tokenizer of the model, or a guess from the size of the text."""
    if not recipe.model.path:
        return Counting(lambda text: len(_WORD.findall(text)), 1, "the embedded tokenizer")
    path = base_path(recipe)
    folder = Path(path) if Path(path).is_dir() else cached_folder(path)
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return Counting(lambda text: len(text.encode()) // BYTES_A_TOKEN, TURN, "four bytes a token")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    how = f"the model's tokenizer, {TURN} for the template of a turn"
    return Counting(lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), TURN, how)


def repeated(shapes: Sequence[Shape], n: int) -> list[Shape]:
    """`n` shapes, these over and over."""
    return list(islice(cycle(shapes), n))


def mean(numbers: Sequence[float]) -> float:
    """Their mean; 0 of none."""
    return sum(numbers) / len(numbers) if numbers else 0.0
