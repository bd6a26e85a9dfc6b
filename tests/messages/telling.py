"""What a message for people has to say, part by part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from concordant.errors import UserError


@contextmanager
def tells(what: str, *, where: str = "", expected: str = "", fix: str = "") -> Iterator[None]:
    """The block ends with a message whose parts hold these words, and none of whose parts is empty."""
    with pytest.raises(UserError) as caught:
        yield
    error = caught.value
    said = {"what": error.what, "where": error.where, "expected": error.expected, "fix": error.fix}
    for part, words in {"what": what, "where": where, "expected": expected, "fix": fix}.items():
        assert said[part], f"nothing is said of {part}: {error}"
        assert words in said[part], f"{part}: {said[part]!r} without {words!r}"
