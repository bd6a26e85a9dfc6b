"""A JSON array read element by element: memory holds a window of the text, however long the array is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_HALF = 2  # characters such as "e-" that are no number's end and may be cut from what makes them one
_CUT = 16  # characters at the end of a window that may be half a literal or half an escape


class BrokenArrayError(Exception):
    """From this line on the text is no JSON array, or one that nobody writes; `cause` is what `json` says of it."""

    def __init__(self, cause: Exception, line: int, column: int = 1) -> None:
        super().__init__(str(cause))
        self.line, self.column = line, column
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Element:
    """One element, with the line it begins on and its text."""

    line: int
    value: Any
    text: str


def elements(blocks: Iterator[str]) -> Iterator[Element]:
    """The elements of a JSON array whose text comes in blocks.

    Raises `BrokenArrayError` where the text is none, or has numbers or nesting beyond what `json` reads; what stands
    before has been yielded then.
    """
    window = _Window(blocks)
    window.skip_space()
    window.take("[")
    separator = ""
    while True:
        window.skip_space()
        if window.next == "]" and separator != ",":
            break
        line = window.line_of(window.position)
        value, text = window.decode()
        yield Element(line, value, text)
        window.skip_space()
        separator = window.next
        if separator == "]":
            break
        window.take(",")
    window.take("]")
    window.end()


class _Window:
    """The part of the text that is not yet decoded, and a little before it."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self.blocks = blocks
        self.text, self.position = "", 0
        self.line, self.column = 1, 0  # where the window begins
        self._counted, self._lines = 0, 0  # line breaks up to a position of the window

    @property
    def next(self) -> str:
        return self.text[self.position : self.position + 1]

    def skip_space(self) -> None:
        while True:
            match = _SPACE.match(self.text, self.position)
            self.position = match.end() if match else self.position
            if self.position < len(self.text) or not self._grow():
                return

    def take(self, sign: str) -> None:
        if self.next != sign:
            self._refuse(json.JSONDecodeError(f"Expecting {sign!r} delimiter", self.text, self.position))
        self.position += 1

    def end(self) -> None:
        """Refuse what stands behind the array: rows there would be left out without a word."""
        self.skip_space()
        if self.next:
            self._refuse(json.JSONDecodeError("Extra data", self.text, self.position))

    def decode(self) -> tuple[Any, str]:
        """The element at the position, and its text."""
        while True:
            begin = self.position
            try:
                value, end = json.JSONDecoder().raw_decode(self.text, begin)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _CUT
                if not (cut and self._grow()):
                    self._refuse(error)
                continue
            except (ValueError, RecursionError) as error:
                raise BrokenArrayError(error, self.line_of(begin)) from None
            if end >= len(self.text) - _HALF and self._grow():
                continue  # a number may go on
            text = self.text[self.position : self.position + end - begin]
            self.position += end - begin
            return value, text

    def line_of(self, position: int) -> int:
        """The line of a position, which never goes back."""
        self._lines += self.text.count("\n", self._counted, position)
        self._counted = position
        return self.line + self._lines

    def _grow(self) -> bool:
        """Drop what is decoded and read on, at least as much as there is left: a long element is tried few times."""
        left, fresh, size = len(self.text) - self.position, [], 0
        while size < max(1, left) and (block := next(self.blocks, None)) is not None:
            fresh.append(block)
            size += len(block)
        if not size:
            return False
        line = self.line_of(self.position)
        newline = self.text.rfind("\n", 0, self.position)
        self.column = self.position - newline - 1 if newline >= 0 else self.column + self.position
        self.text = "".join([self.text[self.position :], *fresh])
        self.line, self.position, self._counted, self._lines = line, 0, 0, 0
        return True

    def _refuse(self, error: json.JSONDecodeError) -> None:
        """Say where an error of the window is in the text, with its line alone: the window is as good as all of it."""
        column = error.colno + (self.column if error.lineno == 1 else 0)
        alone = json.JSONDecodeError(error.msg, error.doc.split("\n")[error.lineno - 1], error.colno - 1)
        raise BrokenArrayError(alone, self.line + error.lineno - 1, column) from None
