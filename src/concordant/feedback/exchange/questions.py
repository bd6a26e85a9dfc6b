"""Questions without votes, as people have them in files: a prompt and up to nine answers that somebody is to compare.

The prompt is read by every layout of `data.layouts.prompts`. The answers stand in a list (`completions`), in columns
of one name (`response_a`, `response_b`), or one in each row, where rows of the same prompt make one question. A
column may say which answer is known to be the best.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from concordant.data.layouts.account import BadRow, Place, Problem
from concordant.data.layouts.cells import is_list
from concordant.data.layouts.exchange import answered
from concordant.data.layouts.layout import recognise
from concordant.data.layouts.prompts import PROMPTS
from concordant.data.sources import RawRow, read_rows
from concordant.data.types import Prompt
from concordant.errors import UserError

ASKING = tuple(one for one in PROMPTS if len(one.needs) == 1 and one.name != "transcript")
LISTED = ("completions", "responses", "answers")
ALONE = ("completion", "response", "answer", "output")
BESIDE = re.compile(
    rf"({'|'.join(ALONE)})_?([a-i]|[0-9])", re.IGNORECASE
)  # response_a, answer1, completion_2
BETTER, WHY = ("better", "expected"), ("explanation", "why")
EXPECTED = "prompt or messages, with completions (a list), response_a and response_b, or completion"

MOST_ANSWERS = 9  # of a question: digits choose among them
MOST_ROWS = 100_000
LONGEST = 100_000  # characters of a text: what is longer is shown cut, and cannot be judged
DEEPEST = 6  # lists and objects inside each other; a conversation needs three


FITS: Mapping[str, Callable[[int], bool]] = {  # the number of answers that a kind of question is asked about
    "pairwise": lambda k: k == 2,
    "ranking": lambda k: k >= 2,
    "rating": lambda k: k >= 1,
    "edit": lambda k: k == 1,
    "demonstration": lambda k: k == 0,
}


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A prompt with answers to it, in the order of the file; without any, people are to write one."""

    where: str
    prompt: Prompt
    answers: tuple[str, ...]
    better: int | None = None  # place of the answer that is known to be the best
    why: str = ""

    def kind(self, wanted: str | None) -> str:
        """What is asked about the answers. Errors: BadRow where they do not fit what is wanted."""
        k = len(self.answers)
        if not k and wanted != "demonstration":
            raise BadRow("missing", f"no answers: expected {EXPECTED}")
        kind = wanted or ("rating" if k == 1 else "pairwise" if k == 2 else "ranking")
        if k > MOST_ANSWERS:
            raise BadRow("number", f"{k} answers, expected {MOST_ANSWERS} at most")
        if not FITS[kind](k):
            raise BadRow("number", f"{k} answers, which cannot be a question of kind {kind}")
        if self.better is not None and kind not in ("pairwise", "ranking"):
            raise BadRow("label", "it says which answer is better, but they are not compared")
        return kind


@dataclass(frozen=True)
class QuestionsRead:
    """The questions of a file, before they are asked, and an account of what is none."""

    source: str
    rows: int
    questions: tuple[OpenQuestion, ...]
    problems: tuple[Problem, ...]
    unused: tuple[str, ...]  # columns of the first row that nobody looks at


def read_questions(source: str, *, root: Path | None = None) -> QuestionsRead:
    """The questions of any file or folder that `read_rows` takes; rows that are none are problems with their line.

    Errors: UserError for a file that is missing or too long, and for one without a question.
    """
    problems: list[Problem] = []
    rows = 0
    unused: tuple[str, ...] = ()

    def broken(error: UserError) -> None:
        problems.append(Problem(error.where, "broken line", error.what))

    def counted(raw: Iterator[RawRow]) -> Iterator[RawRow]:
        nonlocal rows, unused
        for row in raw:
            if not rows:
                unused = tuple(str(name) for name in row.value if not _is_used(str(name)))
            rows += 1
            if rows > MOST_ROWS:
                raise UserError(
                    f"{source} has more than {MOST_ROWS:,} rows",
                    where=row.where,
                    expected=f"{MOST_ROWS:,} rows or fewer",
                    fix="ask them in several files",
                )
            yield row

    raw = counted(read_rows(source, root=root, on_broken=broken))
    questions = tuple(_questions(raw, problems))
    rows += sum(problem.kind == "broken line" for problem in problems)
    if not questions:
        raise UserError(
            f"{source}: no question" + (f" among {rows} rows" if rows else ""),
            where=problems[0].where if problems else source,
            expected=EXPECTED,
            fix=problems[0].detail if problems else "check that the file is complete",
        )
    return QuestionsRead(source, rows, questions, tuple(problems), unused)


