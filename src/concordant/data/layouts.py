"""Recognising the layout of a data set from its columns, and turning its rows into ours.

A layout is one line in one of the tables below: the columns it needs and
the function that reads a row. Nothing is dropped in silence: what is left out or mended is a `Problem`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from concordant.data.sources import RawRow, nearest, read_rows
from concordant.data.types import Completion, Demonstration, Message, Preference, Prompt
from concordant.errors import UserError

Row = TypeVar("Row")
Value = Mapping[str, Any]

ALIASES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}

# Problems that are mistakes in the data: an error when strict. The others are counted only.
MISTAKES = ("broken line", "missing", "null", "type", "empty", "role", "number")

MOST_IDENTICAL = 0.05  # share of pairs whose two sides are the same, above which a data set is refused


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about one row that people should know."""

    where: str
    kind: str
    detail: str
    dropped: bool = True  # False: the row was mended and kept

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class Loaded(Generic[Row]):
    """The rows of a source in our types, and an account of what did not become one."""

    rows: tuple[Row, ...]
    layout: str
    read: int  # rows in the source
    problems: tuple[Problem, ...] = ()
    unused: tuple[str, ...] = ()  # columns of the first row that the layout does not look at

    @property
    def kept(self) -> int:
        return len(self.rows)

    @property
    def dropped(self) -> int:
        """Source rows, or parts of one, that were left out."""
        return sum(problem.dropped for problem in self.problems)

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of problem occurs."""
        return dict(Counter(problem.kind for problem in self.problems))


class _Bad(Exception):  # noqa: N818  never leaves this module
    """A row that cannot be used, and why."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row comes from, and who hears about what was mended in it."""

    where: str
    note: Callable[[Problem], None]

    def mended(self, kind: str, detail: str) -> None:
        self.note(Problem(self.where, kind, detail, dropped=False))


