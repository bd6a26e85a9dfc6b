"""Labelers who vote too often, and what a board would be without each of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from crowds import Planted

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.aggregation.bradley_terry import fit_board
from concordant.feedback.aggregation.contests import FIRST, SECOND, Contests, from_arrays
from concordant.feedback.aggregation.influence import capped, without_each
from concordant.feedback.aggregation.intervals import uncertainty
from concordant.feedback.reading.board import board
from concordant.feedback.store import Store
from concordant.feedback.votes import Submission, Vote, prefer
from tiny_run import concordant

RIGGED = "item 3"


def honest_and(rigged: int, seed: int = 0) -> Contests:
    """Twelve labelers who look, with 60 votes each, and one who put item 3 above all others `rigged` times."""
    votes, _ = Planted(votes=720, items=8, rho=(0.92,) * 12, q=(0.0,) * 12, gamma=(0, 0, 0)).draw(seed)
    rivals = np.array([0, 1, 2, 4, 5, 6, 7])[np.arange(rigged) % 7]
    turned = np.arange(rigged) % 2 == 0
    return from_arrays(
        np.concatenate([votes.first, np.where(turned, rivals, 3)]),
        np.concatenate([votes.second, np.where(turned, 3, rivals)]),
        np.concatenate([votes.said, np.where(turned, SECOND, FIRST)]),
        np.concatenate([votes.labeler, np.full(rigged, 12)]),
        items=votes.items,
        labelers=(*votes.labelers, "rigged"),
    )


def place(votes: Contests) -> int:
    ranked = [one.item for one in uncertainty(votes, fit_board(votes)).board()]
    return ranked.index(RIGGED) + 1


def test_who_moves_a_board_is_named() -> None:
    """And nobody else, in any of three crowds; without that labeler the board is that of the honest votes alone."""
    for seed in range(3):
        votes = honest_and(300, seed)
        whole = uncertainty(votes, fit_board(votes))
        found = without_each(votes, whole)
        assert [one.labeler for one in found if one.matters] == ["rigged"]
        first = found[0]
        assert (first.labeler, first.n, first.item) == ("rigged", 300, RIGGED)
        assert first.shift < -1
        honest = replace(votes, weight=np.where(votes.labeler == 12, 0.0, 1.0))
        alone = fit_board(honest).parameters.s
        assert alone[3] - whole.fit.parameters.s[3] == pytest.approx(first.shift, abs=0.02)
        assert first.ranks == max(
            abs(np.argsort(np.argsort(-alone)) - np.argsort(np.argsort(-whole.fit.parameters.s)))
        )


def test_a_cap_takes_weight_from_repeat_voters_and_no_vote() -> None:
    votes = honest_and(300)
    honest = place(replace(votes, weight=np.where(votes.labeler == 12, 0.0, 1.0)))
    scaled = capped(votes, 60)
    assert len(scaled.said) == len(votes.said)
    by_labeler = np.bincount(scaled.labeler, scaled.weight)
    assert by_labeler[12] == pytest.approx(60)
    assert by_labeler.max() == pytest.approx(60)
    few = votes.counts() <= 60
    np.testing.assert_array_equal(scaled.weight[few[votes.labeler]], 1.0)
    assert place(votes) == 1 < honest
    assert place(capped(votes, 15)) > 1
    assert fit_board(scaled).parameters.s[3] < fit_board(votes).parameters.s[3] - 0.5
    with pytest.raises(UserError, match="at most 0"):
        capped(votes, 0)


def test_a_ranking_and_passes_count_as_one_vote_under_a_cap() -> None:
    """Three rows of one ballot are one vote: a cap of two leaves two ballots their weight."""
    votes = replace(
        from_arrays([0, 1, 0, 1], [1, 2, 2, 0], [FIRST] * 4, weight=[1 / 3, 1 / 3, 1 / 3, 1]),
        ballot=np.array([0, 0, 0, 1]),
    )
    np.testing.assert_array_equal(capped(votes, 2).weight, votes.weight)
    np.testing.assert_allclose(capped(votes, 1).weight, votes.weight / 2)


def test_who_holds_a_board_together_is_named() -> None:
    """Two rings, and one labeler alone who compared across; and a labeler who is the only one."""
    ring = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
    across = [(0, 3), (4, 1)]
    first, second = zip(*ring, *across, strict=True)
    votes = from_arrays(first, second, [FIRST] * 8, [0, 1, 0, 1, 0, 1, 2, 2])
    found = without_each(votes, uncertainty(votes, fit_board(votes)))
    assert {one.labeler for one in found if one.needed} == {"0", "1", "2"}  # rings have one vote a side
    twice = from_arrays(first * 2, second * 2, [FIRST] * 16, [0, 1, 0, 1, 0, 1, 2, 2, 1, 0, 1, 0, 1, 0, 2, 2])
    found = without_each(twice, uncertainty(twice, fit_board(twice)))
    assert [one.labeler for one in found if one.needed] == ["2"]
    assert found[0].matters
    (only,) = without_each(
        ringed := from_arrays([0, 1], [1, 0], [FIRST] * 2), uncertainty(ringed, fit_board(ringed))
    )
    assert only.needed


# From a store.


def voted(path: Path, rigged: int = 0) -> Path:
    """Three models of which a is best, by three people; who rigs puts c first `rigged` times."""
    rng = np.random.default_rng(0)
    with Store.open(path) as store:
        models = {"a": 1.5, "b": 0.0, "c": -1.5}
        groups, people = [], ["ada", "bob", "cyd"]
        for n in range(60 + rigged):
            pair = ("a", "b", "c")[n % 3], ("b", "c", "a")[n % 3]
            rows = [(Prompt.user(f"question {n}"), Completion(f"{m} {n}"), {"model": m}, True) for m in pair]
            groups.append((pair, store.add_completions(rows)))
        for n, (pair, keys) in enumerate(groups):
            store.create_tasks("pairwise", [keys])
            who = people[n // 3 % 3] if n < 60 else "rigged"
            lease = store.lease(store.add_labeler(who, "human"))
            assert lease is not None
            chance = 1 / (1 + np.exp(models[pair[1]] - models[pair[0]]))
            winner = keys[int(rng.random() > chance)]
            if n >= 60 and "c" in pair:
                winner = keys[pair.index("c")]
            store.submit_many(
                [Submission(lease.token, f"{n}", Vote(lease.comparison.task_id, prefer(winner)))]
            )
        other = store.add_completions([(Prompt.user("by hand"), Completion(x), {}, True) for x in "xy"])
        store.create_tasks("pairwise", [other])
        lease = store.lease(store.add_labeler("ada", "human"))
        assert lease is not None
        store.submit(lease.token, "unmade", Vote(lease.comparison.task_id, prefer(other[0])))
    return path


def test_the_board_of_a_store_leaves_out_what_nobody_is_named_for(tmp_path: Path) -> None:
    with Store.open(voted(tmp_path / "votes.sqlite")) as store:
        found = board(store)
        assert found is not None
        assert ([one.item for one in found.places], found.votes) == (["a", "b", "c"], 60)
        assert not any(one.matters for one in found.absences)
        assert board(store, project="nothing") is None


def test_the_command_names_who_moves_the_board_and_caps_repeat_voters(tmp_path: Path) -> None:
    store = voted(tmp_path / "votes.sqlite", rigged=90)
    done = concordant("feedback", "agreement", store)
    assert done.status == 0, done.err
    assert "1. c" in done.out
    assert "without rigged" in done.out
    assert "c moves by -" in done.out
    capped_at = concordant("feedback", "agreement", store, "--most", "10")
    assert "1. a" in capped_at.out


def test_a_board_in_pieces_is_said_to_be_none(tmp_path: Path) -> None:
    with Store.open(tmp_path / "votes.sqlite") as store:
        rows = [(Prompt.user("q"), Completion(m), {"model": m}, True) for m in ("[bold]a", "b")]
        keys = store.add_completions(rows)
        store.create_tasks("pairwise", [keys])
        lease = store.lease(store.add_labeler("ada", "human"))
        assert lease is not None
        store.submit(lease.token, "k", Vote(lease.comparison.task_id, prefer(keys[0])))
    done = concordant("feedback", "agreement", tmp_path / "votes.sqlite")
    assert done.status == 0, done.err
    assert "not scoreable: all-win: [bold]a, all-loss: b" in done.out
