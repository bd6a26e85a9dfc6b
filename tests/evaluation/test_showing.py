"""Which prompts are looked at closely, and differences between answers."""

from __future__ import annotations

import pytest

from concordant.data.types import Message, Prompt
from concordant.evaluation.answers import Answer, Drift, differences, gold_gaps
from concordant.evaluation.showing import SHOWN_WITHOUT_FAMILIES, side_by_side, spread
from concordant.worlds.gold import Gold


def prompt(text: str, family: str = "") -> Prompt:
    return Prompt((Message("user", text),), family=family)


def answer(
    model: str, asked: Prompt, draw: int = 0, *, score: float = 0.0, gold: float | None = None
) -> Answer:
    worth = None if gold is None else Gold(helpful=gold, honest=0.0, harmless=0.0, concise=0.0, flags={})
    return Answer(model, "train", draw, asked, f"{model} says", 3, True, Drift(0.0, 0.0, 0.0), score, worth)


def test_prompts_come_in_turn_from_all_families_and_once_each() -> None:
    asked = [prompt("a", "x"), prompt("a", "x"), prompt("b", "x"), prompt("c", "x"), prompt("d", "y")]
    assert spread(asked, 10) == [0, 4, 2, 3]
    assert spread(asked, 2) == [0, 4]


def test_answers_of_all_models_stand_side_by_side_and_each_prompt_once() -> None:
    asked = [prompt("a", "x"), prompt("a", "x"), prompt("b", "x"), prompt("c", "x"), prompt("d", "y")]
    models = {name: [answer(name, p, i) for i, p in enumerate(asked)] for name in ("base", "sft")}
    shown = side_by_side(models)
    assert [row["prompt"][0]["content"] for row in shown] == ["a", "b", "d"]
    assert all(set(row["answers"]) == {"base", "sft"} for row in shown)
    assert shown[0]["answers"]["sft"] == {"text": "sft says", "gold": None, "score": 0.0}
    many = [prompt(str(i)) for i in range(30)]
    assert len(side_by_side({"base": [answer("base", p) for p in many]})) == SHOWN_WITHOUT_FAMILIES


def test_gaps_are_between_consecutive_models_and_paired_by_draw() -> None:
    asked = [prompt(str(i)) for i in range(4)]
    before = [answer("base", p, i, gold=float(i)) for i, p in enumerate(asked)]
    after = [answer("sft", p, i, gold=i + 0.5) for i, p in enumerate(asked)]
    gaps = gold_gaps({"base": before, "sft": after})
    assert list(gaps) == ["sft_minus_base"]
    assert gaps["sft_minus_base"].mean == pytest.approx(0.5)
    assert gaps["sft_minus_base"].se == pytest.approx(0.0, abs=1e-12)  # unpaired it would be 0.9
    assert gold_gaps({"base": [answer("base", asked[0])], "sft": [answer("sft", asked[0])]}) == {}


def test_differences_use_every_answer_once() -> None:
    group = [answer("sft", prompt("a"), score=s, gold=g) for s, g in ((1, 5), (3, 2), (0, 1), (4, 4))]
    assert list(differences([group])) == [(-2.0, 3.0), (-4.0, -3.0)]
