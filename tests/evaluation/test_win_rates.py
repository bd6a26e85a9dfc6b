"""Win rates: what is counted, and that their intervals hold the truth as often as they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import betaln, expit
from scipy.stats import binom, norm

from concordant.evaluation.sequential import PRIOR, confidence_sequence
from concordant.evaluation.win_rates import (
    Duels,
    detectable,
    duels_of,
    length_controlled,
    prompts_needed,
    resampled,
    win_rate,
)


def duels(values: Any, longer: Any = None, prompts: Any = None) -> Duels:
    values = np.asarray(values, dtype=np.float64)
    longer = np.zeros(len(values)) if longer is None else np.asarray(longer, dtype=np.float64)
    return Duels("gold", "sft", "policy", tuple(prompts or range(len(values))), values, longer)


def drawn(rng: np.random.Generator, rate: float, ties: float, n: int) -> Any:
    """Values with this mean, a share of which are ties."""
    decided = (rng.random(n) < (rate - ties / 2) / (1 - ties)).astype(float)
    return np.where(rng.random(n) < ties, 0.5, decided)


# What is counted


def row(draw: int, length: int = 5, gold: float | None = None, score: float | None = None) -> dict[str, Any]:
    total = None if gold is None else {"total": gold}
    return {"draw": draw, "prompt_id": f"p{draw}", "length": length, "gold": total, "score": score}


def test_the_larger_gold_wins_and_draws_are_paired_whatever_their_order() -> None:
    answers = {
        "sft": [row(0, 3, gold=1.0), row(1, gold=0.0), row(2, gold=2.0), row(9, gold=7.0)],
        "policy": [row(2, gold=2.0), row(1, gold=-1.0), row(0, 9, gold=1.5)],
    }
    found = duels_of(answers)
    assert list(found) == ["gold"]
    (one,) = found["gold"]
    assert (one.first, one.second) == ("sft", "policy")
    assert dict(zip(one.prompts, one.values, strict=True)) == {(0, "p0"): 1, (1, "p1"): 0, (2, "p2"): 0.5}
    assert one.longer[one.prompts.index((0, "p0"))] == 6


def test_every_two_models_are_compared_by_all_who_know_all_answers() -> None:
    answers = {name: [row(0, gold=1.0, score=2.0)] for name in ("base", "sft", "policy")}
    pairs = [(one.first, one.second) for one in duels_of(answers)["score"]]
    assert pairs == [("base", "sft"), ("base", "policy"), ("sft", "policy")]
    answers["base"][0]["score"] = None
    assert list(duels_of(answers)) == ["gold"]


def test_ties_are_one_half() -> None:
    found = win_rate(duels([1, 1, 0, 0.5]))
    assert found is not None
    assert (found.rate, found.wins, found.losses, found.ties, found.n) == (0.625, 2, 1, 1, 4)
    assert win_rate(duels([])) is None


def test_a_prompt_is_one_observation() -> None:
    once = win_rate(duels([1, 0, 1] * 10))
    copied = win_rate(duels([1, 0, 1] * 10 * 4, prompts=list(range(30)) * 4))
    assert copied == once
    split = win_rate(duels([1, 0, 1, 1], prompts=["a", "a", "b", "b"]))
    assert split is not None
    assert (split.n, split.rate, split.wins, split.ties) == (2, 0.75, 1, 1)


def test_seen_from_the_other_side_everything_is_mirrored() -> None:
    rng = np.random.default_rng(0)
    values, longer = drawn(rng, 0.6, 0.2, 200), rng.normal(size=200)
    one, other = win_rate(duels(values, longer)), win_rate(duels(1 - values, -longer))
    assert one is not None and other is not None  # noqa: PT018
    assert other.rate == pytest.approx(1 - one.rate)
    assert (other.low, other.high) == pytest.approx((1 - one.high, 1 - one.low))
    assert other.always == pytest.approx((1 - one.always[1], 1 - one.always[0]))
    assert one.length_controlled is not None and other.length_controlled is not None  # noqa: PT018
    assert other.length_controlled.rate == pytest.approx(1 - one.length_controlled.rate)
    assert other.length_controlled.slope == pytest.approx(one.length_controlled.slope)


def test_where_all_say_the_same_the_interval_is_not_of_width_0() -> None:
    found = win_rate(duels([1.0] * 20))
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.8389, abs=1e-4), 1.0)
    ties = win_rate(duels([0.5] * 10))
    assert ties is not None
    assert (ties.low, ties.high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))


def test_what_is_no_duel_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        duels([1.5])
    with pytest.raises(ValueError, match="as many"):
        duels([1.0], longer=[1.0, 2.0])


def test_few_wins_and_no_loss_among_ties_are_covered() -> None:
    """One win in ten, ties otherwise: a bootstrap of so few decided ones would hold the truth in nine of ten cases."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        found = win_rate(duels(np.where(rng.random(20) < 0.1, 1.0, 0.5)))
        assert found is not None
        held += found.low <= 0.55 <= found.high
    assert held / 400 >= 0.95


