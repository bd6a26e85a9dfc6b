"""What a report says, before it is written as HTML, Markdown or JSON: sections, made of blocks of a few kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

Tone = Literal["up", "down", "flat"]
Look = Literal["plain", "models", "ladder"]


@dataclass(frozen=True)
class Bar:
    """A bar inside a cell; positions in percent of the cell's width."""

    left: float
    width: float
    zero: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Cell:
    """A figure for people, its error beside it, and what both stand for, where it is a number."""

    text: str
    error: str = ""
    value: float | None = None
    low: float | None = None  # ends of the 95 % interval
    high: float | None = None
    bar: Bar | None = None


@dataclass(frozen=True)
class Column:
    """The head of a column; `model` gives it the colour of a model."""

    text: str
    model: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is about, one cell for each column, None where nothing is known."""

    label: str
    cells: tuple[Cell | None, ...]
    note: str = ""
    model: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph that says how to read what follows."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Callout:
    """A finding that is not to be overlooked."""

    kind: ClassVar[str] = "callout"
    tone: Tone
    headline: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notes:
    """A list of short remarks."""

    kind: ClassVar[str] = "notes"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for; `look` is for the page: a list, many short values, or sentences."""

    kind: ClassVar[str] = "facts"
    rows: tuple[tuple[str, str], ...]
    title: str = ""
    look: Literal["list", "values", "words"] = "list"


@dataclass(frozen=True)
class Stat:
    """One figure with how to read it."""

    label: str
    cell: Cell
    note: str


@dataclass(frozen=True)
class Stats:
    """Single figures."""

    kind: ClassVar[str] = "stats"
    items: tuple[Stat, ...]


@dataclass(frozen=True)
class Table:
    """Rows over columns; `corner` heads the labels of the rows."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    corner: str = ""
    note: str = ""
    title: str = ""
    look: Look = "plain"


@dataclass(frozen=True)
class Figure:
    """A drawing with its title, a line on how to read it, and its numbers as a table.

    `draw` makes the <svg> element; it is called for HTML alone. The ids in it begin with `key`.
    """

    title: str
    note: str
    draw: Callable[[], str]
    numbers: Table


@dataclass(frozen=True)
class Figures:
    """Drawings beside each other; `wide` ones take the whole line and show their numbers at once."""

    kind: ClassVar[str] = "figures"
    items: tuple[Figure, ...]
    title: str = ""
    small: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Mark:
    """A figure of an answer; `tone` from -1 (worst) to 1 (best), 0 where it has no good and bad."""

    label: str
    text: str
    tone: float = 0.0


@dataclass(frozen=True)
class Reply:
    """What one model said."""

    model: str
    name: str
    text: str
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A prompt with the answers of the models side by side; `family` is the kind of question, if it has one."""

    family: str
    turns: tuple[tuple[str, str], ...]  # role and content
    replies: tuple[Reply, ...]


@dataclass(frozen=True)
class View:
    """Samples picked and sorted in one way."""

    key: str
    title: str
    note: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Browser:
    """Samples, to be looked through by view and by family."""

    kind: ClassVar[str] = "browser"
    views: tuple[View, ...]
    families: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """A command, word for word."""

    kind: ClassVar[str] = "code"
    text: str
    title: str = ""


@dataclass(frozen=True)
class Fold:
    """What only some readers want."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: tuple[Block, ...]


Block = Text | Callout | Notes | Facts | Stats | Table | Figures | Browser | Code | Fold


@dataclass(frozen=True)
class Section:
    """A part of the report; `key` is its anchor, `short` its name in the list of sections."""

    key: str
    title: str
    short: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A whole report: the verdict first, what to keep in mind, then the sections."""

    title: str
    overline: tuple[str, ...]
    verdict: Callout
    callouts: tuple[Callout, ...]
    caveats: tuple[str, ...]
    sections: tuple[Section, ...]


def blocks(*found: Block | None) -> tuple[Block, ...]:
    """Those that there are."""
    return tuple(block for block in found if block is not None)