def read_demonstrations(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Loaded[Demonstration]:
    """Read prompts with an answer to imitate; of preference pairs the chosen side.

    Of a conversation the last assistant turn is the completion and all turns before it are the prompt.
    `columns` maps our names to those of the source. Mistakes in the data raise UserError when `strict`,
    and are counted otherwise; no usable row at all is always an error.
    """
    return _read(source, root, split, columns, strict, DEMONSTRATIONS)


def read_preferences(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Loaded[Preference]:
    """Read pairs of answers to the same prompt.

    Pairs whose sides are equal are dropped and counted, and an error above 5 % when `strict`. The rest as
    in `read_demonstrations`.
    """
    loaded: Loaded[Preference] = _read(source, root, split, columns, strict, PREFERENCES)
    identical = loaded.counts.get("identical", 0)
    if strict and identical > MOST_IDENTICAL * loaded.read:
        first = next(problem.where for problem in loaded.problems if problem.kind == "identical")
        raise UserError(
            f"chosen equals rejected in {identical} of {loaded.read} pairs",
            where=f"{source} (first at {first})",
            expected=f"at most {MOST_IDENTICAL:.0%}: such a pair teaches nothing",
            fix="check which columns hold the two answers",
        )
    return loaded


def read_prompts(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Loaded[Prompt]:
    """Read what a model is to be asked; a reference answer is kept where the source has one."""
    return _read(source, root, split, columns, strict, PROMPTS)


# Cells


def _text(value: Any, column: str) -> str:
    """A cell that must hold text."""
    if value is None:
        raise _Bad("null", f"column {column} is null")
    if not isinstance(value, str):
        raise _Bad("type", f"column {column} holds {type(value).__name__}, expected text")
    if not value.strip():
        raise _Bad("empty", f"column {column} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Bad("type", f"column {column} holds half of a surrogate pair, which is no text") from None
    return value


def _cell(row: Value, column: str) -> Any:
    if column not in row:
        raise _Bad("missing", f"no column {column}")
    return row[column]


def _optional(row: Value, column: str) -> str:
    """A cell that may be absent, null or empty."""
    value = row.get(column)
    return _text(value, column) if value not in (None, "") else ""


def _number(row: Value, column: str, default: float, low: float, high: float = math.inf) -> float:
    value = row.get(column)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high or math.isinf(number):
        raise _Bad("number", f"column {column} holds {value!r}, expected a number from {low} to {high}")
    return number


def _undesirable(row: Value) -> bool:
    """Whether a `label` column (rows judged one by one) says that the answer is a bad one."""
    label = row.get("label")
    if label is None or label in (True, 1, "true", "True", "1"):
        return False
    if label in (False, 0, "false", "False", "0"):
        return True
    raise _Bad("type", f"column label holds {label!r}, accepted are true, false, 1, 0")


# Turns


def _message(value: Any, column: str) -> Message:
    if not isinstance(value, Mapping):
        raise _Bad("type", f"column {column} holds a turn that is {type(value).__name__}, expected an object")
    role, content = ("role", "content") if "role" in value else ("from", "value")
    if role not in value or content not in value:
        keys = ", ".join(map(str, value))
        raise _Bad(
            "missing", f"a turn of {column} has [{keys}], expected role and content, or from and value"
        )
    name = value[role]
    if not isinstance(name, str) or name.lower() not in ALIASES:
        known = ", ".join(ALIASES)
        raise _Bad("role", f"column {column} has a turn of {name!r}, known roles are {known}")
    if ALIASES[name.lower()] == "system" and value[content] == "":
        return Message("system", "")
    return Message(ALIASES[name.lower()], _text(value[content], f"{column}.{content}"))


def _turns(value: Any, column: str) -> tuple[Message, ...]:
    """A list of turns; an empty system turn stands for none."""
    if value is None:
        raise _Bad("null", f"column {column} is null")
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _Bad("type", f"column {column} holds {type(value).__name__}, expected a list of turns")
    turns = tuple(message for turn in value if (message := _message(turn, column)).content)
    if not turns:
        raise _Bad("empty", f"column {column} has no turns")
    return turns


def _alternating(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same turns, once it is clear that user and assistant take turns and a system turn comes first."""
    spoken = messages[1:] if messages[0].role == "system" else messages
    for number, message in enumerate(spoken):
        wanted = "assistant" if number % 2 else "user"
        if message.role != wanted:
            order = ", ".join(m.role for m in messages)
            raise _Bad("role", f"turns are [{order}], expected user and assistant by turns, user first")
    return messages


_MARK = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def transcript(text: str) -> tuple[Message, ...]:
    """The turns of a transcript with `Human:` and `Assistant:` paragraphs; an open last turn is empty."""
    parts = _MARK.split(text)
    if len(parts) < 3 or parts[0].strip():
        raise _Bad("role", "not a transcript that begins with Human: and goes on with Assistant:")
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Message(ALIASES[name.lower()], content.strip()) for name, content in pairs)


def is_transcript(text: Any) -> bool:
    """Whether a text is such a transcript."""
    return isinstance(text, str) and re.match(r"(\n\n)?Human:", text) is not None


def _joined_turns(messages: tuple[Message, ...], place: Place) -> tuple[Message, ...]:
    """Transcripts as people recorded them: empty turns left out, turns of one speaker in a row joined."""
    joined: list[Message] = []
    for message in messages:
        if joined and message.content and joined[-1].role == message.role:
            joined[-1] = Message(message.role, f"{joined[-1].content}\n\n{message.content}")
        elif message.content:
            joined.append(message)
    if len(joined) < len(messages):
        place.mended("turns joined", f"{len(messages) - len(joined)} turns were empty or by the same speaker")
    return tuple(joined)


def _spoken(text: str) -> str:
    """The last answer of a transcript, which people do leave empty: counted, not a mistake of the file."""
    if not text:
        raise _Bad("empty answer", "the last assistant turn is empty")
    return text


def _asked(value: Any, column: str, row: Value, place: Place) -> tuple[Message, ...]:
    """The turns of a prompt: text, a transcript or a list, with the system column before it."""
    if is_transcript(value):
        turns = transcript(_text(value, column))
        if turns[-1] == Message("assistant", ""):
            turns = turns[:-1]
        turns = _joined_turns(turns, place)
    elif isinstance(value, str) or value is None:
        turns = (Message("user", _text(value, column)),)
    else:
        turns = _turns(value, column)
    system = _optional(row, "system")
    if system and turns[0].role != "system":
        turns = (Message("system", system), *turns)
    return _ending_with_user(turns, column)


def _ending_with_user(turns: tuple[Message, ...], column: str) -> tuple[Message, ...]:
    if not turns or turns[-1].role != "user":
        last = f"ends with a turn of {turns[-1].role}" if turns else "is empty"
        raise _Bad("role", f"the prompt in {column} {last}, expected the user's turn at its end")
    return _alternating(turns)


def _answered(value: Any, column: str, before: tuple[Message, ...] = ()) -> str:
    """The text of an answer: text, one assistant turn, or a list that repeats the prompt before it."""
    if isinstance(value, str) or value is None:
        return _text(value, column)
    if isinstance(value, Mapping):
        value = [value]
    turns = _turns(value, column)
    if len(turns) > 1 and turns[:-1] == before[-len(turns) + 1 :]:
        turns = turns[-1:]
    if len(turns) != 1 or turns[0].role != "assistant":
        order = ", ".join(turn.role for turn in turns)
        raise _Bad(
            "role", f"column {column} has turns [{order}], expected one assistant turn after the prompt"
        )
    return turns[0].content


def _prompt(messages: tuple[Message, ...], row: Value, place: Place, answer: str = "") -> Prompt:
    family = row.get("family")
    return Prompt(messages, family if isinstance(family, str) else "", place.where, answer)


def _demonstration(turns: tuple[Message, ...], row: Value, place: Place) -> Demonstration:
    """Split a conversation before its last assistant turn."""
    _alternating(turns)
    last = max((n for n, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise _Bad("role", "a conversation without an assistant turn")
    if last + 1 < len(turns):
        place.mended("open end", "the last user turn has no answer and is left out")
    return Demonstration(_prompt(turns[:last], row, place), Completion(turns[last].content))


# Rows of pairs


def _pair(messages: tuple[Message, ...], chosen: str, rejected: str, row: Value, place: Place) -> Preference:
    return Preference(
        _prompt(messages, row, place),
        Completion(chosen),
        Completion(rejected),
        p_chosen=_number(row, "p_chosen", 1.0, 0.0, 1.0),
        margin=_number(row, "margin", 0.0, 0.0),
        weight=_number(row, "weight", 1.0, 0.0),
    )


def _asked_pair(column: str) -> Callable[[Value, Place], list[Preference]]:
    """A reader of rows whose prompt stands in a column of its own."""

    def read(row: Value, place: Place) -> list[Preference]:
        before = _instructed(row) if column == "instruction" else _context(row, column, place)
        chosen = _answered(_cell(row, "chosen"), "chosen", before)
        rejected = _answered(_cell(row, "rejected"), "rejected", before)
        return [_pair(before, chosen, rejected, row, place)]

    return read


def _context(row: Value, column: str, place: Place) -> tuple[Message, ...]:
    return _asked(_cell(row, column), column, row, place)


def _whole_pair(row: Value, place: Place) -> list[Preference]:
    """Two whole conversations; the prompt is what they share, and each adds one assistant turn."""
    sides = []
    for column in ("chosen", "rejected"):
        cell = _cell(row, column)
        sides.append(transcript(_text(cell, column)) if _is_text(cell) else _turns(cell, column))
    chosen, rejected = sides
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    if common == len(chosen) == len(rejected):
        common -= 1  # equal conversations: the last turn is still the answer
    tails = [[turn.role for turn in side[common:]] for side in sides]
    if common == 0 or tails != [["assistant"], ["assistant"]]:
        raise _Bad(
            "no common prompt",
            f"after {common} shared turns, chosen goes on with [{', '.join(tails[0])}] and rejected with "
            f"[{', '.join(tails[1])}], expected one assistant turn each",
        )
    answers = [_spoken(side[-1].content) for side in sides]
    shared = _joined_turns(chosen[:common], place) if _is_text(row["chosen"]) else chosen[:common]
    return [_pair(_ending_with_user(shared, "chosen"), answers[0], answers[1], row, place)]


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _different(
    read: Callable[[Value, Place], list[Preference]],
) -> Callable[[Value, Place], list[Preference]]:
    """The same reader, refusing pairs that state no preference."""

    def checked(row: Value, place: Place) -> list[Preference]:
        pairs = read(row, place)
        if any(pair.chosen.text == pair.rejected.text for pair in pairs):
            raise _Bad("identical", "chosen and rejected are the same text")
        return pairs

    return checked


# Rows of demonstrations


def _desired(
    read: Callable[[Value, Place], list[Demonstration]],
) -> Callable[[Value, Place], list[Demonstration]]:
    """The same reader, leaving out answers that a label column calls bad."""

    def checked(row: Value, place: Place) -> list[Demonstration]:
        if _undesirable(row):
            raise _Bad("undesirable", "the label says that this answer is a bad one: not to be imitated")
        return read(row, place)

    return checked


def _chosen_side(
    read: Callable[[Value, Place], list[Preference]],
) -> Callable[[Value, Place], list[Demonstration]]:
    def chosen(row: Value, place: Place) -> list[Demonstration]:
        return [Demonstration(pair.prompt, pair.chosen) for pair in read(row, place)]

    return chosen


def _prompt_completion(row: Value, place: Place) -> list[Demonstration]:
    before = _context(row, "prompt", place)
    answer = _answered(_cell(row, "completion"), "completion", before)
    return [Demonstration(_prompt(before, row, place), Completion(answer))]


def _joined(instruction: str, material: str) -> str:
    return f"{instruction}\n\n{material}" if material else instruction


def _instructed(row: Value) -> tuple[Message, ...]:
    """The turns before the answer in an instruction row: system, history, instruction and input."""
    turns = [Message("system", system)] if (system := _optional(row, "system")) else []
    for pair in row.get("history") or ():
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise _Bad("type", "column history holds something else than pairs of question and answer")
        turns += [Message("user", _text(pair[0], "history")), Message("assistant", _text(pair[1], "history"))]
    question = _joined(_text(_cell(row, "instruction"), "instruction"), _optional(row, "input"))
    return (*turns, Message("user", question))


def _instruction_output(row: Value, place: Place) -> list[Demonstration]:
    before = _instructed(row)
    answer = _text(_cell(row, "output"), "output")
    return [Demonstration(_prompt(before, row, place), Completion(answer))]


def _instances(row: Value, place: Place) -> list[Demonstration]:
    """One instruction with several inputs and outputs."""
    instances = _cell(row, "instances")
    if not isinstance(instances, Sequence) or isinstance(instances, str) or not instances:
        raise _Bad("type", "column instances holds no list of inputs and outputs")
    found = []
    for instance in instances:
        if not isinstance(instance, Mapping):
            raise _Bad("type", "column instances holds something else than objects")
        found += _instruction_output({**row, **instance}, place)
    return found


def _conversation(column: str) -> Callable[[Value, Place], list[Demonstration]]:
    def read(row: Value, place: Place) -> list[Demonstration]:
        turns = _turns(_cell(row, column), column)
        system = _optional(row, "system")
        if system and turns[0].role != "system":
            turns = (Message("system", system), *turns)
        return [_demonstration(turns, row, place)]

    return read


def _text_transcript(row: Value, place: Place) -> list[Demonstration]:
    text = _text(_cell(row, "text"), "text")
    if not is_transcript(text):
        raise _Bad(
            "role", "column text holds no turns: what is the prompt? expected Human: and Assistant: turns"
        )
    turns = transcript(text)
    if turns[-1].role == "assistant":
        _spoken(turns[-1].content)
    return [_demonstration(_joined_turns(turns, place), row, place)]


# Rows of prompts


def _plain_prompt(column: str) -> Callable[[Value, Place], list[Prompt]]:
    def read(row: Value, place: Place) -> list[Prompt]:
        before = _instructed(row) if column == "instruction" else _context(row, column, place)
        return [_prompt(before, row, place, _reference(row))]

    return read


def _reference(row: Value) -> str:
    """A reference answer, where a row has one as text."""
    for column in ("answer", "completion", "output"):
        value = row.get(column)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def _asked_in(column: str) -> Callable[[Value, Place], list[Prompt]]:
    """A reader of conversations: the turns before the last answer, or all where the user spoke last."""

    def read(row: Value, place: Place) -> list[Prompt]:
        turns = _alternating(_turns(_cell(row, column), column))
        if turns[-1].role == "user":
            return [_prompt(turns, row, place)]
        if len(turns) == 1:
            raise _Bad("role", "a conversation without a user turn")
        return [_prompt(turns[:-1], row, place, turns[-1].content)]

    return read


def _prompt_side(
    read: Callable[[Value, Place], list[Demonstration]], *, answers: bool = True
) -> Callable[[Value, Place], list[Prompt]]:
    def prompts(row: Value, place: Place) -> list[Prompt]:
        return [
            _prompt(d.prompt.messages, row, place, d.completion.text if answers else "")
            for d in read(row, place)
        ]

    return prompts


# The tables: the first layout whose columns are all there is taken


@dataclass(frozen=True, slots=True)
class Layout(Generic[Row]):
    """A way to write rows down: its name, the columns it needs and those it can use, and its reader."""

    name: str
    needs: tuple[str, ...]
    read: Callable[[Value, Place], list[Row]]
    uses: tuple[str, ...] = ()


_PAIR_USES = ("system", "family", "p_chosen", "margin", "weight")

_PAIRS: tuple[Layout[Preference], ...] = (
    Layout("prompt, chosen, rejected", ("prompt", "chosen", "rejected"), _asked_pair("prompt"), _PAIR_USES),
    Layout(
        "conversations with chosen, rejected",
        ("conversations", "chosen", "rejected"),
        _asked_pair("conversations"),
        _PAIR_USES,
    ),
    Layout(
        "instruction with chosen, rejected",
        ("instruction", "chosen", "rejected"),
        _asked_pair("instruction"),
        (*_PAIR_USES, "input", "history"),
    ),
    Layout("whole conversations chosen, rejected", ("chosen", "rejected"), _whole_pair, _PAIR_USES),
)

PREFERENCES = tuple(Layout(p.name, p.needs, _different(p.read), p.uses) for p in _PAIRS)

_SINGLE: tuple[Layout[Demonstration], ...] = (
    Layout("prompt, completion", ("prompt", "completion"), _prompt_completion, ("system", "family")),
    Layout(
        "instruction, output",
        ("instruction", "output"),
        _instruction_output,
        ("input", "system", "history", "family"),
    ),
    Layout("instruction, instances", ("instruction", "instances"), _instances, ("family",)),
    Layout("messages", ("messages",), _conversation("messages"), ("system", "family")),
    Layout("conversations", ("conversations",), _conversation("conversations"), ("system", "family")),
    Layout("transcript", ("text",), _text_transcript, ("family",)),
)

DEMONSTRATIONS = (
    *(Layout(f"{p.name}: the chosen side", p.needs, _chosen_side(p.read), p.uses) for p in _PAIRS),
    *(Layout(d.name, d.needs, _desired(d.read), (*d.uses, "label")) for d in _SINGLE),
)

_ANSWERS = ("answer", "completion", "output", "system", "family")

PROMPTS: tuple[Layout[Prompt], ...] = (
    Layout("prompt", ("prompt",), _plain_prompt("prompt"), _ANSWERS),
    Layout("instruction, instances", ("instruction", "instances"), _prompt_side(_instances), ("family",)),
    Layout("instruction", ("instruction",), _plain_prompt("instruction"), (*_ANSWERS, "input", "history")),
    Layout("messages", ("messages",), _asked_in("messages"), ("family",)),
    Layout("conversations", ("conversations",), _asked_in("conversations"), ("family",)),
    Layout(
        "whole conversations chosen, rejected: their prompt",
        ("chosen", "rejected"),
        _prompt_side(_chosen_side(_whole_pair), answers=False),
        ("family",),
    ),
    Layout("transcript", ("text",), _prompt_side(_text_transcript), ("family",)),
)


def recognise(present: Iterable[str], layouts: Sequence[Layout[Row]]) -> Layout[Row] | None:
    """The first layout all of whose columns are present."""
    names = set(present)
    return next((layout for layout in layouts if names.issuperset(layout.needs)), None)


# Reading


_LIKELY = {
    "chosen": ("good", "better", "best", "preferred", "winner", "win", "accepted", "positive", "pos"),
    "rejected": ("bad", "worse", "worst", "dispreferred", "loser", "lose", "refused", "negative", "neg"),
    "prompt": ("question", "query", "input", "instruction", "request", "context", "user", "problem"),
    "completion": ("answer", "output", "reply", "target", "summary", "solution", "assistant", "text"),
}


def _suggestion(missing: Sequence[str], spare: list[str]) -> dict[str, str]:
    """Which of the spare columns each missing one may be."""
    found: dict[str, str] = {}
    for column in missing:
        likely = [name for name in spare if name.lower() in _LIKELY.get(column, ())]
        guess = likely or nearest(column, spare)
        if guess:
            found[column] = guess[0]
            spare = [name for name in spare if name != guess[0]]
    return found


def _unknown_layout(present: Sequence[str], layouts: Sequence[Layout[Any]], source: str) -> UserError:
    best = max(layouts, key=lambda layout: len(set(layout.needs) & set(present)) / len(layout.needs))
    missing = [name for name in best.needs if name not in present]
    guess = _suggestion(missing, [name for name in present if name not in best.needs])
    names = {name: guess.get(name, "…") for name in missing}
    others = "; ".join(", ".join(layout.needs) for layout in layouts if layout is not best)
    return UserError(
        f"{source} has [{', '.join(present)}]; need {', '.join(best.needs)}",
        where=source,
        expected=f"these columns, or those of another layout: {others}",
        fix="map them: " + ", ".join(f'columns.{name} = "{actual}"' for name, actual in names.items()),
    )


def _mapped(value: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row under our column names."""
    if not columns:
        return value
    taken = set(columns.values())
    kept = {name: cell for name, cell in value.items() if name not in taken and name not in columns}
    return kept | {ours: value[actual] for ours, actual in columns.items() if actual in value}


def _check_mapping(first: dict[str, Any], columns: Mapping[str, str], source: str) -> None:
    for ours, actual in columns.items():
        if actual not in first:
            like = nearest(actual, first)
            raise UserError(
                f"columns.{ours} = {actual!r}, but {source} has [{', '.join(first)}]",
                where=source,
                expected="the name of a column that is there",
                fix=f"did you mean {like[0]!r}?" if like else "name one of them",
            )


def _read(
    source: str,
    root: Path | None,
    split: str | None,
    columns: Mapping[str, str] | None,
    strict: bool,
    layouts: Sequence[Layout[Row]],
) -> Loaded[Row]:
    problems: list[Problem] = []

    def broken(error: UserError) -> None:
        detail = error.what.removeprefix("broken JSON").lstrip(" :")
        problems.append(Problem(error.where, "broken line", detail))

    raw = read_rows(source, root=root, split=split, on_broken=broken)
    loaded = normalise(raw, source, layouts, columns or {}, problems)
    if strict:
        _refuse_mistakes(loaded, source)
    if not loaded.rows:
        reasons = ", ".join(f"{n} {kind}" for kind, n in loaded.counts.items())
        raise UserError(
            f"{source}: no usable row" + (f" among {loaded.read} ({reasons})" if loaded.problems else ""),
            where=loaded.problems[0].where if loaded.problems else source,
            expected="at least one row",
            fix=loaded.problems[0].detail if loaded.problems else "check that the file is complete",
        )
    return loaded


def normalise(
    raw: Iterable[RawRow],
    source: str,
    layouts: Sequence[Layout[Row]],
    columns: Mapping[str, str],
    problems: list[Problem],
) -> Loaded[Row]:
    """Turn raw rows into ours by the layout that the first of them shows; `problems` is added to."""
    layout: Layout[Row] | None = None
    rows: list[Row] = []
    unused: tuple[str, ...] = ()
    read = 0
    for row in raw:
        read += 1
        if layout is None:
            _check_mapping(row.value, columns, source)
            present = list(_mapped(row.value, columns))
            layout = recognise(present, layouts)
            if layout is None:
                raise _unknown_layout(present, layouts, source)
            unused = tuple(name for name in present if name not in layout.needs + layout.uses)
        try:
            rows += layout.read(_mapped(row.value, columns), Place(row.where, problems.append))
        except _Bad as bad:
            problems.append(Problem(row.where, bad.kind, bad.detail))
    broken = sum(problem.kind == "broken line" for problem in problems)
    return Loaded(tuple(rows), layout.name if layout else "", read + broken, tuple(problems), unused)


def _refuse_mistakes(loaded: Loaded[Any], source: str) -> None:
    """Raise one error for all mistakes: how many, the first five, and what to do."""
    mistakes = [problem for problem in loaded.problems if problem.kind in MISTAKES]
    if not mistakes:
        return
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(m.kind for m in mistakes).items())
    shown = "\n".join(f"    {mistake}" for mistake in mistakes[:5])
    more = f"\n    and {len(mistakes) - 5} more" if len(mistakes) > 5 else ""
    raise UserError(
        f"{source}: {len(mistakes)} of {loaded.read} rows cannot be used ({kinds})\n{shown}{more}",
        where=mistakes[0].where,
        expected="text in every cell that is needed, and turns of known roles",
        fix="mend these rows, or set data.skip_bad_rows = true to leave them out and have them counted",
    )
