"""The figures of a model from its answers, on answers made up so that each is known."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer, Drift
from concordant.evaluation.model_metrics import across_prompts, describe, relative_to, within_prompts
from concordant.evaluation.non_length_gain import non_length_gain
from concordant.evaluation.text_metrics import vocabularies


def answer(draw: int, text: str = "a b", **known: Any) -> Answer:
    return Answer(
        known.get("model", "sft"),
        "train",
        draw,
        Prompt.user(known.get("asked", f"question {draw}")),
        text,
        known.get("length", 2),
        known.get("ended", True),
        Drift(*known.get("drift", (-1.0, -2.0, 0.4))),
        known.get("score"),
        None,
    )


def test_what_is_told_per_token_weighs_long_answers_more() -> None:
    figures = describe(
        [answer(0, length=1, drift=(-1.0, -4.0, 2.0)), answer(1, length=9, drift=(-2.0, -3.0, 1.0))]
    )
    assert figures["kl"]["mean"] == pytest.approx((3 + 1) / 2)
    assert figures["kl_per_token"]["mean"] == pytest.approx((3 + 1) / 10)
    assert figures["kl_k3_per_token"]["mean"] == pytest.approx(3 / 10)
    assert figures["entropy"]["mean"] == pytest.approx(1.5)
    assert figures["ref_nll_per_token"]["mean"] == pytest.approx(7 / 10)
    assert figures["length_p95"] == pytest.approx(8.6)


def test_answers_that_end_in_a_loop_are_counted() -> None:
    found = describe([answer(0, "no no no"), answer(1), answer(2), answer(3)])["loops"]
    assert (found["rate"], found["n"]) == (0.25, 4)


def test_lengths_and_scores_are_told_in_deviations_of_the_start() -> None:
    start = [answer(n, length=10 + 2 * (n % 2), score=float(n % 2)) for n in range(40)]
    later = [answer(n, length=13, score=0.5) for n in range(40)]
    found = relative_to(start, later)
    assert found["length_z"]["mean"] == pytest.approx(2 / np.std([10, 12] * 20, ddof=1))
    assert found["score_z"]["mean"] == pytest.approx(0)
    assert set(relative_to(start, [answer(0)])) == {"length_z"}, (
        "without scores there is nothing to say of them"
    )
    assert relative_to([answer(0), answer(1)], later) == {}, "a start that never varied sets no scale"


def test_a_template_shows_across_prompts_and_not_within() -> None:
    various = [answer(n, f"answer {n} of its own") for n in range(30)]
    template = [answer(n, "as i said before") for n in range(30)]
    vocabulary = vocabularies(one.text for one in (*various, *template))
    free, stuck = across_prompts(various, vocabulary), across_prompts(template, vocabulary)
    assert free is not None
    assert stuck is not None
    assert (free["same_text"]["mean"], stuck["same_text"]["mean"]) == (0, 1)
    assert stuck["commonest"]["text"] == "as i said before"
    assert (free["commonest"]["rate"], stuck["commonest"]["rate"]) == (pytest.approx(1 / 30), 1)
    assert all(free["ead"][n] > 3 * stuck["ead"][n] for n in ("1", "2", "3"))


def test_a_prompt_that_is_drawn_twice_is_asked_across_prompts_once() -> None:
    twice = [answer(n, "the same", asked="the same question") for n in range(5)]
    assert across_prompts(twice, vocabularies(["the same"])) is None
    more = [*twice, answer(9, "another")]
    found = across_prompts(more, vocabularies(["the same", "another"]))
    assert found is not None
    assert (found["same_text"]["mean"], found["same_text"]["n"]) == (0, 2)


def test_diversity_within_is_a_mean_over_prompts() -> None:
    groups = [[answer(0, "a b"), answer(0, "a b")], [answer(1, "a b"), answer(1, "c d")]]
    found = within_prompts(groups, vocabularies(["a b", "c d"]))
    assert found["jaccard_distance"]["mean"] == pytest.approx(0.5)
    assert found["ead"]["n"] == 2


def scored(model: str, rng: random.Random, *, longer: int, per_token: float, better: float) -> list[Answer]:
    """Scores that are a line in length, plus what the model is better by."""
    found = []
    for draw in range(400):
        length = rng.randint(5, 30) + longer
        score = per_token * length + better + rng.gauss(0, 0.1)
        found.append(answer(draw, model=model, length=length, score=score))
    return found


@pytest.mark.parametrize(
    ("per_token", "better", "share"), [(0.0, 1.0, 1.0), (0.2, 0.0, 0.0), (0.1, 1.0, 0.5)]
)
def test_a_gain_is_told_apart_from_that_of_length(per_token: float, better: float, share: float) -> None:
    """Ten tokens more: the score rises by 10 times what a token is worth, and by what does not hang on length."""
    rng = random.Random(3)
    before = scored("sft", rng, longer=0, per_token=per_token, better=0.0)
    after = scored("policy", rng, longer=10, per_token=per_token, better=better)
    found = non_length_gain(after, before)
    assert found is not None
    assert found["share"] == pytest.approx(share, abs=0.1)
    assert found["low"] - 0.05 <= share <= found["high"] + 0.05, "lengths still differ a little within a bin"
    assert found["gain"]["mean"] == pytest.approx(10 * per_token + better, abs=0.2)
    assert sum(one["weight"] for one in found["bins"]) == pytest.approx(1)
    assert all(min(one["n_before"], one["n_after"]) >= 5 for one in found["bins"])


def test_of_no_gain_there_is_no_share() -> None:
    rng = random.Random(5)
    before, after = (scored(name, rng, longer=0, per_token=0.0, better=0.0) for name in ("sft", "policy"))
    assert non_length_gain(after, before) is None
    apart = scored("policy", rng, longer=100, per_token=0.0, better=1.0)
    assert non_length_gain(apart, before) is None, "no length that both have"