# The bootstrap


def test_resampled_draws_n_of_n_whatever_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resampled(7, seed=3)))
    assert whole.shape == (1000, 7)
    assert (whole.sum(axis=1) == 7).all()
    assert abs(whole.mean() - 1) < 1e-12
    assert 0.75 < whole.var() < 0.95  # of a multinomial count: 1 - 1/7
    monkeypatch.setattr("concordant.evaluation.win_rates._AT_ONCE", 70)
    assert [len(some) for some in resampled(7, seed=3)] == [10] * 100


@pytest.mark.parametrize("n", [100, 200])
def test_the_bootstrap_covers(n: int) -> None:
    """Exactly, of yes and no: each number of wins with its probability."""
    found = [win_rate(duels([1.0] * won + [0.0] * (n - won))) for won in range(n + 1)]
    ends = [(one.low, one.high) for one in found if one is not None]
    for rate in (0.5, 0.55, 0.6, 0.7, 0.85):
        held = np.array([low <= rate <= high for low, high in ends])
        assert 0.93 <= binom.pmf(np.arange(n + 1), n, rate) @ held <= 0.97, rate


def test_the_bootstrap_covers_with_ties_and_prompts_that_count_several_times() -> None:
    rng, held, rate = np.random.default_rng(5), 0, 0.15 + 0.7 * norm.cdf(math.sqrt(0.5))
    for _ in range(400):
        hard = np.repeat(rng.normal(0, 1, 60), 3)  # what is odd about a prompt is in all its duels
        values = np.where(rng.random(180) < 0.3, 0.5, hard + rng.normal(0, 1, 180) < 1.0)
        found = win_rate(duels(values, prompts=list(np.repeat(range(60), 3))))
        assert found is not None
        held += found.low <= rate <= found.high
    assert 0.93 <= held / 400 <= 0.97


# The interval that holds at all times


@pytest.mark.parametrize(("rate", "ties"), [(0.5, 0.0), (0.7, 0.3), (0.9, 0.0)])
def test_who_stops_when_it_pleases_is_misled_in_5_of_100_cases_at_most(rate: float, ties: float) -> None:
    """The worst there is: stopping as soon as the interval does not hold the truth."""
    rng, misled = np.random.default_rng(11), 0
    for _ in range(250):
        values = drawn(rng, rate, ties, 150)
        ends = [confidence_sequence(values[:n]) for n in range(1, len(values) + 1)]
        misled += any(not low <= rate <= high for low, high in ends)
    assert misled / 250 <= 0.05


def test_a_plain_interval_would_mislead_those_who_look_often() -> None:
    rng, misled = np.random.default_rng(11), 0
    for _ in range(200):
        means = np.cumsum(rng.random(150) < 0.5) / np.arange(1, 151)
        half = 1.96 * 0.5 / np.sqrt(np.arange(1, 151))
        misled += bool((np.abs(means - 0.5) > half)[9:].any())
    assert misled / 200 > 0.2


@pytest.mark.parametrize(("won", "n"), [(0.0, 5), (1.0, 1), (31.5, 48), (300, 400)])
def test_its_ends_are_where_the_mixture_says(won: float, n: int) -> None:
    values = [1.0] * int(won) + [won % 1] * (won % 1 > 0)
    values += [0.0] * (n - len(values))
    p = np.linspace(0, 1, 200_001)[1:-1]
    mixture = betaln(PRIOR + won, PRIOR + n - won) - betaln(PRIOR, PRIOR)
    kept = p[mixture - won * np.log(p) - (n - won) * np.log1p(-p) < math.log(20)]
    low, high = confidence_sequence(values)
    assert (low, high) == (pytest.approx(kept[0], abs=2e-5), pytest.approx(kept[-1], abs=2e-5))
    assert low <= won / n <= high


