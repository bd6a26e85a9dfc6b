"""The release gate on constructed results: every demand in every state, and how often it errs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.evaluation.config import GateConfig
from concordant.evaluation.gate import GO, NO_GO, NOT_ENOUGH, decide
from concordant.evaluation.intervals import Change

Ends = tuple[float, float]


def results(start: str = "sft", **figures: Ends) -> dict[str, Any]:
    """Results of a run whose figures changed within these ends."""
    rows = {
        name.replace("__", "."): Change((low + high) / 2, low, high, 400).as_dict()
        for name, (low, high) in figures.items()
    }
    models = ("base", "policy") if start == "base" else ("base", "sft", "policy")
    found = {"models": {model: {} for model in models}, "changes": {f"policy_minus_{start}": rows}}
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def gate(margin: float = 0.0, **rules: dict[str, float]) -> GateConfig:
    return GateConfig(
        target="gold", margin=margin, no_more=rules.get("no_more", {}), no_less=rules.get("no_less", {})
    )


@pytest.mark.parametrize(
    ("ends", "margin", "verdict"),
    [
        ((0.1, 0.3), 0.0, GO),
        ((0.1, 0.3), 0.1, NOT_ENOUGH),  # more than the margin, not as much
        ((0.1, 0.3), 0.2, NOT_ENOUGH),
        ((0.1, 0.3), 0.4, NO_GO),
        ((-0.3, -0.1), 0.0, NO_GO),
        ((-0.1, 0.1), 0.0, NOT_ENOUGH),
    ],
)
def test_the_target_has_to_rise_by_more_than_its_margin(ends: Ends, margin: float, verdict: str) -> None:
    assert decide(gate(margin), results(gold=ends)).verdict == verdict


@pytest.mark.parametrize(
    ("rule", "ends", "verdict"),
    [
        ("no_more", (-3.0, 0.4), GO),
        ("no_more", (0.1, 0.4), GO),  # surely a rise, and surely a small one
        ("no_more", (0.1, 0.6), NOT_ENOUGH),
        ("no_more", (0.6, 0.9), NO_GO),
        ("no_less", (-0.4, 3.0), GO),
        ("no_less", (-0.4, -0.1), GO),
        ("no_less", (-0.6, -0.1), NOT_ENOUGH),
        ("no_less", (-0.9, -0.6), NO_GO),
    ],
)
def test_other_figures_may_get_worse_within_their_margins(rule: str, ends: Ends, verdict: str) -> None:
    found = decide(gate(**{rule: {"length": 0.5}}), results(gold=(0.1, 0.2), length=ends))
    assert found.verdict == verdict
    assert [one.verdict for one in found.reasons] == [GO, verdict]


def test_one_broken_demand_outweighs_open_ones_and_open_ones_those_that_are_met() -> None:
    demands = gate(no_more={"length": 0.5, "kl": 1.0})
    assert decide(demands, results(gold=(-0.1, 0.1), length=(0.6, 1), kl=(0, 0.1))).verdict == NO_GO
    assert decide(demands, results(gold=(0.1, 0.2), length=(0.4, 1), kl=(0, 0.1))).verdict == NOT_ENOUGH
    assert decide(demands, results(gold=(0.1, 0.2), length=(0.0, 0.1), kl=(0, 0.1))).verdict == GO


def test_what_was_not_measured_is_not_taken_to_be_well() -> None:
    found = decide(gate(no_less={"eos_rate": 0.1}), results(gold=(0.1, 0.2)))
    assert found.verdict == NOT_ENOUGH
    assert found.reasons[1].change is None
    unknown = Change(0.5, -np.inf, np.inf, 1).as_dict()  # of one draw
    of_one = results(gold=(0.1, 0.2)) | {"changes": {"policy_minus_sft": {"gold": unknown}}}
    (reason,) = decide(gate(), json.loads(json.dumps(of_one))).reasons
    assert (reason.verdict, reason.needed) == (NOT_ENOUGH, None)
    assert decide(gate(), {}).verdict == NOT_ENOUGH


def test_without_fine_tuning_the_base_is_what_it_started_from() -> None:
    assert decide(gate(), results("base", gold=(0.1, 0.2))).verdict == GO


def test_how_many_prompts_would_decide() -> None:
    (open_one,) = decide(gate(), results(gold=(-0.1, 0.3))).reasons  # +.1 with a half width of .2
    assert open_one.needed == pytest.approx(1600, abs=1)
    (on_it,) = decide(gate(0.1), results(gold=(-0.1, 0.3))).reasons
    assert on_it.needed is None
    (nearly,) = decide(gate(), results(gold=(0.0, 0.3))).reasons
    assert nearly.needed == 401


def won(by: str, rate: float, half: float, always: float, first: str = "sft") -> dict[str, Any]:
    row = {"by": by, "first": first, "second": "policy", "rate": rate, "n": 100}
    ends = {"low": rate - half, "high": rate + half, "always": [rate - always, rate + always]}
    return results() | {"win_rates": [row | ends]}


def test_a_win_rate_is_measured_against_one_half() -> None:
    demand = GateConfig(target="win_rate.gold", no_more={}, no_less={})
    assert decide(demand, won("gold", 0.6, 0.05, 0.2)).verdict == GO
    assert decide(demand.model_copy(update={"margin": 0.2}), won("gold", 0.6, 0.05, 0.2)).verdict == NO_GO
    assert decide(demand, won("score", 0.6, 0.05, 0.05)).verdict == NOT_ENOUGH, "somebody else's"
    assert decide(demand, won("gold", 0.6, 0.05, 0.05, "base")).verdict == NOT_ENOUGH, "against another"


def test_of_people_who_are_watched_the_interval_that_holds_at_all_times_counts() -> None:
    demand = GateConfig(no_more={}, no_less={})
    assert demand.target == "win_rate.people"
    assert decide(demand, won("people", 0.6, 0.05, 0.15)).verdict == NOT_ENOUGH
    assert decide(demand, won("people", 0.7, 0.05, 0.15)).verdict == GO


ENDS = st.tuples(st.floats(-2, 2), st.floats(0, 2)).map(lambda one: (one[0], one[0] + one[1]))


@given(gold=ENDS, length=ENDS, eos=ENDS, margins=st.tuples(*[st.floats(0, 1)] * 3))
def test_go_means_that_all_intervals_keep_their_margins(
    gold: Ends, length: Ends, eos: Ends, margins: tuple[float, float, float]
) -> None:
    demands = gate(margins[0], no_more={"length": margins[1]}, no_less={"eos_rate": margins[2]})
    found = decide(demands, results(gold=gold, length=length, eos_rate=eos))
    kept = gold[0] > margins[0] and length[1] < margins[1] and eos[0] > -margins[2]
    assert (found.verdict == GO) == kept
    broken = gold[1] < margins[0] or length[0] > margins[1] or eos[1] < -margins[2]
    assert (found.verdict == NO_GO) == broken
    json.dumps(found.as_dict(), allow_nan=False)


def test_what_breaks_one_margin_passes_in_25_of_1000_cases_at_most() -> None:
    """At the margin itself, where it is most often mistaken, with all else in order."""
    rng, passed, demands = np.random.default_rng(1), 0, gate(no_more={"length": 0.5})
    for _ in range(2000):
        before, after = rng.normal(0, 3, 100), rng.normal(0.5, 3, 100)
        change = Change.between(after, before, range(100))
        rows = {"gold": Change(1, 0.9, 1.1, 100).as_dict(), "length": change.as_dict()}
        passed += decide(demands, results() | {"changes": {"policy_minus_sft": rows}}).verdict == GO
    assert 0.012 <= passed / 2000 <= 0.038  # four standard errors of 2000 cases


# The demands themselves


def test_figures_are_named_by_the_whole_of_a_nested_table() -> None:
    nested = GateConfig.model_validate({"no_more": {"refusals_by_family": {"benign": 0.1}, "kl": 2}})
    dotted = GateConfig.model_validate({"no_more": {"refusals_by_family.benign": 0.1, "kl": 2.0}})
    assert nested == dotted
    assert nested.digest() == dotted.digest()
    assert nested.demands()[1:3] == [("refusals_by_family.benign", "no_more", 0.1), ("kl", "no_more", 2.0)]


def test_other_demands_have_another_hash() -> None:
    plain = GateConfig()
    others = [{"target": "gold"}, {"margin": 0.1}, {"no_more": {}}, {"no_less": {"eos_rate": 0.03}}]
    digests = {GateConfig.model_validate(one).digest() for one in others}
    assert len({plain.digest(), *digests}) == 5


def test_negative_margins_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        GateConfig(no_less={"eos_rate": -0.1})
