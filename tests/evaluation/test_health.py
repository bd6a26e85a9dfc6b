"""Bounds of figures: what is beyond one, and what chance explains."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from concordant.evaluation.health import BOUNDS, Reading, health


def beyond(results: dict[str, Any]) -> list[str]:
    return [row["figure"] for row in health(results, "sft") if row["beyond"]]


def test_an_interval_has_to_lie_beyond_a_bound() -> None:
    wide = {"feedback": {"agreement": {"value": 0.5, "low": 0.3, "high": 0.7, "n": 20}}}
    sure = {"feedback": {"agreement": {"value": 0.5, "low": 0.45, "high": 0.55, "n": 400}}}
    assert (beyond(wide), beyond(sure)) == ([], ["feedback.agreement"])
    row = health(sure, "sft")[0]
    assert (row["value"], row["at_least"], row["at_most"]) == (0.5, 0.6, None)
    assert row["says"]


@pytest.mark.parametrize(("low", "high", "out"), [(0.51, 0.6, True), (0.4, 0.49, True), (0.49, 0.51, False)])
def test_what_is_shown_first_is_to_win_half_of_the_time(low: float, high: float, out: bool) -> None:
    found = beyond({"feedback": {"first_chosen": {"value": (low + high) / 2, "low": low, "high": high}}})
    assert found == (["feedback.first_chosen"] if out else [])


def test_figures_of_all_shapes_are_read() -> None:
    results = {
        "mean": {"mean": 2.0, "se": 0.5, "n": 9},
        "alone": {"mean": 2.0, "se": None, "n": 1},
        "beside": 0.49,
        "beside_se": 0.05,
        "rate": {"rate": 0.2, "low": 0.1, "high": 0.3, "n": 50},
        "unknown": {"rate": None, "low": 0.0, "high": 1.0, "n": 0},
        "accuracy": 0.7,
        "accuracy_ci": [0.6, 0.8],
        "of": {"accuracy": 0.7, "accuracy_ci": [0.5, 0.9], "n": 3},
    }
    read = {name: Reading.at(results, name) for name in results if name not in ("accuracy_ci", "beside_se")}
    half = 2.306 * 0.5  # Student's t of nine values
    assert read["mean"] == Reading(2.0, pytest.approx(2 - half, abs=1e-3), pytest.approx(2 + half, abs=1e-3))
    assert read["alone"] == Reading(2.0, -math.inf, math.inf)
    assert read["beside"] == Reading(0.49, pytest.approx(0.392, abs=1e-3), pytest.approx(0.588, abs=1e-3))
    assert read["rate"] == Reading(0.2, 0.1, 0.3)
    assert read["unknown"] is None
    assert read["accuracy"] == Reading(0.7, 0.6, 0.8)
    assert read["of"] == Reading(0.7, 0.5, 0.9)
    assert Reading.at(results, "mean.mean.deeper") is Reading.at(results, "nothing") is None


def test_differences_and_shares_of_two_figures() -> None:
    reward = {
        "accuracy": 0.7,
        "accuracy_ci": [0.69, 0.71],
        "train": {"accuracy": 0.95, "accuracy_ci": [0.94, 0.96]},
    }
    assert beyond({"reward_model": reward}) == ["reward_model.train - reward_model"]
    models = {
        name: {"entropy_per_token": {"mean": mean, "se": 0.01, "n": 9}}
        for name, mean in (("sft", 1.0), ("policy", 0.2))
    }
    assert beyond({"models": models}) == ["models.policy.entropy_per_token / models.sft.entropy_per_token"]
    models["sft"]["entropy_per_token"]["mean"] = 0.0
    assert health({"models": models}, "sft") == [], "of nothing there is no share"


def test_a_nearly_constant_scorer_with_lucky_ties_is_seen() -> None:
    lucky = {"accuracy": 0.9951, "accuracy_ci": [0.99, 0.999], "log_loss": math.log(2)}
    assert beyond({"reward_model": lucky}) == ["reward_model.log_loss"]
    honest = {"accuracy": 0.7, "accuracy_ci": [0.6, 0.8], "log_loss": math.log(2)}
    assert beyond({"reward_model": honest}) == [], "a poor scorer has another trouble"


def test_what_was_not_measured_is_not_judged() -> None:
    assert health({}, "base") == []
    assert health({"models": {}, "reward_model": {}, "feedback": {"agreement": None}}, "base") == []


def test_the_docs_have_every_bound() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    for bound in BOUNDS:
        assert bound.figure in told, f"docs/metrics.md has no row for {bound.figure}"
        row = next(line for line in page.splitlines() if line.startswith(f"| `{bound.figure}` |"))
        for end in (bound.at_least, bound.at_most):
            assert not math.isfinite(end) or f"{end:g}".replace("0.", ".") in row.replace("−", "-"), row
