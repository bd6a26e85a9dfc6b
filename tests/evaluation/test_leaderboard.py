"""Boards of models: their scale, their intervals, and what cannot be put on one."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from concordant.evaluation.leaderboard import leaderboard, standings
from concordant.evaluation.win_rates import Duels

POINTS = 400 / math.log(10)


def duel(first: str, second: str, values: Any, prompts: Any = None) -> Duels:
    values = np.asarray(values, dtype=np.float64)
    return Duels("gold", first, second, tuple(prompts or range(len(values))), values, np.zeros(len(values)))


def crowd(rng: np.random.Generator, scores: dict[str, float], n: int) -> list[Duels]:
    """Duels of every two models; who wins on a prompt depends on a strength that all duels of the prompt share."""
    strength = {name: score + rng.logistic(size=n) for name, score in scores.items()}
    return [duel(a, b, strength[b] > strength[a]) for a, b in combinations(scores, 2)]


def test_two_models_are_as_far_apart_as_their_win_rate_says() -> None:
    board = leaderboard([duel("sft", "policy", [1] * 75 + [0] * 25)], "sft")
    assert [one.model for one in board.standings] == ["policy", "sft"]
    assert board.standings[0].rating == pytest.approx(1000 + POINTS * math.log(3), abs=0.1)
    assert board.standings[0].low > 1000
    assert [one.rank_bound for one in board.standings] == [1, 2]
    anchor = board.standings[1]
    assert (anchor.rating, anchor.low, anchor.high) == (1000, 1000, 1000)


def test_ties_are_half_a_win() -> None:
    even = leaderboard([duel("sft", "policy", [0.5] * 40)], "sft")
    mixed = leaderboard([duel("sft", "policy", [1, 0] * 20)], "sft")
    assert even.standings[0].rating == pytest.approx(mixed.standings[0].rating)
    assert [one.rank_bound for one in mixed.standings] == [1, 1]


def test_planted_scores_are_found() -> None:
    rng, scores = np.random.default_rng(3), {"base": -1.0, "sft": 0.0, "policy": 0.7}
    found = []
    for a, b in combinations(scores, 2):
        p = expit(scores[b] - scores[a])
        found.append(duel(a, b, rng.random(20_000) < p))
    board = {one.model: one for one in leaderboard(found, "sft").standings}
    for name, score in scores.items():
        assert board[name].rating == pytest.approx(1000 + POINTS * score, abs=5)


def test_the_intervals_cover_with_duels_that_share_their_prompts() -> None:
    scores = {"base": -0.8, "sft": 0.0, "policy": 0.5}
    endless = leaderboard(crowd(np.random.default_rng(0), scores, 400_000), "sft")
    truth = {one.model: one.rating for one in endless.standings}
    rng, held = np.random.default_rng(1), {"base": 0, "policy": 0}
    for _ in range(200):
        for one in leaderboard(crowd(rng, scores, 150), "sft").standings:
            if one.model in held:
                held[one.model] += one.low <= truth[one.model] <= one.high
    assert all(0.92 <= n / 200 <= 0.98 for n in held.values()), held


def test_a_prompt_counts_as_a_whole() -> None:
    """Twice the duels on the same prompts say no more."""
    values = np.random.default_rng(0).random(80) < 0.6
    once = leaderboard([duel("sft", "policy", values)], "sft")
    twice = leaderboard([duel("sft", "policy", np.tile(values, 2), list(range(80)) * 2)], "sft")
    assert twice == once


def test_who_never_loses_is_on_no_scale() -> None:
    board = leaderboard([duel("sft", "policy", [1.0] * 10)], "sft")
    assert board.standings == ()
    assert "policy" in board.missing
    apart = leaderboard([duel("a", "b", [1, 0]), duel("c", "d", [1, 0])], "a")
    assert "never compared" in apart.missing


def test_one_prompt_makes_no_board() -> None:
    found = leaderboard([duel("sft", "policy", [0.75])], "sft")
    assert found.standings == ()
    assert "one prompt" in found.missing


def test_an_anchor_that_takes_no_part_is_missed() -> None:
    assert "sft" in leaderboard([duel("base", "policy", [1, 0])], "sft").missing


def test_standings_are_plain_json() -> None:
    found = standings(
        {"gold": [duel("sft", "policy", [1, 0, 1, 0.5])], "score": [duel("sft", "policy", [])]}, "sft"
    )
    assert [row["by"] for row in found["win_rates"]] == ["gold"]
    assert [row["by"] for row in found["leaderboards"]] == ["gold"]
    assert found["win_rates"][0]["length_controlled"] is None
    assert found["leaderboards"][0]["standings"][0]["model"] == "policy"
