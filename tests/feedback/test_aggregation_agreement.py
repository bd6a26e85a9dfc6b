"""Agreement beyond chance, against published figures and figures worked out by hand."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from evalica import alpha as evalica_alpha
from pandas import DataFrame

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.reading import agreement
from concordant.feedback.reading.agreement import (
    clustered_rate,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    rate,
    swap_consistency,
    unanimous,
)
from concordant.feedback.reading.live_votes import LiveVote, LiveVotes
from concordant.feedback.votes import prefer, tie

NAN = math.nan
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: four labelers, twelve units.
EXAMPLE = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def test_alpha_against_the_published_example() -> None:
    nominal = krippendorff_alpha(EXAMPLE)
    assert nominal.value == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(EXAMPLE, distance="interval").value == pytest.approx(0.849, abs=5e-4)
    assert (nominal.units, nominal.clusters) == (11, 11)  # the last unit has one label
    assert nominal.low < nominal.value < nominal.high


@pytest.fixture(scope="module")
def pandalm(shared_data: Path) -> tuple[np.ndarray, list[int]]:
    """Labels of 999 pairs by three people, and the number of the prompt of each."""
    rows = json.loads((shared_data / "pandalm-testset" / "testset-v1.json").read_text(encoding="utf-8"))
    labels = np.array([[row[f"annotator{k}"] for k in (1, 2, 3)] for row in rows], dtype=float)
    numbers: dict[tuple[str, str], int] = {}
    return labels, [numbers.setdefault((r["instruction"], r["input"]), len(numbers)) for r in rows]


def test_published_agreement_of_real_labelers(pandalm: tuple[np.ndarray, list[int]]) -> None:
    labels, prompts = pandalm
    by_unit, by_prompt = krippendorff_alpha(labels), krippendorff_alpha(labels, clusters=prompts)
    assert by_unit.value == by_prompt.value == pytest.approx(0.86422, abs=5e-6)
    assert fleiss_kappa(labels) == pytest.approx(0.86418, abs=5e-6)
    pairs = [
        cohen_kappa(labels[:, a].astype(int), labels[:, b].astype(int)) for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert pairs == pytest.approx([0.852, 0.879, 0.862], abs=5e-4)
    everybody = unanimous(labels)
    assert (everybody.value, everybody.n) == (pytest.approx(0.880, abs=5e-4), 999)
    assert (by_prompt.units, by_prompt.clusters) == (999, 170)
    assert by_prompt.high - by_prompt.low > 1.2 * (by_unit.high - by_unit.low)  # pairs of a prompt are alike


def crowd(seed: int, units: int, right: float = 0.85) -> np.ndarray:
    """Three labelers of whom each finds the one of three classes so often."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, units)[:, None]
    other = (truth + rng.integers(1, 3, (units, 3))) % 3
    return np.where(rng.random((units, 3)) < right, truth, other).astype(float)


def test_the_interval_covers_and_narrows() -> None:
    """Of 40 samples nine tenths or more cover the value of a very large one; four times the units halve it."""
    truth = krippendorff_alpha(crowd(0, 200_000), replicates=2).value
    found = [krippendorff_alpha(crowd(seed, 150), replicates=200) for seed in range(1, 41)]
    assert sum(one.low <= truth <= one.high for one in found) >= 35
    large = krippendorff_alpha(crowd(1, 600), replicates=200)
    assert (large.high - large.low) / np.mean([one.high - one.low for one in found]) == pytest.approx(
        0.5, abs=0.1
    )


def test_copies_of_units_in_one_cluster_narrow_nothing() -> None:
    labels = crowd(0, 150)
    copies, clusters = np.repeat(labels, 4, axis=0), np.repeat(np.arange(150), 4).tolist()
    widths = [
        one.high - one.low
        for one in (
            krippendorff_alpha(labels),
            krippendorff_alpha(copies, clusters=clusters),
            krippendorff_alpha(copies),
        )
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.15)


@pytest.mark.parametrize("distance", ["nominal", "interval"])
def test_a_replicate_of_everything_once_is_the_estimate(monkeypatch, distance: str) -> None:
    """The replicates add up coincidences of their own; undrawn they give what evalica gives, gaps and all."""
    labels = crowd(3, 200)
    labels[np.random.default_rng(0).random(labels.shape) < 0.2] = NAN
    kept = labels[np.isfinite(labels).sum(axis=1) > 1]

    class Once:
        def multinomial(self, n, even):
            return np.ones(n)

    monkeypatch.setattr(np.random, "default_rng", lambda _seed: Once())
    (draw,) = agreement._alpha_draws(kept, np.arange(len(kept)), distance, 1, 0)
    assert draw == pytest.approx(evalica_alpha(DataFrame(labels.T), distance).alpha, abs=1e-12)


def test_alpha_where_nothing_can_be_said() -> None:
    assert math.isnan(krippendorff_alpha(np.array([[1.0, NAN], [NAN, 2.0]])).value)
    assert math.isnan(krippendorff_alpha(np.ones((5, 2))).value)
    with pytest.raises(UserError, match="2 clusters for 3 units"):
        krippendorff_alpha(np.ones((3, 2)), clusters=[0, 1])
    with pytest.raises(UserError, match="shape"):
        krippendorff_alpha(np.ones(3))


def test_cohen_by_hand() -> None:
    """20 yes-yes, 15 no-no, 5 and 10 mixed: observed .7, expected .5, kappa .4."""
    a = [1] * 25 + [0] * 25
    b = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)
    assert cohen_kappa(a, b, weighted=True) == pytest.approx(0.4)  # two labels know no degrees
    assert math.isnan(cohen_kappa([1, 1], [1, 1]))
    assert cohen_kappa([0, 1], [1, 0]) == pytest.approx(-1)
    with pytest.raises(UserError, match="2 and 1 labels"):
        cohen_kappa([0, 1], [1])


