import math
import random

import numpy as np
import pytest

from concordant.evaluation.intervals import (
    Change,
    Mean,
    effective_n,
    gap,
    mean_of,
    percentiles95,
    ratio_of,
    wilson,
    zero_bound,
)


def test_mean_without_clusters_is_the_textbook_error():
    mean = mean_of([1.0, 2.0, 3.0, 4.0])  # sd = sqrt(5/3), se = sd / 2
    assert mean.mean == 2.5
    assert mean.se == pytest.approx(math.sqrt(5 / 3) / 2)
    assert mean.n == 4
    assert mean.low == pytest.approx(2.5 - 3.1824 * mean.se, abs=1e-4)  # Student's t with 3 degrees


def test_copies_of_a_prompt_add_no_certainty():
    once = mean_of([0.0, 1.0, 5.0])
    copied = mean_of([0.0, 1.0, 5.0] * 7, clusters=["a", "b", "c"] * 7)
    assert copied.se == pytest.approx(once.se)
    assert mean_of([0.0, 1.0, 5.0] * 7).se < once.se / 2  # what ignoring the clusters would claim


def test_clusters_of_unequal_size_by_hand():
    # mean 1.5; cluster sums of deviations: a (0-1.5)+(2-1.5) = -1, b (3-1.5) + (1-1.5) = 1
    mean = mean_of([0, 2, 3, 1], clusters=["a", "a", "b", "b"])
    assert mean.se == pytest.approx(math.sqrt(2 / 1 * (1 + 1)) / 4)


def test_one_cluster_has_no_error_and_json_says_null():
    mean = mean_of([1.0, 2.0], clusters=["a", "a"])
    assert math.isnan(mean.se)
    assert mean.sign == 0
    assert mean.as_dict() == {"mean": 1.5, "se": None, "n": 2, "clusters": 1}
    assert math.isnan(Mean.from_dict(mean.as_dict()).se)


def test_interval_covers_the_truth_as_often_as_it_says():
    draw = random.Random(0)
    covered = 0
    for _ in range(400):
        prompts = [draw.gauss(0, 1) for _ in range(40)]
        values = [(p, prompt + draw.gauss(0, 1)) for p, prompt in enumerate(prompts) for _ in range(4)]
        mean = mean_of([v for _, v in values], [p for p, _ in values])
        covered += mean.low < 0 < mean.high
    assert 0.91 <= covered / 400 <= 0.985


