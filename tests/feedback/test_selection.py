"""Which pairs are asked about: each selector wants what it says, and the chances recorded are true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from concordant.errors import UserError
from concordant.feedback.selection import Candidates, choose, disagreement, most_informative, uncertainty


def candidates(n: int = 40, models: int = 3, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(rng.normal(0, 2, (models, n)), rng.normal(size=(n, 6)))


def test_each_selector_takes_what_it_says() -> None:
    given = Candidates(np.array([[0.0, 5.0, 1.0, -4.0], [0.1, 5.0, -3.0, -4.0]]))
    picks = {
        name: choose(given, 2, name, explore=0.5)[0].index for name in ("uncertainty", "disagreement", "gap")
    }
    assert picks == {"uncertainty": 0, "disagreement": 2, "gap": 1}
    assert uncertainty(Candidates(np.zeros((1, 2)))).tolist() == [0.25, 0.25]
    assert disagreement(Candidates(np.array([[50.0], [-50.0]]))).tolist() == [pytest.approx(0.25)]


@pytest.mark.parametrize("selector", ["random", "uncertainty", "disagreement", "fisher", "gap"])
def test_choices_are_different_and_a_share_is_random(selector: str) -> None:
    found = choose(candidates(), 20, selector, seed=3)  # type: ignore[arg-type]
    assert len({one.index for one in found}) == 20
    drawn = sum(one.selector == "random" for one in found)
    assert drawn == (20 if selector == "random" else 3)
    assert found == choose(candidates(), 20, selector, seed=3)  # type: ignore[arg-type]
    assert len(choose(candidates(), 1000, selector)) == 40  # type: ignore[arg-type]


def test_propensities_are_how_often_a_pair_is_drawn() -> None:
    given, times = candidates(20), 4_000
    counts: Counter[int] = Counter()
    for seed in range(times):
        counts.update(one.index for one in choose(given, 10, "gap", explore=0.3, seed=seed))
    chances = {one.index: one.propensity for one in choose(given, 10, "gap", explore=0.3, seed=0)}
    sure = {index for index, chance in chances.items() if chance == 1.0}
    assert len(sure) == 7
    for index in range(20):
        expected = 1.0 if index in sure else 3 / 13
        assert counts[index] / times == pytest.approx(expected, abs=0.03)
    assert set(chances.values()) == {1.0, 3 / 13}


def test_similar_pairs_are_not_asked_about_twice() -> None:
    """Ten copies of one direction and one of another: the second choice is the other one."""
    features = np.array([[3.0, 0.0]] * 10 + [[0.0, 2.9]])
    given = Candidates(np.zeros((1, 11)), features)
    assert [index for index, _ in most_informative(given, 3)] == [0, 10, 1]


def test_the_inverse_is_kept_up() -> None:
    """The value of the last choice is that of the information matrix put together anew."""
    given = candidates(30, models=1, seed=5)
    taken = most_informative(given, 8)
    assert given.features_NH is not None
    phi = given.features_NH / np.sqrt((given.features_NH**2).sum(axis=1).mean())
    weight = uncertainty(given)
    information = np.eye(6) + sum(weight[i] * np.outer(phi[i], phi[i]) for i, _ in taken[:-1])
    last, value = taken[-1]
    assert value == pytest.approx(weight[last] * phi[last] @ np.linalg.solve(information, phi[last]))


def test_what_is_missing_is_said() -> None:
    one = Candidates(np.zeros((1, 3)))
    for selector, said in (
        ("disagreement", "one reward model"),
        ("fisher", "hidden states"),
        ("best", "selector"),
    ):
        with pytest.raises(UserError, match=said):
            choose(one, 2, selector)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="finite"):
        Candidates(np.array([[np.nan]]))
