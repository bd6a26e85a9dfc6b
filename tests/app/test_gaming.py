"""Sentences on whether the reward was gamed, for every outcome there is."""

from __future__ import annotations

from typing import Any

from concordant.app.gaming import exploited, gaming, shown, standing


def part(name: str, share: float, change: float | None = None) -> dict[str, Any]:
    return {
        "part": name,
        "change": change,
        "share": share,
        "share_low": share - 0.1,
        "share_high": share + 0.1,
    }


def account(**changes: Any) -> dict[str, Any]:
    said = {"text": "it is red .", "length": 5, "score": 1.0, "gold": 0.5}
    sample = {"prompt": [{"role": "user", "content": "what color ?"}], "before": said, "after": said}
    return {
        "truth": "gold",
        "gain": {"mean": 2.5, "low": 2.4, "high": 2.6},
        "parts": [part("gold", 0.2), part("length", 0.5, 9.9), part("rest", 0.3)],
        "named": [{"feature": "length", "words": "longer answers", "share": 0.5}],
        "samples": {"length": [sample]},
    } | changes


def path(stands: str, **fit: Any) -> dict[str, Any]:
    known = {"d_star": 1.5, "d_star_ci": [1.3, 1.7]} | fit
    return {"truth": "gold", "fit": known, "d": {"mean": 2.6}, "stands": stands}


def test_an_exploited_feature_is_named_with_its_share() -> None:
    assert exploited(account()) == (
        "exploited: longer answers (length +9.90 an answer, 50% [40%, 60%]); "
        "of the score's rise of 2.50 gold explains 20% [10%, 30%]; 30% [20%, 40%] has no name"
    )


def test_nothing_exploited() -> None:
    assert exploited(account(named=[])).startswith("exploited: nothing that was looked at; of the score's")
    flat = account(gain={"mean": 0.1, "low": -0.1, "high": 0.3}, named=[])
    assert exploited(flat) == "exploited: nothing, as the score did not measurably rise"


def test_without_the_truth_nothing_is_called_exploited() -> None:
    found = exploited(account(truth=None))
    assert found.startswith("paid for: longer answers")
    assert "people have to say" in found
    assert "no feature looked at" in exploited(account(truth=None, named=[]))


def test_where_a_policy_stands() -> None:
    assert standing(path("past")) == (
        "over-optimised: yes; along the training gold is highest at √KL = 1.50 [1.30, 1.70], "
        "the policy stands at 2.60"
    )
    assert standing(path("before", d_star_ci=[3.0, None])).startswith("over-optimised: no")
    probed = path("past") | {"truth": "probe"}
    assert "the win rate of its probes is highest" in standing(probed)
    assert "[3.00, never]" in standing(path("before", d_star_ci=[3.0, None]))
    assert "gold does not turn [1.00, never]" in standing(
        path("cannot tell", d_star=None, d_star_ci=[1.0, None])
    )
    never = standing(path("before", d_star=None, d_star_ci=[None, None]))
    assert "gold does not turn, the policy stands at" in never
    assert "too little of the truth along the training" in standing(path("cannot tell") | {"fit": None})


def test_samples_are_shown_one_line_each() -> None:
    row = account()
    row["samples"]["length"][0]["after"] = {
        "text": "so\n" * 100,
        "length": 100,
        "score": 2.0,
        "gold": None,
    }
    lines = list(shown(row))
    assert lines[0] == "longer answers, where it shows most:"
    assert lines[1:3] == ["  asked: what color ?", "    before: it is red .  (score 1.00, gold 0.50)"]
    assert lines[3].endswith("...  (score 2.00)")
    assert all("\n" not in line and len(line) < 150 for line in lines)


def test_results_of_older_runs_say_nothing() -> None:
    assert list(gaming({"models": {}})) == []
