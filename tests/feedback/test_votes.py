"""What a vote may say: a payload that does not answer its task is refused by the part that is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from concordant.feedback.votes import accept, check_payload, edit, prefer, ranking, rating, tie
from telling import tells


@pytest.mark.parametrize(
    ("kind", "payload", "what", "expected"),
    [
        ("pairwise", ["a"], "a vote that is a list", "an object"),
        ("pairwise", {"type": "ranking"}, "a vote of type 'ranking'", "pairwise, skip or flag"),
        ("pairwise", tie() | {"more": 1}, "unknown key 'more'", "winner"),
        ("pairwise", tie() | {"weight": -1}, "a vote of weight -1", "0 or more"),
        ("pairwise", tie() | {"weight": math.nan}, "a vote with weight nan", "a finite number"),
        ("pairwise", tie() | {"verdict": "perhaps"}, "verdict 'perhaps'", "prefer, tie or both_bad"),
        ("pairwise", tie() | {"winner": "a"}, "winner 'a' and verdict 'tie'", "one of a, b with prefer"),
        ("pairwise", prefer("c"), "winner 'c' and verdict 'prefer'", "one of a, b with prefer"),
        ("pairwise", prefer("a") | {"strength": 4}, "strength 4", "0 to 3"),
        ("pairwise", prefer("a") | {"p": 0.4}, "p 0.4", "0.5 to 1"),
        ("pairwise", prefer("a") | {"dims": {"tone": 4}}, "4 for tone", "-3 to 3"),
        ("pairwise", prefer("a") | {"dims": [1]}, "of a strange form", "dims"),
        ("ranking", ranking([["a"]]), "a ranking that is not of the completions", "each of them once"),
        ("ranking", ranking([["a"], ["b"]], ["c"]), "unacceptable ['c']", "completions of this task"),
        ("rating", rating({"a": {"overall": 1}}), "a rating that is not of the completions", "each of them"),
        ("rating", rating({"a": {"tone": 8}, "b": {"tone": 1}}), "a rating of 8 for tone", "1 to 7"),
        ("edit", edit("c", "text"), "an edit of 'c'", "one of a, b"),
        ("edit", accept("a") | {"text": "more"}, "keeps the answer and has a text", "one of the two"),
        ("edit", edit("a", " "), "an edit without a text", "the text, or accept"),
    ],
)
def test_a_payload_that_answers_no_task_is_told_by_its_part(
    kind: str, payload: Any, what: str, expected: str
) -> None:
    with tells(what, where="task 7", expected=expected):
        check_payload(payload, kind, ("a", "b"), "task 7")
