"""Stages against each other in a task, document by document."""

from __future__ import annotations

import math
import random

import pytest

from concordant.evaluation.intervals import Change
from concordant.evaluation.tasks import Metric, Outcome, Scored, compared, standing


def outcome(*values: float, metric: Metric | None = None, size: float = 1.0) -> Outcome:
    scored = [Scored(n, f"hash {n}", {"acc": (value, size)}) for n, value in enumerate(values)]
    return Outcome("1.0", 0, {"acc": metric or Metric(True, None)}, scored)


def change(low: float, high: float) -> Change:
    return Change((low + high) / 2, low, high, 100)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.1, "better"),
        (-0.019, 0.1, "not worse"),
        (-0.019, -0.001, "not worse"),
        (-0.021, 0.1, "open"),
        (-0.1, -0.019, "open"),
        (-0.1, -0.021, "worse"),
        (-math.inf, math.inf, "open"),
    ],
)
def test_the_interval_against_the_margin(low: float, high: float, said: str) -> None:
    assert standing(change(low, high), 0.02, higher_is_better=True) == said
    assert standing(change(-high, -low), 0.02, higher_is_better=False) == said


def test_documents_are_paired() -> None:
    """One document of 200 lost: nobody could tell by looking at the two means alone."""
    draw = random.Random(0)
    before = [float(draw.random() < 0.5) for _ in range(200)]
    after = [*before]
    after[before.index(1.0)] = 0.0
    row = compared(outcome(*after), outcome(*before), 0.03)["acc"]
    assert row["mean"] == pytest.approx(-1 / 200)
    assert row["verdict"] == "not worse"
    alone = 1.96 * math.sqrt(2 * 0.25 / 200)
    assert row["high"] - row["low"] < alone / 2


def test_perplexities_are_over_all_words_and_lower_is_better() -> None:
    known = Metric(False, 7.4)
    before = outcome(10.0, 40.0, metric=known, size=5)
    after = outcome(11.0, 41.01, metric=known, size=5)
    assert before.figures()["acc"]["mean"] == pytest.approx(5.0)
    assert before.figures()["acc"]["reported"] == 7.4
    row = compared(after, before, 0.1)["acc"]
    assert row["mean"] == pytest.approx(0.201)
    assert row["verdict"] == "worse"
    alike = outcome(11.0, 41.0, metric=known, size=5)
    assert compared(alike, before, 0.1)["acc"]["verdict"] == "open", (
        "two that change alike say nothing of others"
    )


def test_a_metric_of_the_whole_set_has_no_mean_and_no_change() -> None:
    bleu = Outcome("1", 0, {"bleu": Metric(True, 31.5)}, [Scored(0, "a", {})])
    assert bleu.figures() == {"bleu": {"higher_is_better": True, "reported": 31.5}}
    assert compared(bleu, bleu, 0.1) == {}


def test_other_documents_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different documents"):
        compared(outcome(1.0), outcome(1.0, 0.0), 0.1)