def test_before_the_first_value_nothing_is_known() -> None:
    assert confidence_sequence([]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        confidence_sequence([0.5, 1.01])


# At equal lengths


def by_length(rng: np.random.Generator, theta: float, phi: float, n: int) -> tuple[Any, Any]:
    longer = rng.normal(2, 4, n)
    p = expit(theta + phi * np.tanh(longer / longer.std()))
    return (rng.random(n) < p).astype(float), longer


def test_a_lead_that_is_length_alone_disappears() -> None:
    values, longer = by_length(np.random.default_rng(2), 0.0, 3.0, 4000)
    found = length_controlled(values, longer)
    assert found is not None
    assert values.mean() > 0.6
    assert found.low < 0.5 < found.high
    assert found.slope == pytest.approx(3.0, abs=0.3)


def test_it_is_the_minimum_of_the_equation_it_states() -> None:
    rng = np.random.default_rng(4)
    values, longer = drawn(rng, 0.6, 0.3, 60), rng.normal(1, 3, 60)
    x = np.tanh(longer / longer.std())

    def loss(at: Any) -> float:
        p = expit(at[0] + at[1] * x)
        return float(-(values * np.log(p) + (1 - values) * np.log(1 - p)).sum() + 0.025 * (at @ at))

    theta, phi = minimize(loss, [0, 0], tol=1e-12).x
    found = length_controlled(values, longer)
    assert found is not None
    assert (found.rate, found.slope) == (pytest.approx(expit(theta), abs=1e-5), pytest.approx(phi, abs=1e-4))


def test_its_interval_covers() -> None:
    rng, held, truth = np.random.default_rng(6), 0, 0.6
    for _ in range(600):
        found = length_controlled(*by_length(rng, math.log(truth / (1 - truth)), 1.0, 200))
        assert found is not None
        held += found.low <= truth <= found.high
    assert 0.93 <= held / 600 <= 0.97


def test_at_one_difference_in_length_nothing_is_controlled() -> None:
    assert length_controlled(np.array([1.0, 0.0]), np.array([3.0, 3.0])) is None
    assert length_controlled(np.zeros(0), np.zeros(0)) is None


def test_a_lead_without_exception_has_an_end() -> None:
    found = length_controlled(np.ones(30), np.random.default_rng(0).normal(size=30))
    assert found is not None
    assert 0.9 < found.rate < 1


# What can be told


@pytest.mark.parametrize(
    ("rate", "prompts"), [(0.52, 4904), (0.55, 783), (0.60, 194), (0.65, 85), (0.70, 47), (0.75, 29)]
)
def test_how_many_prompts_tell_a_win_rate(rate: float, prompts: int) -> None:
    assert prompts_needed(rate) == pytest.approx(prompts, abs=1)
    assert detectable(prompts) == pytest.approx(rate, abs=2e-3)


def test_what_is_detectable_is_told_in_80_of_100_cases() -> None:
    rate, ties, n = 0.6, 0.3, 150
    rng, spread = np.random.default_rng(8), (1 - ties) / 4
    rate = detectable(n, spread) or 0.0
    values = np.array([drawn(rng, rate, ties, n) for _ in range(2000)])
    told = np.abs(values.mean(axis=1) - 0.5) > 1.96 * np.sqrt(spread / n)
    assert told.mean() == pytest.approx(0.8, abs=0.03)


def test_more_prompts_tell_smaller_leads_and_ties_help() -> None:
    found = [detectable(n) for n in (20, 50, 200, 1000)]
    assert found == sorted(found, reverse=True)  # type: ignore[type-var]
    assert detectable(100, 0.1) < detectable(100, 0.25)  # type: ignore[operator]


def test_too_few_prompts_tell_nothing() -> None:
    assert detectable(0) is None
    assert detectable(3) is None
    assert detectable(50, 0.0) is None  # ties alone
