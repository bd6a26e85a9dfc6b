"""Differences between models, paired by draw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from concordant.data.types import Prompt
from concordant.evaluation.answers import PARTS, Answer, Drift, by_family
from concordant.evaluation.changes import changes
from concordant.evaluation.figures import compared_figures
from concordant.evaluation.intervals import Change
from concordant.evaluation.perplexity import Read, text_changes


@dataclass(frozen=True)
class Known:
    """A gold reward whose parts are all alike."""

    total: float
    flags: dict[str, Any] = field(default_factory=dict)
    helpful = honest = harmless = concise = 0.25


def answer(
    model: str, draw: int, text: str = "a b", length: int = 2, family: str = "fact", **known: Any
) -> Answer:
    gold = Known(known["gold"], {"act": known.get("act", "answer")}) if "gold" in known else None
    prompt = Prompt.user(f"question {draw}", family=family)
    return Answer(
        model,
        "train",
        draw,
        prompt,
        text,
        length,
        known.get("ended", True),
        Drift(0.5 * draw, 0.0, 0.0),
        known.get("score"),
        gold,
    )


def test_every_later_model_is_compared_with_every_earlier_one() -> None:
    answers = {name: [answer(name, 0), answer(name, 1)] for name in ("base", "sft", "policy")}
    repeated = {name: [[answer(name, 0)], [answer(name, 1)]] for name in answers}
    found = changes(answers, repeated)
    assert list(found) == ["sft_minus_base", "policy_minus_base", "policy_minus_sft"]


def test_a_few_prompts_that_all_change_alike_show_nothing() -> None:
    assert math.isinf(Change.between([0.0] * 5, [0.0] * 5, range(5)).high)
    known = Change.between([0.0] * 40, [0.0] * 40, range(40))
    assert (known.low, known.high) == (0.0, 0.0)


def test_changes_are_paired_by_draw() -> None:
    before = [answer("sft", d, length=100 * d) for d in range(6)]
    after = [answer("policy", d, length=100 * d + 2 + d % 2, ended=d > 0) for d in range(6)]
    found = changes({"sft": before, "policy": after}, {"sft": [before[:2]], "policy": [after[:2]]})
    length = found["policy_minus_sft"]["length"]
    assert length["mean"] == 2.5
    assert length["high"] - length["low"] < 2, "lengths go from 0 to 500, differences from 2 to 3"
    assert found["policy_minus_sft"]["eos_rate"]["mean"] == pytest.approx(-1 / 6)
    assert found["policy_minus_sft"]["kl"]["mean"] == 0


def test_refusals_are_told_by_family() -> None:
    def said(model: str, acts: str) -> list[Answer]:
        families = ("harm", "harm", "benign", "benign")
        return [
            answer(model, d, family=family, gold=1.0, act={"r": "refuse", "c": "comply"}[act])
            for d, (family, act) in enumerate(zip(families, acts, strict=True))
        ]

    answers = {"sft": said("sft", "rccc"), "policy": said("policy", "rrrc")}
    figures = changes(answers, {name: [rows] for name, rows in answers.items()})["policy_minus_sft"]
    assert figures["refusals_by_family.harm"]["mean"] == 0.5
    assert figures["refusals_by_family.benign"]["mean"] == 0.5
    assert figures["gold_by_family.harm"]["mean"] == 0


def test_what_a_recipe_may_demand_is_what_is_measured() -> None:
    rows = {
        name: [
            answer(name, d, family=family, gold=1.0, score=0.1) for d, family in enumerate(("harm", "fact"))
        ]
        for name in ("sft", "policy")
    }
    measured = changes(rows, {name: [some] for name, some in rows.items()})["policy_minus_sft"]
    known = compared_figures(families=("harm", "fact"), scored=True, labelers=True, text=True)
    measured |= text_changes({name: [Read(name, 0, 2.0, 1, 4)] for name in rows})["policy_minus_sft"]
    assert {name for name in known if not name.startswith("win_rate.")} == set(measured)
    assert {f"gold_parts.{part}" for part in PARTS} < set(measured)
    bare = {name: [answer(name, d) for d in range(2)] for name in ("sft", "policy")}
    measured = changes(bare, {name: [some] for name, some in bare.items()})["policy_minus_sft"]
    known = compared_figures(families=None, scored=False, labelers=False, text=False)
    assert {name for name in known if not name.startswith("win_rate.")} == set(measured)


def test_failures_are_compared_where_a_prompt_provokes_them() -> None:
    def said(model: str, *failed: bool) -> list[Answer]:
        rows = [answer(model, d, gold=1.0) for d in range(4)]
        provoked = [replace(one, failures={"guessing": no}) for one, no in zip(rows, failed, strict=False)]
        return [*provoked, *rows[len(failed) :]]

    answers = {"sft": said("sft", True, True, False), "policy": said("policy", True, False, False)}
    figures = changes(answers, {name: [rows] for name, rows in answers.items()})["policy_minus_sft"]
    guessing = figures["behaviors.guessing"]
    assert (guessing["mean"], guessing["n"]) == (pytest.approx(-1 / 3), 3)
    known = compared_figures(
        families=("fact",), behaviors=("guessing",), scored=False, labelers=False, text=False
    )
    assert {name for name in known if not name.startswith("win_rate.")} == set(figures)


def test_families_keep_the_order_of_draws() -> None:
    rows = [answer("sft", d, family="ab"[d % 2]) for d in range(6)]
    assert {name: [one.draw for one in some] for name, some in by_family(rows).items()} == {
        "a": [0, 2, 4],
        "b": [1, 3, 5],
    }


def test_where_nobody_changed_a_share_is_not_known_to_the_last_digit() -> None:
    few, many = (Change.of_shares([True] * n, [True] * n) for n in (50, 5000))
    assert few.mean == many.mean == 0
    assert few.low == -few.high
    assert 0.02 < few.high < 0.06
    assert many.high < 0.001


@pytest.mark.parametrize(("before", "after"), [(0.97, 0.99), (0.5, 0.4), (0.1, 0.1)])
def test_the_interval_of_shares_covers(before: float, after: float) -> None:
    rng, held, n = np.random.default_rng(1), 0, 150
    for _ in range(2000):
        same = rng.random(n) < 0.5  # half of the draws are as hard for both
        luck, other = rng.random(n), rng.random(n)
        change = Change.of_shares(list(np.where(same, luck, other) < after), list(luck < before))
        held += change.low <= after - before <= change.high
    assert 0.93 <= held / 2000 <= 0.99  # the smaller the shares the wider


def test_of_one_draw_nothing_is_known_and_json_says_null() -> None:
    change = Change.between([1.0], [0.0], [0])
    assert change.as_dict() == {"mean": 1.0, "low": None, "high": None, "n": 1}
    assert Change.from_dict(change.as_dict()) == change
