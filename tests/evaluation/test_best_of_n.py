import itertools
import math

import numpy as np
import pytest

from concordant.evaluation.best_of_n import best_of_n, curve, fit_curve, kl_bound, rank_weights


def brute_force(proxy, gold, n):
    """Mean gold of the best by proxy over every subset of size n."""
    subsets = list(itertools.combinations(range(len(proxy)), n))
    return sum(gold[max(subset, key=lambda i: proxy[i])] for subset in subsets) / len(subsets)


def test_equals_the_mean_over_all_subsets():
    rng = np.random.default_rng(1)
    proxy, gold = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    for row in best_of_n(proxy, gold=gold):
        pairs = zip(proxy, gold, strict=True)
        expected = [brute_force(list(p), list(g), row["n"]) for p, g in pairs]
        assert row["gold"] == pytest.approx(np.mean(expected))
        assert row["gold_se"] == pytest.approx(np.std(expected, ddof=1) / math.sqrt(3))


def test_weights_are_the_binomial_formula():
    expected = [math.comb(i - 1, 2) / math.comb(7, 3) for i in range(1, 8)]
    assert rank_weights(3, 7) == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2, 17, 128, 255, 256])
def test_weights_are_stable_for_many_samples(n):
    weights = rank_weights(n, 256)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert (weights >= 0).all()
    assert weights[-1] == pytest.approx(n / 256)


def test_sizes_and_distance():
    rows = best_of_n(np.arange(12.0).reshape(1, 12), gold=None)
    assert [row["n"] for row in rows] == [1, 2, 4, 8, 12]
    assert rows[0]["kl"] == 0
    assert kl_bound(8) == pytest.approx(math.log(8) - 7 / 8)
    assert rows[-1]["proxy"] == 11
    assert rows[0]["gold"] is None
    assert rows[0]["proxy_se"] is None


def test_ties_do_not_depend_on_the_order_of_samples():
    first = best_of_n([[1.0, 1.0, 0.0]], gold=[[5.0, 1.0, 0.0]])
    second = best_of_n([[1.0, 1.0, 0.0]], gold=[[1.0, 5.0, 0.0]])
    assert [row["gold"] for row in first] == [row["gold"] for row in second]
    assert first[-1]["gold"] == 3.0


def test_a_proxy_that_cheats_at_the_top_shows_a_peak():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(64, 64))
    hacked = rng.random((64, 64)) < 0.05
    rows = best_of_n(gold + 6 * hacked, gold=np.where(hacked, -2.0, gold))
    golds = [row["gold"] for row in rows]
    assert max(golds) > golds[0] + 0.3
    assert max(golds) > golds[-1] + 1
    proxies = [row["proxy"] for row in rows]
    assert proxies == sorted(proxies)


def test_the_fit_asks_for_a_truth_several_prompts_and_three_sizes():
    values = np.random.default_rng(0).normal(size=(8, 8))
    assert fit_curve(curve(values, values)) is not None
    assert fit_curve(curve(values)) is None
    assert fit_curve(curve(values[:1], values[:1])) is None
    assert fit_curve(curve(values[:, :2], values[:, :2])) is None


def test_bad_shapes_and_sizes_are_errors():
    with pytest.raises(ValueError, match="shape"):
        best_of_n([[1.0, 2.0]], gold=[[1.0]])
    with pytest.raises(ValueError, match="best of 5"):
        rank_weights(5, 4)