def test_the_interval_of_few_prompts_covers():
    """A normal quantile holds the truth in 92 % at 12 prompts; errors of the share are 0.005."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        values = (rng.normal(size=(12, 1)) + rng.normal(size=(12, 4))).ravel()
        mean = mean_of(values, np.repeat(np.arange(12), 4).tolist())
        covered += mean.low < 0 < mean.high
    assert 0.938 <= covered / 2000 <= 0.965


def test_json_keeps_how_many_prompts_an_error_comes_from():
    mean = mean_of([0.0, 2.0, 1.0, 5.0], clusters=["a", "a", "b", "b"])
    row = mean.as_dict()
    assert row["clusters"] == 2
    assert Mean.from_dict(row).half == mean.half == pytest.approx(12.706 * mean.se, rel=1e-4)
    assert "clusters" not in mean_of([0.0, 2.0]).as_dict()
    assert mean.minus(mean_of([0.0, 2.0, 1.0, 5.0])).half == pytest.approx(
        12.706 * mean.minus(mean_of([0.0, 2.0, 1.0, 5.0])).se, rel=1e-4
    )


def test_percentiles_of_a_bootstrap_lie_farther_out_where_prompts_are_few():
    assert percentiles95(10**6) == pytest.approx((0.025, 0.975), abs=1e-5)
    low, high = percentiles95(12)  # Phi(-sqrt(12 / 11) * 2.2010)
    assert (low, high) == (pytest.approx(0.01076, abs=1e-4), pytest.approx(1 - 0.01076, abs=1e-4))
    assert percentiles95(1) == (0.0, 1.0)


def test_gap_is_paired_on_shared_prompts():
    # differences 1, 1, 4: mean 2, sd sqrt(3), se 1
    paired = gap([11, 21, 34], [10, 20, 30], ["x", "y", "z"], ["x", "y", "z"])
    assert paired == Mean(2.0, pytest.approx(1.0), 3)
    assert gap([11, 21, 34], [10, 20, 30]).se > 8


def test_gap_ignores_the_order_of_the_prompts():
    assert gap([1, 2, 4], [5, 3, 3], ["x", "y", "z"], ["z", "y", "x"]).se == pytest.approx(
        gap([1, 2, 4], [3, 3, 5], ["x", "y", "z"], ["x", "y", "z"]).se
    )


def test_gap_of_different_prompts_is_independent():
    a, b = [1.0, 2.0, 3.0], [0.0, 4.0]
    expected = math.hypot(mean_of(a).se, mean_of(b).se)
    assert gap(a, b, ["u", "v", "w"], ["x", "y"]).se == pytest.approx(expected)
    assert gap(a, b).se == pytest.approx(expected)
    assert mean_of(a).minus(mean_of(b)).se == pytest.approx(expected)


def test_gap_keeps_prompts_that_stand_on_one_side_only():
    partial = gap([1.0, 2.0, 9.0], [1.0, 2.0], ["x", "y", "z"], ["x", "y"])
    assert partial.mean == pytest.approx(4.0 - 1.5)
    assert partial.n == 3


def test_sign_is_decided_by_the_interval():
    assert [Mean(0.2, 0.05, 9).sign, Mean(0.09, 0.05, 9).sign, Mean(-0.2, 0.05, 9).sign] == [1, 0, -1]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 50, 0.0, 0.0713), (0, 100, 0.0, 0.0370), (0, 300, 0.0, 0.0126), (50, 100, 0.4038, 0.5962)],
)
def test_wilson_matches_known_intervals(successes, n, low, high):
    rate = wilson(successes, n)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_wilson_without_trials_knows_nothing():
    assert wilson(0, 0).as_dict() == {"rate": None, "low": 0.0, "high": 1.0, "n": 0}


def test_wilson_takes_half_successes():
    assert wilson(2.5, 5).rate == 0.5


@pytest.mark.parametrize("arguments", [(3, 2), (-1, 2)])
def test_wilson_rejects_impossible_counts(arguments):
    with pytest.raises(ValueError, match="successes of"):
        wilson(*arguments)


def test_empty_and_mismatched_input_is_an_error():
    with pytest.raises(ValueError, match="non-empty"):
        mean_of([])
    with pytest.raises(ValueError, match="2 values but 1"):
        mean_of([1.0, 2.0], ["x"])


def test_copies_of_a_value_are_worth_one():
    once = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    copied = effective_n(once * 5, list("abcdefgh") * 5)
    assert copied == pytest.approx(8, rel=0.15)
    assert effective_n(once * 5, list(range(40))) > 38
    assert effective_n([0.0] * 40, list("abcdefgh") * 5) == 8, "the spread is not known"
    mixed = effective_n([0.0, 1.0] * 4, [n // 2 for n in range(8)])
    assert mixed == 8, "never more than there are values, however evenly the clusters are mixed"


@pytest.mark.parametrize(("n", "bound"), [(10, 0.2589), (50, 0.0582), (100, 0.0295), (300, 0.00994)])
def test_the_bound_of_no_event_is_the_rate_that_leaves_it_one_chance_in_twenty(n, bound):
    assert zero_bound(n) == pytest.approx(bound, abs=1e-4)
    assert (1 - zero_bound(n)) ** n == pytest.approx(0.05)
    assert zero_bound(n) < 3 / n  # the rule of three
    assert zero_bound(0) == 1.0


def test_a_ratio_knows_how_many_prompts_it_comes_from():
    values, prompts = [1.0, 2.0, 4.0, 3.0, 2.0, 5.0], [0, 0, 1, 1, 2, 2]
    found, alone = ratio_of(values, [1.0] * 6, prompts), mean_of(values, prompts)
    assert (found.clusters, found.half) == (3, pytest.approx(alone.half))
    assert ratio_of(values, [1.0] * 6).clusters is None


def test_a_ratio_by_hand():
    # 6 nats over 4 tokens: 1.5; residuals 1 - 1.5 = -0.5 and 5 - 4.5 = 0.5, over 4 tokens
    ratio = ratio_of([1.0, 5.0], [1, 3])
    assert ratio == Mean(1.5, pytest.approx(math.sqrt(2 / 1 * 2 * 0.125**2)), 2)
    alike = ratio_of([1.0, 2.0, 4.0], [2, 2, 2])
    assert alike.mean == pytest.approx(mean_of([0.5, 1.0, 2.0]).mean)
    assert alike.se == pytest.approx(mean_of([0.5, 1.0, 2.0]).se)


def test_a_ratio_and_its_change_cover_the_truth_as_often_as_they_say():
    """Documents of 5 to 80 tokens, each with nats of its own: what is the same in both models is not in the change."""
    draw, rounds = random.Random(2), 400
    held = {"ratio": 0, "change": 0}
    for _ in range(rounds):
        sizes = [draw.randint(5, 80) for _ in range(60)]
        own = [draw.gauss(2.0, 0.5) for _ in sizes]
        before = [n * nats for n, nats in zip(sizes, own, strict=True)]
        after = [n * (nats + draw.gauss(0.1, 0.1)) for n, nats in zip(sizes, own, strict=True)]
        ratio = ratio_of(before, sizes)
        change = Change.of_ratios((after, sizes), (before, sizes))
        held["ratio"] += ratio.low < 2.0 < ratio.high
        held["change"] += change.low < 0.1 < change.high
        assert change.high - change.low < ratio.high - ratio.low
    assert all(0.92 <= n / rounds <= 0.98 for n in held.values()), held
