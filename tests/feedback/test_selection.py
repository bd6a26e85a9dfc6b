"""Which pairs are asked about: each selector wants what it says, and the chances recorded are true."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from concordant.errors import UserError
from concordant.feedback.asking.committee import committee
from concordant.feedback.asking.selection import (
    Candidates,
    choose,
    coreset,
    disagreement,
    most_informative,
    uncertainty,
)
from telling import tells


def candidates(n: int = 40, models: int = 3, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(rng.normal(0, 2, (models, n)), rng.normal(size=(n, 6)))


def test_each_selector_takes_what_it_says() -> None:
    given = Candidates(np.array([[0.0, 5.0, 1.0, -4.0], [0.1, 5.0, -3.0, -4.0]]))
    for name, best in (("uncertainty", 0), ("disagreement", 2), ("gap", 1)):
        for seed in range(8):  # drawn or not, the first of its order is chosen
            (one,) = [one for one in choose(given, 2, name, explore=0.5, seed=seed) if one.index == best]
            assert one.propensity == 1.0
    assert uncertainty(Candidates(np.zeros((1, 2)))).tolist() == [0.25, 0.25]
    assert disagreement(Candidates(np.array([[50.0], [-50.0]]))).tolist() == [pytest.approx(0.25)]


@pytest.mark.parametrize("selector", ["random", "uncertainty", "disagreement", "fisher", "coreset", "gap"])
def test_choices_are_different_and_a_share_is_random(selector: str) -> None:
    found = choose(candidates(), 20, selector, seed=3)  # type: ignore[arg-type]
    assert len({one.index for one in found}) == 20
    drawn = sum(one.selector == "random" for one in found)
    assert drawn == (20 if selector == "random" else 3)
    assert found == choose(candidates(), 20, selector, seed=3)  # type: ignore[arg-type]
    assert len(choose(candidates(), 1000, selector)) == 40  # type: ignore[arg-type]


@pytest.mark.parametrize("selector", ["gap", "fisher", "coreset"])
def test_propensities_are_how_often_a_pair_is_chosen(selector: str) -> None:
    """By the draw or by the selector: of those it puts at the edge some are chosen either way."""
    given, times = candidates(20), 4_000
    counts: Counter[int] = Counter()
    chances: dict[int, float] = {}
    for seed in range(times):
        found = choose(given, 10, selector, explore=0.3, seed=seed)  # type: ignore[arg-type]
        counts.update(one.index for one in found)
        for one in found:
            assert chances.setdefault(one.index, one.propensity) == one.propensity
    assert len(chances) == 20
    assert sum(chances.values()) == pytest.approx(10)
    assert sum(chance == 1.0 for chance in chances.values()) == 7
    assert sum(3 / 20 < chance < 1.0 for chance in chances.values()) == 3
    for index in range(20):
        assert counts[index] / times == pytest.approx(chances[index], abs=0.03)


@pytest.mark.parametrize("selector", ["random", "gap", "fisher"])
def test_weighed_by_propensity_the_answers_give_an_unbiased_mean(selector: str) -> None:
    """The mean of those chosen goes with what the selector likes; weighed it does not, nor that of those drawn."""
    given, times = candidates(30), 4_000
    truth = 4 * np.abs(given.gaps_MN.mean(axis=0)) + (given.features_NH**2).sum(axis=1)  # type: ignore[operator]
    weighed, plain, fair = [], [], []
    for seed in range(times):
        found = choose(given, 12, selector, explore=0.25, seed=seed)  # type: ignore[arg-type]
        weighed.append(sum(truth[one.index] / one.propensity for one in found) / 30)
        plain.append(np.mean([truth[one.index] for one in found]))
        fair.append(np.mean([truth[one.index] for one in found if one.selector == "random"]))
    for estimate in (weighed, fair):
        error = np.std(estimate) / times**0.5
        assert abs(np.mean(estimate) - truth.mean()) < 4 * error
    if selector != "random":
        assert np.mean(plain) > truth.mean() + 0.3


def test_a_core_set_covers_what_there_is() -> None:
    """Four clusters, one of them the mirror of another, and pairs that do not differ: three centres are enough."""
    rng = np.random.default_rng(0)
    centres = np.array([[5.0, 0, 0], [-5.0, 0, 0], [0, 4.0, 0], [0, 0, 3.0], [0, 0, 0]])
    given = Candidates(np.zeros((1, 50)), np.repeat(centres, 10, axis=0) + rng.normal(size=(50, 3)) * 0.05)
    first = [index // 10 for index, _ in coreset(given, 3)]
    assert first in ([0, 2, 3], [1, 2, 3])
    radius = [score for _, score in coreset(given, 12)]
    assert radius == sorted(radius, reverse=True)
    assert radius[3] < radius[2] / 10


# A committee.


def voted(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Pairs that differ in the first four of eight directions only, two on each prompt, with noisy votes."""
    rng = np.random.default_rng(seed)
    features = np.concatenate([rng.normal(size=(n, 4)), np.zeros((n, 4))], axis=1)
    chance = 1 / (1 + np.exp(-features @ np.array([2.0, -1.0, 0.5, 0, 0, 0, 0, 0])))
    sign = np.where(rng.random(n) < chance, 1.0, -1.0)
    return features * sign[:, None], np.ones(n), [f"prompt {i // 2}" for i in range(n)]


