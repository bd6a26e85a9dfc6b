"""The data doctor: what a data set holds, and what is wrong with it, before any model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from concordant.data.layouts.account import MISTAKES, MOST_IDENTICAL, Loaded, Problem
from concordant.data.layouts.demonstrations import DEMONSTRATIONS
from concordant.data.layouts.judgements import JUDGEMENTS
from concordant.data.layouts.layout import recognise
from concordant.data.layouts.preferences import PREFERENCES
from concordant.data.layouts.reading import (
    read_demonstrations,
    read_judgements,
    read_preferences,
    read_prompts,
)
from concordant.data.sources import RawRow, byte_marks, read_rows
from concordant.data.template import Template
from concordant.data.types import Demonstration, Judgement, Message, Preference, Prompt
from concordant.errors import UserError

Kind = Literal["demonstrations", "preferences", "judgements", "prompts"]
AnyRow = Prompt | Demonstration | Judgement | Preference

# Written by templates, never by people: in a text they mean that a template was applied before.
TEMPLATE_MARKS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "[/INST]", "<s>", "</s>")

READERS: dict[str, Callable[..., Loaded[Any]]] = {
    "demonstrations": read_demonstrations,
    "preferences": read_preferences,
    "judgements": read_judgements,
    "prompts": read_prompts,
}


@dataclass(frozen=True, slots=True)
class Lengths:
    """Percentiles of a length."""

    n: int
    p5: int
    p50: int
    p95: int
    longest: int

    @classmethod
    def of(cls, values: Iterable[int]) -> Lengths:
        """Nearest-rank percentiles; all zero if there is nothing."""
        ranked = sorted(values)
        if not ranked:
            return cls(0, 0, 0, 0, 0)
        p5, p50, p95 = (ranked[round(q * (len(ranked) - 1))] for q in (0.05, 0.5, 0.95))
        return cls(len(ranked), p5, p50, p95, ranked[-1])


@dataclass(frozen=True, slots=True)
class Sample:
    """A row to look at: its turns, its answer, the rejected one, and how it is tokenised."""

    where: str
    prompt: tuple[Message, ...]
    completion: str
    rejected: str
    pieces: tuple[
        tuple[str, bool], ...
    ]  # token texts, True where they count in a loss; empty without a template


@dataclass(frozen=True)
class CheckReport:
    """What the doctor found, for the command line to show."""

    source: str
    kind: Kind
    layout: str
    read: int
    kept: int
    dropped: int
    prompts: int  # different ones
    desirable: int | None  # judgements that call their answer a good one; None for rows of other kinds
    unused_columns: tuple[str, ...]
    characters: dict[str, Lengths]  # "prompt", "completion"; with pairs "chosen", "rejected"
    tokens: dict[str, Lengths]  # the same and "all", in tokens; empty without a template
    problems: tuple[Problem, ...]  # each with its line, in the order of the file
    notes: tuple[str, ...]  # about the file or the template as a whole
    samples: tuple[Sample, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of problem occurs."""
        return dict(Counter(problem.kind for problem in self.problems))

    @property
    def mistakes(self) -> int:
        """Problems for which a run would stop."""
        return sum(problem.kind in MISTAKES for problem in self.problems)

    @property
    def ok(self) -> bool:
        """Whether a run would take the data set as it is, with nothing beside it."""
        one_class = self.desirable in (0, self.kept)
        identical = self.counts.get("identical", 0) > MOST_IDENTICAL * self.read
        return self.mistakes == 0 and not identical and not one_class


def check(
    source: str,
    kind: Kind | None = None,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    template: Template | None = None,
) -> CheckReport:
    """Read a whole data set and report on it. `kind` is guessed from the columns where it is not given.

    Raises UserError only where nothing can be said: no such file, no known layout, no usable row.
    """
    kind = kind or guess_kind(source, root=root, split=split, columns=columns)
    loaded = READERS[kind](source, root=root, split=split, columns=columns, strict=False)
    rows: Sequence[AnyRow] = loaded.rows
    parts = [_parts(row) for row in rows]
    tokens, refused = _token_lengths(rows, template) if template else ({}, [])
    found = [*_duplicates(rows), *_contradictions(rows), *_marks(rows, template), *refused]
    return CheckReport(
        source=source,
        kind=kind,
        layout=loaded.layout,
        read=loaded.read,
        kept=loaded.kept,
        dropped=loaded.dropped,
        prompts=len({_prompt(row).id for row in rows}),
        desirable=_desirable(rows) if kind == "judgements" else None,
        unused_columns=loaded.unused,
        characters={name: Lengths.of(len(p[name]) for p in parts) for name in (parts[0] if parts else ())},
        tokens=tokens,
        problems=tuple(sorted((*loaded.problems, *found), key=_line)),
        notes=(*_file_notes(source, root), *(template.notes if template else ())),
        samples=tuple(_sample(row, template) for row in _spread(rows)),
    )