def _is_used(name: str) -> bool:
    layouts = {column for one in ASKING for column in (*one.needs, *one.uses)}
    return name in (*layouts, *LISTED, *ALONE, *BETTER, *WHY) or BESIDE.fullmatch(name) is not None


def _questions(rows: Iterable[RawRow], problems: list[Problem]) -> Iterator[OpenQuestion]:
    """The questions in the order in which they begin; answers that stand alone are gathered by their prompt."""
    found: list[list[OpenQuestion]] = []
    gathered: dict[str, list[OpenQuestion]] = {}
    for row in rows:
        try:
            one = _question(row.value, Place(row.where, problems.append))
        except BadRow as bad:
            problems.append(Problem(row.where, bad.kind, bad.detail))
            continue
        if len(one.answers) == 1 and one.prompt.id in gathered:
            gathered[one.prompt.id].append(one)
            continue
        found.append([one])
        if len(one.answers) == 1:
            gathered[one.prompt.id] = found[-1]
    yield from (parts[0] if len(parts) == 1 else _joined(parts) for parts in found)


def _joined(parts: Sequence[OpenQuestion]) -> OpenQuestion:
    """One question of those that have an answer each; of several that are known to be better the last one is."""
    marked = [at for at, one in enumerate(parts) if one.better is not None]
    return replace(
        parts[0],
        answers=tuple(one.answers[0] for one in parts),
        better=marked[-1] if marked else None,
        why=next((one.why for one in parts if one.why), ""),
    )


def _question(row: Mapping[str, Any], place: Place) -> OpenQuestion:
    if _depth(row) > DEEPEST:
        raise BadRow("type", f"lists and objects inside each other, more than {DEEPEST} deep")
    row = {name: _decoded(value) for name, value in row.items()}
    layout = recognise(row, ASKING)
    if layout is None:
        raise BadRow("missing", f"no prompt: expected {EXPECTED}")
    (prompt,) = layout.read(row, place)
    named = dict(_answers(row, prompt))
    texts = tuple(answered({name: value}, name, prompt.messages) for name, value in named.items())
    prompt = replace(prompt, answer="")  # what stands beside a prompt is an answer to be judged
    why = next((str(row[name]) for name in WHY if row.get(name)), "")
    for text in (*(message.content for message in prompt.messages), *texts, why):
        _check(text)
    return OpenQuestion(place.where, prompt, texts, _better(row, list(named), texts), why)


def _decoded(value: Any) -> Any:
    """A cell of a CSV file that holds a list as JSON; everything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[{", '["')):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if is_list(found) and _depth(found) <= DEEPEST else value


def _depth(value: Any) -> int:
    """How many lists and objects stand inside each other; without recursion, since nobody knows how many."""
    deepest, waiting = 0, [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        deepest = max(deepest, depth)
        inside = one.values() if isinstance(one, Mapping) else one if is_list(one) else ()
        waiting += ((item, depth + 1) for item in inside)
    return deepest


def _answers(row: Mapping[str, Any], prompt: Prompt) -> Iterator[tuple[str, Any]]:
    """The cells with the answers, each by a name."""
    for name in LISTED:
        if name in row:
            if not is_list(row[name]) or not row[name]:
                raise BadRow("type", f"column {name} holds no list of answers")
            yield from ((f"{name}_{at}", value) for at, value in enumerate(row[name], 1))
            return
    beside = [name for name in row if BESIDE.fullmatch(str(name)) and row[name] not in (None, "")]
    alone = [name for name in ALONE if row.get(name) not in (None, "")]
    if beside or alone:
        yield from ((name, row[name]) for name in beside or alone[:1])
    elif prompt.answer:  # of a conversation its last turn
        yield "messages", prompt.answer


def _better(row: Mapping[str, Any], names: list[str], texts: tuple[str, ...]) -> int | None:
    """The place of the answer that is known to be the best: by its column, its number or letter, or its text."""
    said = next((row[name] for name in BETTER if row.get(name) not in (None, "", False)), None)
    if said is None:
        return None
    if said is True or (len(names) == 1 and str(said).lower() in ("true", "1", "yes")):
        return 0
    word = str(said).strip().lower()
    endings = [re.sub(r".*?([a-i]|[0-9])$", r"\1", name.lower()) for name in names]
    for known in ([name.lower() for name in names], endings, list("123456789"), list("abcdefghi")):
        if word in known[: len(names)]:
            return known.index(word)
    if said in texts:
        return texts.index(said)
    raise BadRow(
        "label", f"the better answer is called {str(said)[:80]!r}, expected one of {', '.join(names)}"
    )


def _check(text: str) -> None:
    if "\x00" in text:
        raise BadRow("type", "a text with a NUL character, which no database keeps")
    if len(text) > LONGEST:
        raise BadRow("length", f"a text of {len(text):,} characters, expected {LONGEST:,} at most")