def test_a_committee_contradicts_itself_where_nobody_voted() -> None:
    """As sharp as any in the directions of the votes; and the selector asks about the others."""
    features, p, prompts = voted(400)
    layers = committee(features, p, np.ones(400), prompts, seed=1)
    assert layers.shape == (10, 8)
    assert np.corrcoef(layers.mean(axis=0)[:4], [2.0, -1.0, 0.5, 0])[0, 1] > 0.97
    rng = np.random.default_rng(2)
    known = np.concatenate([rng.normal(size=(40, 4)), np.zeros((40, 4))], axis=1)
    unknown = np.roll(known, 4, axis=1)
    both = np.concatenate([known, unknown])
    given = Candidates(layers @ both.T, both)
    variance = disagreement(given)
    assert variance[40:].mean() > 5 * variance[:40].mean()
    asked = [one.index for one in choose(given, 20, "disagreement") if one.selector == "disagreement"]
    assert all(index >= 40 for index in asked)


def test_more_votes_bring_a_committee_together_and_soft_ones_are_read() -> None:
    spread = []
    for n in (50, 800):
        features, p, prompts = voted(n)
        spread.append(committee(features, p, np.ones(n), prompts)[:, :4].std(axis=0).mean())
    assert spread[1] < spread[0] / 2
    features, _, prompts = voted(800)
    even = committee(features, np.full(800, 0.5), np.ones(800), prompts)
    assert np.abs(even.mean(axis=0)[:4]).max() < 0.2
    heavy = committee(features[:2], np.ones(2), np.array([1e6, 0.0]), ["a", "a"], members=3)
    assert ((heavy @ features[0]) > 5).all()
    with pytest.raises(UserError, match="columns"):
        committee(features, np.ones(3), np.ones(800), prompts)


def test_prompts_are_resampled_whole() -> None:
    """Twenty pairs of one prompt and one of another: a member has all twenty as often as it draws that prompt."""
    features = np.concatenate([np.tile([1.0, 0.0], (20, 1)), [[0.0, 1.0]]])
    layers = committee(features, np.ones(21), np.ones(21), ["a"] * 20 + ["b"], members=200)
    without = (layers[:, 0] < 2.5).mean()  # in one of four neither draw is a: then nothing was said of it
    assert 0.1 < without < 0.35


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
        ("coreset", "hidden states"),
        ("best", "selector"),
    ):
        with pytest.raises(UserError, match=said):
            choose(one, 2, selector)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="finite"):
        Candidates(np.array([[np.nan]]))


def test_features_of_other_pairs_are_refused() -> None:
    with tells("2 features for 3 pairs", where="features_NH", expected="one row for each", fix="same pairs"):
        Candidates(np.zeros((1, 3)), np.zeros((2, 4)))