def guess_kind(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Kind:
    """What the columns of the first readable row are made for."""
    rows = read_rows(source, root=root, split=split, on_broken=lambda _: None)
    first = next(rows, RawRow(source, {}))
    present = {*first.value, *(columns or {})}
    if recognise(present, PREFERENCES):
        return "preferences"
    if recognise(present, JUDGEMENTS):
        return "judgements"
    return "demonstrations" if recognise(present, DEMONSTRATIONS) else "prompts"


def _prompt(row: AnyRow) -> Prompt:
    return row if isinstance(row, Prompt) else row.prompt


def _desirable(rows: Sequence[AnyRow]) -> int:
    return sum(row.desirable for row in rows if isinstance(row, Judgement))


def _answers(row: AnyRow) -> dict[str, str]:
    if isinstance(row, Preference):
        return {"chosen": row.chosen.text, "rejected": row.rejected.text}
    return {} if isinstance(row, Prompt) else {"completion": row.completion.text}


def _parts(row: AnyRow) -> dict[str, str]:
    return {"prompt": "\n".join(m.content for m in _prompt(row).messages), **_answers(row)}


def _line(problem: Problem) -> tuple[str, tuple[int, ...]]:
    """A sorting key: the file, then the numbers behind it."""
    file, *numbers = problem.where.replace(":row ", ":").split(":")
    return file, tuple(int(n) for n in numbers if n.isdigit())


def _duplicates(rows: Sequence[AnyRow]) -> list[Problem]:
    """Rows that repeat an earlier one word for word."""
    first: dict[tuple[object, ...], str] = {}
    found = []
    for row in rows:
        prompt = _prompt(row)
        key = (prompt.id, *_answers(row).values(), isinstance(row, Judgement) and row.desirable)
        if key in first:
            found.append(Problem(prompt.where, "duplicate", f"the same as {first[key]}", dropped=False))
        else:
            first[key] = prompt.where
    return found


def _contradictions(rows: Sequence[AnyRow]) -> list[Problem]:
    """Pairs that stand in the file both ways round, and answers that it calls good here and bad there."""
    first: dict[tuple[object, ...], str] = {}
    found = []
    for row in rows:
        said: tuple[str, str | bool]
        opposite: tuple[str, str | bool]
        if isinstance(row, Preference):
            said, opposite = (row.chosen.text, row.rejected.text), (row.rejected.text, row.chosen.text)
        elif isinstance(row, Judgement):
            said, opposite = (row.completion.text, row.desirable), (row.completion.text, not row.desirable)
        else:
            continue
        prompt = row.prompt
        other = first.get((prompt.id, *opposite))
        if other is not None:
            detail = f"says the opposite of {other}"
            found.append(Problem(prompt.where, "contradiction", detail, dropped=False))
        first.setdefault((prompt.id, *said), prompt.where)
    return found


def _marks(rows: Sequence[AnyRow], template: Template | None) -> list[Problem]:
    """Texts that hold the tokens of a template: a BOS or an end-of-turn in the data is one too many."""
    found = []
    for row in rows:
        for part, text in _parts(row).items():
            written = template.marks_in(text) if template else [m for m in TEMPLATE_MARKS if m in text]
            if written:
                detail = f"{part} holds {written[0]!r} as text: was a chat template applied before?"
                found.append(Problem(_prompt(row).where, "template token", detail, dropped=False))
    return found


def _file_notes(source: str, root: Path | None) -> list[str]:
    marks, returns = byte_marks(source, root)
    notes = []
    if marks:
        notes.append(f"{marks} byte order marks; one at the start of the file is skipped")
    if returns:
        notes.append(f"{returns} lines end in CR LF; read as line ends")
    return notes


def _token_lengths(rows: Sequence[AnyRow], template: Template) -> tuple[dict[str, Lengths], list[Problem]]:
    """Lengths of prompts, answers and whole rows in tokens, and the rows that the template refuses."""
    lengths: dict[str, list[int]] = {}
    refused = []
    for row in rows:
        messages = _prompt(row).messages
        try:
            prompt = len(template.prompt_ids(messages))
            answers = {name: len(template.completion_ids(messages, t)) for name, t in _answers(row).items()}
        except UserError as error:
            refused.append(Problem(_prompt(row).where, "template", error.what))
            continue
        row_lengths = {"prompt": prompt, **answers, "all": prompt + max(answers.values(), default=0)}
        for name, length in row_lengths.items():
            lengths.setdefault(name, []).append(length)
    return {name: Lengths.of(values) for name, values in lengths.items()}, refused


def _spread(rows: Sequence[AnyRow], n: int = 3) -> list[AnyRow]:
    """The first, the middle and the last row, or as many as there are."""
    places = sorted({0, len(rows) // 2, len(rows) - 1})[:n] if rows else []
    return [rows[place] for place in places]


def _sample(row: AnyRow, template: Template | None) -> Sample:
    prompt, answers = _prompt(row), _answers(row)
    answer = answers.get("chosen", answers.get("completion", ""))
    pieces = _pieces(row, answer, template) if template else ()
    return Sample(prompt.where, prompt.messages, answer, answers.get("rejected", ""), pieces)


def _pieces(row: AnyRow, answer: str, template: Template) -> tuple[tuple[str, bool], ...]:
    """Token texts with their mask; none for a row that the template refuses, already listed."""
    messages = _prompt(row).messages
    try:
        if isinstance(row, Demonstration):
            return template.pieces(*template.conversation((*messages, Message("assistant", answer))))
        asked = template.prompt_ids(messages)
        told = template.completion_ids(messages, answer) if answer else ()
    except UserError:
        return ()
    return template.pieces(asked + told, (False,) * len(asked) + (True,) * len(told))
