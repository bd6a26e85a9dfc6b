"""The figures of a reward model and of an implicit one, from pairs and answers made up so that each is known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer, Drift, KnownGold
from concordant.evaluation.implicit_reward import implicit_figures
from concordant.evaluation.intervals import clustered_wilson, effective_n, ratio_of, wilson
from concordant.evaluation.pairs import HELD_OUT, TRAINING, LabelledPair, Side
from concordant.evaluation.reward_metrics import pair_metrics
from concordant.evaluation.reward_model import best_of_4, reward_figures, suspect_labels
from concordant.evaluation.style import style_figures


def pair(number: int, delta: float = 1.0, lengths: tuple[int, int] = (5, 5), **known: Any) -> LabelledPair:
    golds = known.get("golds", (None, None))
    moved = known.get("moved", (0.0, 0.0))
    chosen, rejected = (
        Side(f"{number}{name}", length, score, gold, {"sft": -10.0, "policy": -10.0 + step})
        for name, length, score, gold, step in zip("ab", lengths, (delta, 0.0), golds, moved, strict=True)
    )
    return LabelledPair(
        known.get("split", HELD_OUT),
        known.get("prompt", f"prompt {number}"),
        known.get("group", str(number)),
        "",
        chosen,
        rejected,
        known.get("p_chosen", 1.0),
        1.0,
        known.get("margin", 0.0),
    )


def said(prompt: str, scores: Sequence[float], golds: Sequence[float]) -> list[Answer]:
    return [
        Answer(
            "sft", "repeated", 0, Prompt.user(prompt), f"{n}", 3 + n % 2, True, Drift(0, 0, 0), score, worth
        )
        for n, (score, gold) in enumerate(zip(scores, golds, strict=True))
        for worth in [KnownGold(gold, gold, 0.0, 0.0, 0.0)]
    ]


def test_a_pair_comes_back_from_its_row() -> None:
    one = pair(3, golds=(1.0, 0.5), moved=(1.0, 2.0))
    assert LabelledPair.from_row(one.as_row()) == one


def test_a_scorer_that_likes_length_fails_on_hard_pairs() -> None:
    rng = random.Random(0)
    pairs = []
    for number in range(300):
        lengths = rng.choice([(20, 5), (5, 20), (10, 10)])
        delta = float(lengths[0] - lengths[1]) or rng.choice([1.0, -1.0])
        pairs.append(pair(number, delta, lengths))
    figures = reward_figures(pairs, {"sft": [said("q", [1.0, 0.0], [1.0, 0.0])]}, "sft")
    by_style = figures["by_style"]
    assert (by_style["easy"]["accuracy"], by_style["hard"]["accuracy"]) == (1, 0)
    assert 0.35 < by_style["normal"]["accuracy"] < 0.65
    assert sum(one["n"] for one in by_style.values()) == 300
    matrix = figures["style_matrix"]["cells"]
    assert matrix[2][0]["accuracy"] == 1, "a long one was preferred to a short one"
    assert matrix[0][2]["accuracy"] == 0
    assert sum(cell["n"] for row in matrix for cell in row if cell) == 300
    assert figures["longer_rule"]["accuracy"] == pytest.approx(figures["accuracy"], abs=0.1)


def test_answers_of_nearly_one_length_are_neither_easy_nor_hard() -> None:
    lengths = np.array([[100, 95], [100, 80], [80, 100]], dtype=float)
    found = style_figures(np.ones(3), np.ones(3), np.ones(3), ["a", "b", "c"], lengths)["by_style"]
    assert [found[name]["n"] for name in ("easy", "normal", "hard")] == [1, 1, 1]
    alone = style_figures(np.ones(1), np.ones(1), np.ones(1), ["a"], lengths[:1])["by_style"]
    assert alone["hard"] is None


def test_what_was_learnt_from_is_told_beside_what_was_not() -> None:
    held_out = [pair(n, 1.0 if n % 2 else -1.0) for n in range(20)]
    learnt = [pair(n, 1.0, split=TRAINING) for n in range(20)]
    groups = {"sft": [said("q", [1.0, 0.0], [1.0, 0.0])]}
    figures = reward_figures([*held_out, *learnt], groups, "sft")
    assert (figures["accuracy"], figures["train"]["accuracy"]) == (0.5, 1.0)
    assert "train" not in reward_figures(held_out, groups, "sft")


def test_accuracy_is_told_by_the_strength_of_labels() -> None:
    strong = [pair(n, 1.0, margin=3.0) for n in range(20)]
    weak = [pair(100 + n, 1.0 if n % 2 else -1.0, margin=1.0) for n in range(20)]
    groups = {"sft": [said("q", [1.0, 0.0], [1.0, 0.0])]}
    rows = reward_figures([*strong, *weak], groups, "sft")["by_label"]
    assert [(row["low"], row["high"], row["accuracy"]) for row in rows] == [(1, 1, 0.5), (3, 3, 1.0)]
    soft = [pair(n, 1.0, p_chosen=0.6 if n % 2 else 0.9) for n in range(20)]
    rows = reward_figures(soft, groups, "sft")["by_label"]
    assert [(row["low"], row["accuracy"]) for row in rows] == [
        (0.6, pytest.approx(0.6)),
        (0.9, pytest.approx(0.9)),
    ]
    assert reward_figures([pair(n) for n in range(20)], groups, "sft")["by_label"] == []


def test_the_worst_family_shows() -> None:
    families = {"plain": 1.0, "tricky": -1.0, "": 1.0}
    pairs = [
        replace(pair(10 * n + m, delta), family=family)
        for n, (family, delta) in enumerate(families.items())
        for m in range(5)
    ]
    found = reward_figures(pairs, {"sft": [said("q", [1.0, 0.0], [1.0, 0.0])]}, "sft")["by_family"]
    assert {name: one["accuracy"] for name, one in found.items()} == {"plain": 1.0, "tricky": 0.0}


def test_suspect_labels_are_those_the_scores_contradict() -> None:
    wrong = [pair(n, -1.0, golds=(0.0, 1.0)) for n in range(3)]
    hard = [pair(10 + n, -1.0, golds=(1.0, 0.0)) for n in range(1)]
    fine = [pair(20 + n, 1.0, golds=(1.0, 0.0)) for n in range(6)]
    found = suspect_labels([*wrong, *hard, *fine, pair(30, 0.0)])
    assert (found["rate"], found["n"]) == (pytest.approx(4 / 11), 11)
    assert (found["gold_contradicts"]["rate"], found["gold_contradicts"]["n"]) == (0.75, 4)
    assert suspect_labels([pair(0, -1.0)])["gold_contradicts"] is None


def test_best_of_four_gives_a_share_for_ties() -> None:
    fours = [
        ("a", [3.0, 1.0, 1.0, 1.0], 0),
        ("b", [3.0, 1.0, 1.0, 1.0], 1),
        ("c", [1.0, 1.0, 1.0, 1.0], 2),
        ("d", [2.0, 2.0, 0.0, 0.0], 1),
    ]
    assert best_of_4(fours).rate == pytest.approx((1 + 0 + 0.25 + 0.5) / 4)
    assert best_of_4([]).n == 0


def test_best_of_four_comes_from_gold_and_from_rankings() -> None:
    groups = {"sft": [said("q", [0.9, 0.1, 0.2, 0.3, 0, 0, 1, 0], [5, 1, 1, 1, 2, 2, 1, 0])]}
    worth = {"a": 4.0, "b": 1.0, "c": 2.0, "d": 3.0}
    ranking = [
        LabelledPair(HELD_OUT, "p", "g", "", *(Side(t, 3, worth[t], None) for t in texts), 1.0, 1 / 6, 0.0)
        for texts in ("ab", "ac", "ad", "bc", "bd", "cd")
    ]
    figures = reward_figures(ranking, groups, "sft")
    assert (figures["gold_best_of_4"]["rate"], figures["gold_best_of_4"]["n"]) == (1.0, 1), (
        "two share the best gold"
    )
    assert (figures["best_of_4"]["rate"], figures["best_of_4"]["n"]) == (1.0, 1)
    undecided = reward_figures(ranking[1:], groups, "sft")
    assert undecided["best_of_4"]["n"] == 0, "one of the three others was never beaten"


def test_pairs_of_one_prompt_go_together() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(40) < 0.7, 25)
    delta = np.where(right, 1.0, -1.0)
    alone = pair_metrics(delta)["accuracy_ci"]
    together = pair_metrics(delta, prompts=np.repeat(np.arange(40), 25).tolist())["accuracy_ci"]
    low, high = (wilson(right.mean() * 40, 40).low, wilson(right.mean() * 40, 40).high)
    assert together[1] - together[0] > 4 * (alone[1] - alone[0])
    assert together == pytest.approx([low, high], abs=0.02)


def test_clustered_intervals_cover() -> None:
    """Of 400 draws of 30 prompts with 10 pairs each, whose accuracies vary, 95 % intervals hold the truth."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        of_prompt = rng.beta(2.8, 1.2, 30)  # mean .7
        values = (rng.random((30, 10)) < of_prompt[:, None]).ravel().astype(float)
        rate = clustered_wilson(values, np.repeat(np.arange(30), 10).tolist())
        held += rate.low <= 0.7 <= rate.high
    assert 0.925 <= held / 400 <= 0.975


