"""Labelers before pairs in both orders: what a bias for what stands first does, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer, Drift
from concordant.evaluation.judged import Judged, judge
from concordant.feedback.answering.labelers import Identity
from concordant.feedback.votes import Comparison, Payload, Vote, both_bad, prefer, skip, tie


@dataclass
class Told:
    """A labeler that does as a function says, and remembers what it was asked."""

    says: Callable[[Comparison], Payload]
    name: str = "told"
    asked: list[Comparison] = field(default_factory=list)

    @property
    def identity(self) -> Identity:
        return Identity(self.name, "judge", {})

    def label(self, comparisons: Sequence[Comparison]) -> list[Vote]:
        self.asked += comparisons
        return [Vote(one.task_id, self.says(one)) for one in comparisons]


def first_shown(one: Comparison) -> Payload:
    return prefer(one.completions[0].id)


def longest(one: Comparison) -> Payload:
    return prefer(max(one.completions, key=lambda completion: len(completion.text)).id)


NEAR = Drift(0.0, 0.0, 0.0)


def answers(model: str, texts: Sequence[str]) -> list[Answer]:
    return [
        Answer(model, "train", d, Prompt.user(f"question {d}"), text, len(text), True, NEAR, None, None)
        for d, text in enumerate(texts)
    ]


OLD, NEW = ("aa", "b", "same", "dd"), ("aaaa", "bbb", "same", "d")


def judged(*labelers: Told) -> Judged:
    return judge("labelers", labelers, answers("sft", OLD), answers("policy", NEW))


def test_a_bias_for_what_stands_first_cancels_and_is_told() -> None:
    found = judged(Told(first_shown))
    assert list(found.duels.values) == [0.5] * 4
    assert (found.consistent.value, found.first_shown.value, found.first_shown.n) == (0.0, 1.0, 3)


def test_what_is_preferred_in_both_orders_wins() -> None:
    found = judged(Told(longest))
    assert list(found.duels.values) == [1, 1, 0.5, 0]
    assert list(found.duels.longer) == [2, 2, 0, -1]
    assert (found.consistent.value, found.first_shown.value) == (1.0, 0.5)


def test_equal_texts_are_ties_that_nobody_is_asked_about() -> None:
    labeler = Told(longest)
    judged(labeler)
    assert len(labeler.asked) == 6
    orders = [tuple(one.text for one in asked.completions) for asked in labeler.asked]
    assert ("aa", "aaaa") in orders
    assert ("aaaa", "aa") in orders
    assert len({one.task_id for one in labeler.asked}) == 6


def test_labelers_are_not_told_whose_an_answer_is() -> None:
    labeler = Told(longest)
    judged(labeler)
    assert "policy" not in repr([one.completions for one in labeler.asked])


def test_several_labelers_count_alike() -> None:
    found = judged(Told(longest), Told(first_shown, "other"))
    assert list(found.duels.values) == [0.75, 0.75, 0.5, 0.25]
    assert found.consistent.value == 0.5


def test_ties_and_both_bad_are_half_and_skipped_pairs_are_left_out() -> None:
    def says(one: Comparison) -> Payload:
        words = {completion.text for completion in one.completions}
        return skip("unclear") if "aa" in words else both_bad() if "b" in words else tie()

    found = judged(Told(says))
    assert found.duels.prompts == (1, 2, 3)
    assert list(found.duels.values) == [0.5] * 3
    assert found.position()["consistent"] == {"rate": None, "low": 0.0, "high": 1.0, "n": 0}


def test_how_sure_a_judge_is_counts() -> None:
    found = judged(Told(lambda _: prefer("b") | {"p": 0.8}))
    assert list(found.duels.values) == pytest.approx([0.8, 0.8, 0.5, 0.8])


def test_every_vote_is_kept_as_it_was_given() -> None:
    found = judged(Told(longest))
    rows = [json.loads(json.dumps(row)) for row in found.rows]
    assert len(rows) == 6
    assert rows[0]["models"] == {"a": "sft", "b": "policy"}
    assert {tuple(row["shown"]) for row in rows} == {("a", "b"), ("b", "a")}
    assert rows[0]["said"] == prefer("b")
