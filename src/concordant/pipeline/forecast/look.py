"""A bounded look at the data of a run: how many rows there are after the split, and how long they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from concordant.data.config import Source
from concordant.data.layouts.demonstrations import DEMONSTRATIONS
from concordant.data.layouts.documents import DOCUMENTS
from concordant.data.layouts.judgements import JUDGEMENTS
from concordant.data.layouts.preferences import PREFERENCES
from concordant.data.layouts.prompts import PROMPTS
from concordant.data.layouts.reading import Reading
from concordant.data.sources import is_hub_name
from concordant.data.splits import place
from concordant.data.types import Demonstration, Judgement, Preference, Prompt
from concordant.pipeline.forecast.amounts import NONE, Amount, total
from concordant.pipeline.forecast.lengths import Counting, Shape, counting_of, mean
from concordant.pipeline.material import WorldMaterial
from concordant.pipeline.recipe import Recipe
from concordant.worlds.config import WorldConfig

COUNTED = 5_000  # rows of a source that are read; how many a larger one has follows from its bytes
MEASURED = 500  # rows of a source whose tokens are counted


@dataclass(frozen=True)
class Seen:
    """Rows of one kind as far as they were looked at."""

    rows: Amount | None = NONE  # that are learnt from, or asked; None where they are not here
    held_out: Amount | None = NONE
    shapes: tuple[Shape, ...] = ()

    @property
    def completion(self) -> float:
        """Tokens of a completion, on the average."""
        return mean([length for shape in self.shapes for length in shape.completions])

    def tokens(self) -> float:
        """Tokens of an example, on the average."""
        return mean([shape.tokens for shape in self.shapes])


@dataclass(frozen=True)
class Look:
    """What was seen of the data of a run."""

    corpus: Seen
    demonstrations: Seen
    preferences: Seen  # the examples of a reward model: a pair, or the candidates of a prompt
    judgements: Seen  # those that came as such
    prompts: Seen
    text: Seen  # held-out documents, on which perplexity is measured
    candidates: bool  # whether preferences are sampled from the model and voted on
    counting: str  # how tokens were counted
    measured: int  # rows whose tokens were counted

    @property
    def answer(self) -> float | None:
        """Tokens of an answer to be expected; None where there is nothing to go by."""
        for seen in (self.demonstrations, self.preferences, self.judgements, self.corpus):
            if seen.completion:
                return seen.completion
        return None


def look_at(recipe: Recipe, limit: int) -> Look:
    """Look at a world or at files, whose rows have to fit into `limit` tokens."""
    counting = counting_of(recipe)
    if recipe.world is not None:
        return _look_at_world(recipe, recipe.world, counting)
    return _Files(recipe, counting, limit).look()


def _look_at_world(recipe: Recipe, settings: WorldConfig, counting: Counting) -> Look:
    material = WorldMaterial(recipe)
    world = material.world
    chats = tuple(_chat(row, counting) for row in world.corpus(min(settings.corpus, MEASURED)))
    demos = tuple(
        _chat(row, counting) for row in world.demonstrations(min(settings.demonstrations, MEASURED))
    )
    asked = material.prompts()
    lengths = [counting.prompt(prompt.messages) for prompt in asked[:MEASURED]]
    answers = [shape.completions[0] for shape in demos]
    feedback = recipe.feedback
    longest = [min(length, feedback.completion) for length in answers]
    groups = [
        Shape(prompt, tuple(longest[(n + k) % len(longest)] for k in range(feedback.completions)))
        for n, prompt in enumerate(lengths)
    ]
    # A stage goes through the prompts as often as it takes.
    flags = [material.validation(prompt) for prompt in asked]
    times, rest = divmod(feedback.prompts, len(asked))
    held_out = times * sum(flags) + sum(flags[:rest])
    return Look(
        corpus=Seen(Amount(settings.corpus), shapes=chats),
        demonstrations=Seen(Amount(settings.demonstrations), shapes=demos),
        # A prompt whose candidates are all alike, or tied, gives no pair.
        preferences=Seen(
            Amount(feedback.prompts - held_out, "up to"), Amount(held_out, "up to"), tuple(groups)
        ),
        judgements=Seen(),
        prompts=Seen(Amount(len(asked)), shapes=tuple(Shape(prompt, ()) for prompt in lengths)),
        text=Seen(Amount(recipe.evaluate.documents if recipe.evaluate else 0), shapes=chats),
        candidates=True,
        counting=counting.how,
        measured=len(chats) + len(demos) + len(lengths),
    )


class _Files:
    """Looks at the files of a recipe, each source by itself."""

    def __init__(self, recipe: Recipe, counting: Counting, limit: int) -> None:
        self.recipe, self.data, self.counting, self.limit = recipe, recipe.data, counting, limit
        self.root = Path(recipe.data_root)
        self.measured = 0

    def look(self) -> Look:
        data, counting = self.data, self.counting
        demos = self._see(data.demonstrations, DEMONSTRATIONS, lambda row: _chat(row, counting))
        pairs = self._see(data.preferences, PREFERENCES, lambda row: _pair(row, counting))
        judged = self._see(data.judgements, JUDGEMENTS, lambda row: _chat(row, counting))
        asked = self._see(data.prompts, PROMPTS, lambda row: Shape(counting.prompt(row.messages), ()))
        if not data.prompts:
            whole = pairs if data.preferences else judged
            asked = Seen(_at_most(whole.rows), _at_most(whole.held_out), _prompts(whole.shapes))
        candidates = not data.preferences and not data.judgements
        if candidates:
            pairs = self._candidates(asked, demos)
        nothing = Seen()
        return Look(
            nothing, demos, pairs, judged, asked, self._text(), candidates, counting.how, self.measured
        )

    def _text(self) -> Seen:
        """Held-out documents; those of more than the context are read in several passes, and counted whole."""
        evaluate = self.recipe.evaluate
        if evaluate is None or not evaluate.documents:
            return Seen()
        found = self._see(evaluate.text, DOCUMENTS, lambda row: Shape(1, (self.counting.text(row.text),)))
        rows = found.rows and Amount(min(found.rows.number, evaluate.documents), found.rows.sure)
        return Seen(rows, shapes=found.shapes)

    def _candidates(self, asked: Seen, demos: Seen) -> Seen:
        """What is sampled for people to compare: as long as answers are, as far as they are known."""
        settings = self.recipe.feedback
        length = min(settings.completion, round(demos.completion) or settings.completion)
        shapes = tuple(Shape(one.prompt, (length,) * settings.completions) for one in asked.shapes)
        bound = settings.prompts * (1 - self.data.validation)
        rows = None if asked.rows is None else Amount(min(asked.rows.number, round(bound)), "up to")
        return Seen(rows, asked.held_out, shapes)

    def _see(self, sources: Sequence[Source], layouts: Any, shape: Callable[[Any], Shape]) -> Seen:
        parts = [self._source(source, layouts, shape) for source in sources]
        shapes = tuple(one for part in parts for one in part.shapes)
        return Seen(total([p.rows for p in parts]), total([p.held_out for p in parts]), shapes)

    def _source(self, source: Source, layouts: Any, shape: Callable[[Any], Shape]) -> Seen:
        """One source; what is wrong with it is said where a run reads it."""
        if is_hub_name(source.path, self.root):
            bound = Amount(source.limit, "up to") if source.limit else None
            return Seen(bound, bound and bound.with_share(self.data.validation))
        reading = Reading(
            source.path,
            layouts,
            lambda _: None,
            root=self.root,
            split=source.split,
            columns=source.columns,
        )
        most = source.limit or COUNTED + 1
        rows: list[Any] = []
        size = 0
        for raw, held in islice(reading, min(most, COUNTED + 1)):
            rows += held
            size += len(json.dumps(raw.value, ensure_ascii=False, default=str).encode())
        rows = rows[: source.limit or None]
        there: Amount | None = Amount(len(rows))
        if reading.read > COUNTED and source.limit != len(rows):
            there = _by_bytes(self.root / source.path, len(rows), size, source.limit)
        whole = layouts is DOCUMENTS  # nobody learns from them, so that none is kept out, and none is cut
        kept_out = 0 if whole else sum(place(_prompt(row).id, 0) < self.data.validation for row in rows)
        self.measured += min(len(rows), MEASURED)
        seen = (shape(row) for row in rows[:MEASURED])
        shapes = tuple(one if whole else one.within(self.limit) for one in seen)
        share = kept_out / max(1, len(rows))
        return Seen(_part(there, 1 - share), _part(there, share), shapes)


def _part(whole: Amount | None, share: float) -> Amount | None:
    return whole and Amount(round(whole.number * share), whole.sure)


def _by_bytes(path: Path, rows: int, size: int, limit: int) -> Amount | None:
    """How many rows a source has of which the first ones are known with their bytes; None where that is not told."""
    if path.suffix == ".parquet":
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

        number = ParquetFile(path).metadata.num_rows
    elif path.is_file() and path.suffix != ".gz":
        number = round(rows * path.stat().st_size / max(1, size))
    else:
        return None
    return Amount(min(max(rows, number), limit or number), "about")


def _at_most(rows: Amount | None) -> Amount | None:
    """Prompts of these rows, which may share them."""
    return rows and Amount(rows.number, rows.sure or "up to")


def _prompts(shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    return tuple(Shape(shape.prompt, ()) for shape in shapes)


def _prompt(row: Any) -> Prompt:
    return row if isinstance(row, Prompt) else row.prompt


def _chat(row: Demonstration | Judgement, counting: Counting) -> Shape:
    return Shape(counting.prompt(row.prompt.messages), (counting.completion(row.completion.text),))


def _pair(row: Preference, counting: Counting) -> Shape:
    sides = (row.chosen, row.rejected)
    return Shape(counting.prompt(row.prompt.messages), tuple(counting.completion(one.text) for one in sides))
