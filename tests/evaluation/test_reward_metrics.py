import json
import math

import numpy as np
import pytest

from concordant.evaluation.reward_metrics import gold_accuracy, length_correlation, pair_metrics


def test_constant_scorer_is_seen_through():
    figures = pair_metrics([0.0] * 40)
    assert figures["accuracy"] == 0.5
    assert figures["ties"] == 1.0
    assert figures["log_loss"] == pytest.approx(figures["chance_log_loss"]) == pytest.approx(math.log(2))
    assert figures["temperature"] is None
    assert figures["ece"] == 0


def test_figures_by_hand():
    figures = pair_metrics([1.0, -1.0, 0.0, 2.0])
    assert figures["accuracy"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert figures["ties"] == 0.25
    log_loss = [math.log1p(math.exp(-d)) for d in (1, -1, 0, 2)]
    assert figures["log_loss"] == pytest.approx(sum(log_loss) / 4)
    sigmoid = [1 / (1 + math.exp(-d)) for d in (1, -1, 0, 2)]
    assert figures["brier"] == pytest.approx(sum((1 - s) ** 2 for s in sigmoid) / 4)
    # three occupied bins: 0 (confidence .5, observed .5), +-1 (.731, .5), 2 (.881, 1)
    assert [row["n"] for row in figures["reliability"]] == [1, 2, 1]
    assert figures["ece"] == pytest.approx(0.5 * (sigmoid[0] - 0.5) + 0.25 * (1 - sigmoid[3]))
    assert json.loads(json.dumps(figures)) == figures


def test_soft_labels_equal_the_votes_they_stand_for():
    soft = pair_metrics([0.7, -0.3], p_chosen=[0.75, 0.5], weights=[4, 2])
    votes = pair_metrics([0.7, 0.7, 0.7, -0.7, -0.3, 0.3])
    for key in ("accuracy", "log_loss", "brier", "temperature", "ece"):
        assert soft[key] == pytest.approx(votes[key]), key


def test_weights_are_invariant_to_scale_and_widen_the_interval():
    delta = np.linspace(-1, 2, 60)
    plain = pair_metrics(delta)
    assert pair_metrics(delta, weights=[7.0] * 60)["accuracy_ci"] == pytest.approx(plain["accuracy_ci"])
    low, high = pair_metrics(delta, weights=[30.0] + [1.0] * 59)["accuracy_ci"]
    assert high - low > plain["accuracy_ci"][1] - plain["accuracy_ci"][0]


def test_calibrated_scores_pass_and_overconfident_ones_show():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1.5, 20000)
    calibrated = np.where(rng.random(20000) < 1 / (1 + np.exp(-truth)), truth, -truth)
    good, loud = pair_metrics(calibrated), pair_metrics(3 * calibrated)
    assert good["ece"] < 0.02
    assert good["temperature"] == pytest.approx(1.0, abs=0.06)
    assert loud["temperature"] == pytest.approx(3 * good["temperature"])
    assert loud["ece"] > 0.1
    assert loud["accuracy"] == good["accuracy"]
    assert loud["log_loss"] > good["log_loss"]
    accuracies = [row["accuracy"] for row in good["by_margin"]]
    assert accuracies == sorted(accuracies)
    assert sum(row["n"] for row in good["by_margin"]) == 20000


def test_a_scorer_without_mistakes_has_no_temperature():
    assert pair_metrics([1.0, 2.0, 0.5])["temperature"] is None


def test_extreme_scores_stay_finite():
    figures = pair_metrics([800.0, -800.0])
    assert figures["log_loss"] == pytest.approx(400)
    assert all(math.isfinite(figures[key]) for key in ("ece", "brier", "accuracy"))


@pytest.mark.parametrize("delta", [[], [[1.0]], [math.nan]])
def test_bad_input_is_an_error(delta):
    with pytest.raises(ValueError, match="delta"):
        pair_metrics(delta)


def test_gold_accuracy_leaves_out_equal_gold():
    rate = gold_accuracy([1, -1, 0, 5, 2], [1, 1, 1, 0, 0.5])
    assert (rate.rate, rate.n) == (pytest.approx(2.5 / 4), 4)


def test_length_correlation_is_within_prompts():
    # longer wins within each prompt, but the longer prompt scores lower: pooling would hide the bias
    figures = length_correlation([[(1, 10), (2, 11), (3, 12)], [(7, 0), (8, 1), (9, 2)]])
    assert figures["mean"] == pytest.approx(1.0)
    assert (figures["n"], figures["skipped"]) == (2, 0)


def test_length_correlation_counts_what_it_cannot_use():
    figures = length_correlation([[(1, 1), (2, 2)], [(3, 1), (3, 2), (3, 3)], [(1, 3), (2, 2), (3, 1)]])
    assert figures["mean"] == pytest.approx(-1.0)
    assert (figures["n"], figures["skipped"]) == (1, 2)
    assert length_correlation([]) == {"mean": None, "se": None, "n": 0, "skipped": 0}
