"""One pass over a source, a row at a time, and the report on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from concordant.data.doctor.figures import Figures, Lengths, drifts, script_of, skews
from concordant.data.doctor.ledger import Entry, Ledger, hashed, ledger
from concordant.data.layouts.account import MISTAKES, MOST_IDENTICAL, Problem
from concordant.data.layouts.demonstrations import DEMONSTRATIONS
from concordant.data.layouts.judgements import JUDGEMENTS
from concordant.data.layouts.layout import Layout, recognise
from concordant.data.layouts.preferences import PREFERENCES
from concordant.data.layouts.prompts import PROMPTS
from concordant.data.layouts.reading import Reading
from concordant.data.sources import RawRow, byte_marks, read_rows
from concordant.data.template import Overlong, Template, fit
from concordant.data.types import Demonstration, Judgement, Message, Preference, Prompt
from concordant.errors import UserError

Kind = Literal["demonstrations", "preferences", "judgements", "prompts"]
AnyRow = Prompt | Demonstration | Judgement | Preference

# Written by templates, never by people: in a text they mean that a template was applied before.
TEMPLATE_MARKS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "[/INST]", "<s>", "</s>")
KEPT_PROBLEMS = 1_000  # problems in a report; all of them are in the ledger

LAYOUTS: dict[str, Sequence[Layout[Any]]] = {
    "demonstrations": DEMONSTRATIONS,
    "preferences": PREFERENCES,
    "judgements": JUDGEMENTS,
    "prompts": PROMPTS,
}


@dataclass(frozen=True, slots=True)
class Origin:
    """A source, and how it is read."""

    source: str
    kind: Kind | None = None  # None: guessed from the columns
    root: Path | None = None
    split: str | None = None
    columns: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """Most tokens of a prompt with an answer, and what becomes of longer rows."""

    length: int
    overlong: Overlong = "trim_prompt_left"


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
    layout: str  # empty where no row could be read
    read: int  # rows of the source: `used` and `dropped` of them
    kept: int  # usable rows of ours; a row of the source may hold several
    dropped: int
    prompts: int  # different ones
    desirable: int | None  # judgements that call their answer a good one; None for rows of other kinds
    unused_columns: tuple[str, ...]
    characters: dict[str, Lengths]  # "prompt", "completion"; with pairs "chosen", "rejected"
    tokens: dict[str, Lengths]  # the same and "all", in tokens; empty without a template
    limit: Limit | None
    counts: dict[str, int]  # problems of each kind
    problems: tuple[Problem, ...]  # the first of them, each with its line, in the order of the file
    notes: tuple[str, ...]  # about the file, the template or the rows as a whole
    samples: tuple[Sample, ...]

    @property
    def used(self) -> int:
        """Rows of the source that hold at least one usable row."""
        return self.read - self.dropped

    @property
    def mistakes(self) -> int:
        """Problems for which a run would stop."""
        return sum(self.counts.get(kind, 0) for kind in (*MISTAKES, "template"))

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why a run would refuse the data set, or its figures would mean nothing; empty where it is fit."""
        overlong = self.counts.get("too long", 0)
        every = self.limit is not None and self.limit.overlong == "error"
        reasons = {
            "there is no usable row": not self.kept,
            f"{self.mistakes} rows have mistakes": self.mistakes > 0,
            f"chosen equals rejected in more than {MOST_IDENTICAL:.0%} of the pairs": (
                self.counts.get("identical", 0) > MOST_IDENTICAL * self.read
            ),
            "all answers are of one class, and the loss needs both": (
                self.kept > 0 and self.desirable in (0, self.kept)
            ),
            f"{self.counts.get('leak', 0)} rows have a prompt that is held out": "leak" in self.counts,
            f"{overlong} of {self.kept} rows do not fit": overlong > 0 and (every or overlong == self.kept),
        }
        return tuple(reason for reason, holds in reasons.items() if holds)

    @property
    def ok(self) -> bool:
        """Whether a run would take the data set as it is, with nothing beside it."""
        return not self.refusals


@dataclass(frozen=True)
class Examination:
    """A report, and what stands behind it for as long as the ledger is open."""

    report: CheckReport
    origin: Origin
    book: Ledger

    def problems(self) -> Iterator[Problem]:
        """All problems in the order of the source."""
        return self.book.problems()


def check(
    source: str,
    kind: Kind | None = None,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    template: Template | None = None,
) -> CheckReport:
    """The report of `examine` alone."""
    with examine(Origin(source, kind, root, split, columns), template=template) as examination:
        return examination.report


@contextmanager
def examine(
    origin: Origin,
    *,
    template: Template | None = None,
    limit: Limit | None = None,
    against: Origin | None = None,
    samples: int = 3,
) -> Iterator[Examination]:
    """Read a whole data set and report on it, in memory that does not grow with it.

    `limit` needs a `template`. Rows whose prompt is among those of `against` are leaks: it is what is held out.
    Raises UserError only where nothing can be said: no such file, no known layout, no disk for the ledger.
    """
    origin = Origin(
        origin.source, origin.kind or guess_kind(origin), origin.root, origin.split, origin.columns
    )
    with ledger() as book:
        held_out = _hold(book, against) if against else None
        checkup = _Checkup(book, template, limit, samples)
        reading = checkup.read(origin)
        book.settle()
        yield Examination(_report(origin, reading, checkup, held_out), origin, book)