def test_weights_lower_the_number_of_values_that_tell() -> None:
    values, alone = [0.0, 1.0] * 10, list(range(20))
    assert effective_n(values, alone, [1.0] * 20) == pytest.approx(effective_n(values, alone))
    assert effective_n(values, alone, [10.0, *[1.0] * 19]) < 10
    one = clustered_wilson([1.0, 0.0], ["q", "q"])
    assert (one.low, one.high) == (0, 1), "of one prompt nothing is known"


def test_a_ratio_has_the_error_of_a_ratio() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        sizes = rng.integers(1, 30, 200).astype(float)
        found.append(ratio_of(0.5 * sizes + rng.normal(0, 1, 200), sizes))
    ratios = [one.mean for one in found]
    assert np.mean(ratios) == pytest.approx(0.5, abs=0.01)
    assert np.mean([one.se for one in found]) == pytest.approx(np.std(ratios), rel=0.15)
    assert ratio_of([1.0, 2.0], [2.0, 4.0]).se == pytest.approx(0)


def test_likelihood_displacement_shows_although_pairs_are_ordered_well() -> None:
    pairs = [pair(n, moved=(-10.0, -20.0)) for n in range(20)]
    found = implicit_figures(pairs, "sft")
    assert found["accuracy"] == 1
    assert found["margin"]["mean"] == pytest.approx(10)
    assert found["displacement"]["chosen"]["mean"] == pytest.approx(-2), "ten nats over five tokens"
    assert found["displacement"]["rejected"]["mean"] == pytest.approx(-4)
    assert found["length_correlation"] is None, "all are of one length"


def test_an_implicit_reward_that_likes_length_is_seen() -> None:
    rng = random.Random(4)
    pairs = []
    for number in range(60):
        lengths = (rng.randint(2, 30), rng.randint(2, 30))
        pairs.append(
            pair(number, lengths=lengths, moved=(0.3 * lengths[0] + rng.gauss(0, 0.5), 0.3 * lengths[1]))
        )
    found = implicit_figures(pairs, "sft")["length_correlation"]
    assert found["low"] < found["r"] < found["high"]
    assert found["r"] > 0.9
