"""Scores from rankings: planted ones come back, ties are even, and what cannot be scored is refused."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from concordant.errors import UserError
from concordant.feedback.aggregation.plackett_luce import plackett_luce
from telling import tells


def drawn(scores: np.ndarray, n: int, k: int, seed: int, delta: float = 0.0) -> list[list[list[str]]]:
    """Rankings of `k` items by score plus Gumbel noise; neighbours closer than `delta` are tied."""
    rng = np.random.default_rng(seed)
    rankings = []
    for _ in range(n):
        some = rng.choice(len(scores), k, replace=False)
        noisy = scores[some] + rng.gumbel(size=k)
        order = np.argsort(-noisy)
        tiers = [[f"i{some[order[0]]}"]]
        for above, below in pairwise(order):
            if noisy[above] - noisy[below] < delta:
                tiers[-1].append(f"i{some[below]}")
            else:
                tiers.append([f"i{some[below]}"])
        rankings.append(tiers)
    return rankings


def by_name(rankings, alpha: float = 1e-3) -> dict[str, float]:
    return {one.item: one.score for one in plackett_luce(rankings, alpha)}


def test_planted_scores_come_back_on_their_scale() -> None:
    scores = np.random.default_rng(0).normal(size=10)
    found = by_name(drawn(scores, 1_500, 4, 1))
    estimate = np.array([found[f"i{i}"] for i in range(10)])
    assert np.abs(estimate - (scores - scores.mean())).max() < 0.2
    assert estimate.mean() == pytest.approx(0, abs=1e-9)
    ordered = [one.score for one in plackett_luce(drawn(scores, 300, 4, 1))]
    assert ordered == sorted(ordered, reverse=True)


def test_two_items_by_hand() -> None:
    """Three wins of four: log 3 apart. A tie is half a win for each: with two more, (3 + 1)/(1 + 1) = 2."""
    won, lost, even = [["a"], ["b"]], [["b"], ["a"]], [["a", "b"]]
    plain = by_name([won, won, won, lost], 1e-9)
    assert plain["a"] - plain["b"] == pytest.approx(np.log(3), abs=1e-5)
    tied = by_name([won, won, won, lost, even, even], 1e-9)
    assert tied["a"] - tied["b"] == pytest.approx(np.log(2), abs=1e-5)


def choices(rankings) -> Counter[tuple[int, tuple[int, ...]]]:
    """Who was chosen among whom and how often, where a tie is the mean over all orders of its tier."""
    found: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for tiers in rankings:
        below: list[int] = []
        for tier in reversed(tiers):
            orders = list(permutations(int(name[1:]) for name in tier))
            for order in orders:
                for k, chosen in enumerate(order):
                    found[chosen, tuple(sorted([*order[k:], *below]))] += 1 / len(orders)
            below += orders[0]
    return found


def mean_loss(theta: np.ndarray, counted: Counter[tuple[int, tuple[int, ...]]]) -> float:
    """Minus log-likelihood of Plackett and Luce."""
    return -sum(
        n * (theta[one] - np.log(np.exp(theta[list(among)]).sum())) for (one, among), n in counted.items()
    )


def test_ties_are_the_mean_over_their_orders() -> None:
    """Against the likelihood written out; exact for ties of two, three and four."""
    rankings = drawn(np.linspace(-1, 1, 5), 40, 5, 3, delta=0.5)
    rankings = [tiers for tiers in rankings if max(map(len, tiers)) <= 4]
    sizes = [len(tier) for tiers in rankings for tier in tiers]
    assert min(sizes.count(size) for size in (1, 2, 3, 4)) >= 3
    best = minimize(mean_loss, np.zeros(5), args=(choices(rankings),)).x
    found = by_name(rankings, 1e-9)
    np.testing.assert_allclose([found[f"i{i}"] for i in range(5)], best - best.mean(), atol=2e-4)


def test_items_with_the_same_record_get_the_same_score() -> None:
    """Also in a tie of five, of which not all orders are entered."""
    ring = [[["a"], list("bcdef")], [list("bcdef"), ["a"]], [["a"], list("bcdef")]]
    found = by_name(ring)
    assert max(found[x] for x in "bcdef") - min(found[x] for x in "bcdef") < 1e-6
    assert found["a"] > found["b"]


def test_the_prior_stands_for_as_much_whatever_the_number_of_copies() -> None:
    """Two ties of two are one win for each, also beside a prior that weighs as much as the votes."""
    won, lost, even = [["a"], ["b"]], [["b"], ["a"]], [["a", "b"]]
    copied = by_name([won, won, won, lost, even, even], 0.5)
    assert copied == pytest.approx(by_name([won, won, won, lost, won, lost], 0.5), abs=1e-6)
    assert copied["a"] < by_name([won, won, won, lost, even, even], 0.1)["a"] - 0.01


@pytest.mark.parametrize(
    ("rankings", "said"),
    [
        ([["a", "b", "c"]] * 9, "all-win: a, all-loss: c"),
        ([["a", "b"], ["b", "a"], ["c", "d"], ["d", "c"]], "component: 2 groups"),
        ([["a", "b"], ["b", "a"], ["a", "c"], ["c", "d"], ["d", "c"]], "component: 2 groups, one of which"),
    ],
)
def test_what_cannot_be_scored_is_refused(rankings: list[list[str]], said: str) -> None:
    with pytest.raises(UserError, match=f"not scoreable: {said}"):
        plackett_luce([[[name] for name in names] for names in rankings])


def test_a_tie_joins_both_ways() -> None:
    assert by_name([[["a"], ["b"]], [["a", "b"]]])["a"] > 0


def test_what_is_no_ranking_is_refused() -> None:
    with pytest.raises(UserError, match="a ranking of"):
        plackett_luce([[["a"], ["a", "b"]]])
    with pytest.raises(UserError, match="alpha 0"):
        plackett_luce([[["a", "b"]]], alpha=0.0)


def test_scores_order_as_the_planted_with_many_ties() -> None:
    scores = np.linspace(-1.5, 1.5, 8)
    found = by_name(drawn(scores, 120, 5, 5, delta=0.7))
    assert spearmanr([found[f"i{i}"] for i in range(8)], scores).statistic > 0.9


def test_a_chain_too_long_to_be_scored_says_so() -> None:
    """121 items of which each lost to the one before it 50 times, and the first once to the last."""
    chain = [[[f"i{i}"], [f"i{i + 1}"]] for i in range(120)] * 50
    with tells("did not settle", where="plackett_luce", expected="determine the scores", fix="raise alpha"):
        plackett_luce([*chain, [["i120"], ["i0"]]])
