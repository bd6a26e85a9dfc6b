"""The forms of Gao et al.: planted curves are found again, peaks have intervals, and a run knows where it stands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from concordant.evaluation.best_of_n import curve, fit_curve
from concordant.evaluation.intervals import Mean
from concordant.evaluation.over_optimisation import (
    CHOOSING,
    TRAINING,
    Fit,
    Form,
    along,
    coefficients,
    fit_path,
    stands,
)

START = Mean(0.1, 0.01, 1_500)


def path(
    alpha: float, beta: float, farthest: float, *, noise: float = 0.0, n: int = 60, seed: int = 0
) -> list[dict[str, float | None]]:
    """A training that goes steadily away, by the form of Gao et al."""
    rng = np.random.default_rng(seed)
    d = np.linspace(0, farthest, n)
    gold = START.mean + d * alpha - beta * d * np.log(np.where(d > 0, d, 1)) + rng.normal(0, noise, n)
    rows = [
        {"step": step, "objective/kl": d_i**2, "objective/score": d_i, "objective/gold": gold_i}
        for step, (d_i, gold_i) in enumerate(zip(d, gold, strict=True), start=1)
    ]
    return along(rows)


@pytest.mark.parametrize(("form", "peak"), [(CHOOSING, 1.0 / 0.9), (TRAINING, math.exp(1.0 / 0.45 - 1))])
def test_a_planted_curve_and_its_peak_are_found_again(form: Form, peak: float) -> None:
    d = np.linspace(0, 4, 30)
    gain = form.columns(d) @ np.array([1.0, 0.45])
    found = coefficients(form, d, gain)
    assert found == pytest.approx([1.0, 0.45])
    assert float(form.highest(found, 4.0)) == pytest.approx(peak)
    fine = np.linspace(0, 6, 60_001)
    assert fine[np.argmax(form.columns(fine) @ found)] == pytest.approx(peak, abs=1e-3)


def test_a_curve_that_does_not_turn_has_no_peak() -> None:
    for form in (CHOOSING, TRAINING):
        assert form.highest(np.array([1.0, 0.0]), 4.0) == math.inf
        assert form.highest(np.array([1.0, -0.2]), 4.0) == math.inf
    assert TRAINING.highest(np.array([1.0, 0.1]), 1.0) == math.inf  # e^9 away, where nobody has been
    assert CHOOSING.highest(np.array([-1.0, 0.1]), 4.0) == 0  # falls from the start


def test_past_before_and_neither() -> None:
    long = fit_path(path(0.5, 0.3, 4, noise=0.05), "gold", START)
    assert long is not None
    assert long.d_star == pytest.approx(math.exp(0.5 / 0.3 - 1), rel=0.1)
    assert long.d_star_ci[0] < long.d_star < long.d_star_ci[1]
    assert stands(long, (3.9, 4.1)) == "past"
    assert stands(long, (0.5, 0.6)) == "before"
    assert stands(long, (long.d_star - 0.01, long.d_star + 0.01)) == "cannot tell"
    assert stands(None, (0.5, 0.6)) == "cannot tell"


def test_a_training_that_ended_early_cannot_tell_where_it_would_turn() -> None:
    short = fit_path(path(0.5, 0.0, 1, noise=0.08), "gold", START)
    assert short is not None
    assert short.d_star_ci[1] == math.inf
    assert short.as_dict()["d_star_ci"][1] is None
    assert stands(short, (0.95, 1.0)) != "past"


def test_intervals_of_the_peak_hold_it() -> None:
    peak = math.exp(0.5 / 0.3 - 1)
    held = 0
    for seed in range(40):
        fit = fit_path(path(0.5, 0.3, 4, noise=0.08, seed=seed), "gold", START, seed)
        assert fit is not None
        held += fit.d_star_ci[0] <= peak <= fit.d_star_ci[1]
    assert held >= 34


def test_an_uncertain_start_makes_the_intervals_wider() -> None:
    points = path(0.5, 0.3, 4, noise=0.05)
    sure, unsure = (fit_path(points, "gold", Mean(0.1, se, 100)) for se in (0.0, 0.2))
    assert sure is not None
    assert unsure is not None

    def width(fit: Fit) -> float:
        return fit.alpha_ci[1] - fit.alpha_ci[0]

    assert width(unsure) > 1.5 * width(sure)


def test_too_short_or_unknown_paths_are_not_fitted() -> None:
    assert fit_path(path(0.5, 0.3, 4)[:7], "gold", START) is None
    unknown = [{**point, "gold": None} for point in path(0.5, 0.3, 4)]
    assert fit_path(unknown, "gold", START) is None
    still = [{**point, "d": 0.0} for point in path(0.5, 0.3, 4)]
    assert fit_path(still, "gold", START) is None


def test_probes_stand_in_where_there_is_no_gold() -> None:
    points = [point | {"probe": point["gold"], "gold": None} for point in path(0.5, 0.3, 4)]
    fit = fit_path(points[::6], "probe", START)
    assert fit is not None
    assert fit.d_star == pytest.approx(math.exp(0.5 / 0.3 - 1))
    assert fit_path(points[::12], "probe", START) is None  # five probes are too few


def test_a_path_is_read_from_the_rows_of_a_stage() -> None:
    rows = [
        {"step": 1, "objective/kl": -1e-9, "objective/score": 0.5},
        {"step": 2, "objective/kl": None, "objective/score": None},  # an update without a step taken
        {"step": 3, "objective/kl": 4.0, "objective/score": 0.7, "objective/gold": 0.2, "probe/rate": 0.6},
        {"step": 4, "loss": 1.0},  # of a stage that learns from fixed data
    ]
    assert along(rows) == [
        {"step": 1, "d": 0.0, "score": 0.5, "gold": None, "probe": None},
        {"step": 3, "d": 2.0, "score": 0.7, "gold": 0.2, "probe": 0.6},
    ]


def test_best_of_n_of_a_proxy_that_cheats_at_the_top_turns_within_its_interval() -> None:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(64, 256))
    cheats = rng.random((64, 256)) < 0.02
    found = curve(gold + 6 * cheats, np.where(cheats, -1.0, gold))
    fit = fit_curve(found)
    assert fit is not None
    low, high = fit.d_star_ci
    assert 0 < low < fit.d_star < high < math.sqrt(found.kl[-1])


def test_best_of_n_by_the_truth_itself_turns_nowhere_that_was_measured() -> None:
    gold = np.random.default_rng(0).normal(size=(64, 256))
    found = curve(gold, gold)
    fit = fit_curve(found)
    assert fit is not None
    assert fit.d_star > math.sqrt(found.kl[-1])