def guess_kind(origin: Origin) -> Kind:
    """What the columns of the first readable row are made for."""
    rows = read_rows(origin.source, root=origin.root, split=origin.split, on_broken=lambda _: None)
    first = next(rows, RawRow(origin.source, {}))
    present = {*first.value, *(origin.columns or {})}
    if recognise(present, PREFERENCES):
        return "preferences"
    if recognise(present, JUDGEMENTS):
        return "judgements"
    return "demonstrations" if recognise(present, DEMONSTRATIONS) else "prompts"


def reading_of(origin: Origin, note: Callable[[Problem], None]) -> Reading[Any]:
    """A pass over a source whose kind is known."""
    return Reading(
        origin.source,
        LAYOUTS[origin.kind or guess_kind(origin)],
        note,
        root=origin.root,
        split=origin.split,
        columns=origin.columns,
    )


@dataclass
class _Checkup:
    """What one pass over a source collects."""

    book: Ledger
    template: Template | None
    limit: Limit | None
    wanted: int  # samples
    figures: Figures = field(default_factory=Figures)
    picked: dict[int, AnyRow] = field(default_factory=dict)  # samples by the number of their row
    dropped: int = 0
    _draws: random.Random = field(default_factory=lambda: random.Random(0))

    def read(self, origin: Origin) -> Reading[Any]:
        """Look at every row of a source."""
        reading = reading_of(origin, self._note)
        for _, rows in reading:
            for row in rows:
                self._look_at(row)
        return reading

    def _note(self, problem: Problem) -> None:
        self.dropped += problem.dropped
        self.book.problem(problem)

    def _look_at(self, row: AnyRow) -> None:
        n = self.book.row(entry_of(row))
        self._pick(n, row)
        parts = parts_of(row)
        scripts = {part: script_of(text) for part, text in parts.items()}
        for part, text in parts.items():
            self.figures.text(part, text, scripts[part])
        if isinstance(row, Preference):
            self.figures.pair(row.chosen.text, row.rejected.text)
        if isinstance(row, Judgement):
            self.figures.desirable += row.desirable
        for kind, detail in (*self._marks(parts), *_other_scripts(scripts), *self._count_tokens(row)):
            self.book.problem(Problem(prompt_of(row).where, kind, detail, dropped=False), n)

    def _pick(self, n: int, row: AnyRow) -> None:
        """Keep the first row, and of the others each with the same probability (reservoir sampling)."""
        if len(self.picked) < self.wanted:
            self.picked[n] = row
        elif self.wanted > 1 and (place := self._draws.randrange(n)) < self.wanted - 1:
            del self.picked[list(self.picked)[place + 1]]
            self.picked[n] = row

    def _marks(self, parts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Texts that hold the tokens of a template: a BOS or an end-of-turn in the data is one too many."""
        for part, text in parts.items():
            if self.template:
                written = self.template.marks_in(text)
            else:
                written = [mark for mark in TEMPLATE_MARKS if mark in text]
            if written:
                detail = f"{part} holds {written[0]!r} as text: was a chat template applied before?"
                yield "template token", detail

    def _count_tokens(self, row: AnyRow) -> Iterator[tuple[str, str]]:
        """Count tokens, and say where the template refuses the row or the row is too long."""
        if self.template is None:
            return
        messages = prompt_of(row).messages
        try:
            prompt = self.template.prompt_ids(messages)
            answers = {
                name: self.template.completion_ids(messages, text) for name, text in answers_of(row).items()
            }
        except UserError as error:
            yield "template", error.what
            return
        lengths = {"prompt": len(prompt), **{name: len(ids) for name, ids in answers.items()}}
        whole = len(prompt) + max(map(len, answers.values()), default=0)
        self.figures.token_lengths({**lengths, "all": whole})
        if self.limit and whole > self.limit.length:
            fitted = fit(prompt, [*answers.values(), ()], self.limit.length, self.limit.overlong)
            yield (
                "too long" if fitted is None else "trimmed",
                f"{whole:,} tokens, {whole - len(prompt):,} of them the answer, where {self.limit.length:,} fit",
            )


def _hold(book: Ledger, origin: Origin) -> Figures:
    """Put the prompts of a source that is held out into the ledger."""
    figures = Figures()

    def prompts() -> Iterator[tuple[int, int]]:
        for _, rows in reading_of(origin, lambda _: None):
            for row in rows:
                text = parts_of(row)["prompt"]
                figures.text("prompt", text, script_of(text))
                yield prompt_hashes(prompt_of(row))

    book.hold(prompts())
    return figures


def _report(
    origin: Origin, reading: Reading[Any], checkup: _Checkup, held_out: Figures | None
) -> CheckReport:
    book, figures = checkup.book, checkup.figures
    assert origin.kind is not None
    return CheckReport(
        source=origin.source,
        kind=origin.kind,
        layout=reading.layout.name if reading.layout else "",
        read=reading.read,
        kept=book.n,
        dropped=checkup.dropped,
        prompts=book.prompts,
        desirable=figures.desirable if origin.kind == "judgements" else None,
        unused_columns=reading.unused,
        characters={name: counts.lengths for name, counts in figures.characters.items()},
        tokens={name: counts.lengths for name, counts in figures.tokens.items()},
        limit=checkup.limit,
        counts=book.counts(),
        problems=tuple(book.problems(KEPT_PROBLEMS)),
        notes=(
            *_file_notes(origin),
            *(template_notes(checkup.template) if checkup.template else ()),
            *skews(figures),
            *(drifts(figures, held_out) if held_out else ()),
        ),
        samples=tuple(_sample(row, checkup.template) for _, row in sorted(checkup.picked.items())),
    )


def prompt_of(row: AnyRow) -> Prompt:
    """The prompt a row is about."""
    return row if isinstance(row, Prompt) else row.prompt


def answers_of(row: AnyRow) -> dict[str, str]:
    """The answers of a row by their name."""
    if isinstance(row, Preference):
        return {"chosen": row.chosen.text, "rejected": row.rejected.text}
    return {} if isinstance(row, Prompt) else {"completion": row.completion.text}


def parts_of(row: AnyRow) -> dict[str, str]:
    """All texts of a row by their name."""
    return {"prompt": "\n".join(m.content for m in prompt_of(row).messages), **answers_of(row)}


def prompt_hashes(prompt: Prompt) -> tuple[int, int]:
    """Of a prompt as it is, and without case and spaces."""
    turns = [part for m in prompt.messages for part in (m.role, m.content)]
    return hashed(*turns), hashed(*("".join(turn.casefold().split()) for turn in turns))


def entry_of(row: AnyRow) -> Entry:
    """What the ledger remembers of a row."""
    prompt, plain = prompt_hashes(prompt_of(row))
    side, p, answers = 0, 0.0, list(answers_of(row).values())
    if isinstance(row, Preference):
        side = int(answers == sorted(answers))
        p = row.p_chosen if side else 1 - row.p_chosen
    elif isinstance(row, Judgement):
        side = int(row.desirable)
    return Entry(prompt_of(row).where, hashed(str(prompt), *sorted(answers)), side, prompt, plain, p)


def repetitions(rows: Iterable[AnyRow]) -> tuple[int, int]:
    """Of rows in memory, how many say again what an earlier one says, and how many the opposite of one."""
    said: set[tuple[int, int]] = set()
    repeated = opposed = 0
    for row in rows:
        entry = entry_of(row)
        repeated += (entry.about, entry.side) in said
        opposed += (entry.about, 1 - entry.side) in said
        said.add((entry.about, entry.side))
    return repeated, opposed


def _other_scripts(scripts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Answers in another script than their prompt."""
    asked = scripts["prompt"]
    for part, script in scripts.items():
        if asked and script and script != asked:
            yield "script", f"the prompt is {asked}, {part} is {script}"
            return


def _file_notes(origin: Origin) -> list[str]:
    marks, returns = byte_marks(origin.source, origin.root)
    notes = []
    if marks:
        notes.append(f"{marks} byte order marks; one at the start of the file is skipped")
    if returns:
        notes.append(f"{returns} lines end in CR LF; read as line ends")
    return notes


def template_notes(template: Template) -> list[str]:
    """What had to be decided about a template, and how prompts begin and answers end with it."""
    tokenizer = template.tokenizer
    question = (Message("user", "question"),)
    asked, told = template.prompt_ids(question), template.completion_ids(question, "answer")
    last = " ".join(repr(text) for text, _ in template.pieces(told[-3:], (True,) * len(told[-3:])))
    notes = [*template.notes, f"an answer ends with the tokens {last}"]
    bos = tokenizer.bos_token_id
    if bos is not None and asked[0] == bos and tokenizer("question")["input_ids"][:1] == [bos]:
        notes.append(f"template and tokenizer both add {tokenizer.bos_token}: it is written once")
    return notes


def _sample(row: AnyRow, template: Template | None) -> Sample:
    prompt, answers = prompt_of(row), answers_of(row)
    answer = answers.get("chosen", answers.get("completion", ""))
    pieces = _pieces(row, answer, template) if template else ()
    return Sample(prompt.where, prompt.messages, answer, answers.get("rejected", ""), pieces)


def _pieces(row: AnyRow, answer: str, template: Template) -> tuple[tuple[str, bool], ...]:
    """Token texts with their mask; none for a row that the template refuses, already listed."""
    messages = prompt_of(row).messages
    try:
        if isinstance(row, Demonstration):
            return template.pieces(*template.conversation((*messages, Message("assistant", answer))))
        asked = template.prompt_ids(messages)
        told = template.completion_ids(messages, answer) if answer else ()
    except UserError:
        return ()
    return template.pieces(asked + told, (False,) * len(asked) + (True,) * len(told))