def test_weighted_cohen_by_hand() -> None:
    """a = 0 1 2 2, b = 0 2 2 1: costs 1/4 twice, observed 1/8. Margins (1, 1, 2)/4 both: expected 2 (1/4 (1 + 2)
    + 2)/16 = 11/32. kappa = 1 - 4/11. Labels that stand apart by tens cost the same."""
    assert cohen_kappa([0, 1, 2, 2], [0, 2, 2, 1], weighted=True) == pytest.approx(7 / 11)
    assert cohen_kappa([0, 10, 20, 20], [0, 20, 20, 10], weighted=True) == pytest.approx(7 / 11)
    assert cohen_kappa([0, 1, 2, 2], [0, 2, 2, 1]) == pytest.approx(1 - 0.5 / (10 / 16))


def test_fleiss_against_the_published_example() -> None:
    """Fourteen labelers, ten units, five classes: 0.210 (the worked example of many textbooks)."""
    counts = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    labels = np.array([np.repeat(np.arange(5), row) for row in counts], dtype=float)
    assert fleiss_kappa(labels) == pytest.approx(0.210, abs=5e-4)
    assert math.isnan(fleiss_kappa(np.ones((4, 3))))
    with pytest.raises(UserError, match="no gaps"):
        fleiss_kappa(np.array([[1.0, NAN]]))


def test_unanimous_counts_units_with_two_labels() -> None:
    found = unanimous(np.array([[1, 1, NAN], [1, 2, 1], [2, NAN, NAN], [3, 3, 3]]))
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)


def test_agreement_of_several_labelers_is_counted_by_prompt() -> None:
    """Five labelers on 200 prompts are ten agreements each, not independent: 95 % intervals have to cover."""
    truth, covered, plain = 0.8**2 + 0.2**2, 0, 0
    for seed in range(200):
        right = np.random.default_rng(seed).random((200, 5)) < 0.8
        shares = [float(a == b) for row in right for a, b in combinations(row, 2)]
        prompts = np.repeat(np.arange(200), 10).tolist()
        one = clustered_rate(shares, prompts)
        covered += one.low < truth < one.high
        plain += rate(shares).low < truth < rate(shares).high
        assert (one.value, one.n) == (pytest.approx(rate(shares).value), 2_000)
    assert 182 <= covered <= 198
    assert plain < 170


def test_rates_of_few_or_equal_clusters_stay_honest() -> None:
    assert clustered_rate([], []).n == 0
    assert clustered_rate([1.0, 0.5, 0.0], "abc") == rate([1.0, 0.5, 0.0])
    assert (clustered_rate([1.0, 1.0, 0.0], "aaa").low, clustered_rate([1.0, 1.0, 0.0], "aaa").high) == (
        0.0,
        1.0,
    )
    always = clustered_rate([1.0] * 90, [number // 3 for number in range(90)])
    assert always.high == 1.0
    assert 0.85 < always.low < 0.9  # as of 30 answers, not of 90
    balanced = clustered_rate([1.0, 0.0] * 200, [number // 2 for number in range(400)])  # each in both orders
    assert balanced.high - balanced.low >= rate([1.0, 0.0] * 200).high - rate([1.0, 0.0] * 200).low
    two = clustered_rate([1.0, 1.0, 0.0, 0.0], "aabb")
    assert two.low < 0.05 < 0.95 < two.high


def shown_both_ways(*told: tuple[str, str, tuple[str, str], str]) -> LiveVotes:
    """Votes as (labeler, prompt, texts in the order shown, what wins); "" is a tie."""
    votes, members, prompts, texts = [], {}, {}, {}
    for n, (who, asked, pair, winner) in enumerate(told):
        ids = tuple(f"{n}{text}" for text in pair)
        payload = prefer(f"{n}{winner}") if winner else tie()
        votes.append(LiveVote(f"task {n}", who, ids, payload, 1.0))
        members[f"task {n}"], prompts[f"task {n}"] = ids, Prompt.user(asked)
        texts |= {key: Completion(text) for key, text in zip(ids, pair, strict=True)}
    return LiveVotes(tuple(votes), texts, prompts, members)


def test_who_takes_the_same_side_in_both_orders_is_consistent() -> None:
    ab, ba = ("a", "b"), ("b", "a")
    steady = [("one", "q", ab, "a"), ("one", "q", ba, "a")]
    takes_the_first = [("two", "q", ab, "a"), ("two", "q", ba, "b")]
    assert swap_consistency(shown_both_ways(*steady)).value == 1
    assert swap_consistency(shown_both_ways(*takes_the_first)).value == 0
    both = swap_consistency(shown_both_ways(*steady, *takes_the_first))
    assert (both.value, both.n) == (0.5, 2)


def test_only_the_same_texts_in_both_orders_say_something() -> None:
    ab, ba = ("a", "b"), ("b", "a")
    once = [("one", "q", ab, "a"), ("two", "q", ba, "b"), ("one", "other", ba, "b"), ("one", "q", ab, "b")]
    assert swap_consistency(shown_both_ways(*once)).n == 0, "nobody saw both orders of a prompt"
    tied = [("one", "q", ab, "a"), ("one", "q", ba, "")]
    assert swap_consistency(shown_both_ways(*tied)).n == 0
    alike = [("one", "q", ("a", "a"), "a"), ("one", "q", ("a", "a"), "a")]
    assert swap_consistency(shown_both_ways(*alike)).n == 0
