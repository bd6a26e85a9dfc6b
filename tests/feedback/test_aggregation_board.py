"""One fit of scores, labelers and style: its equation, what it recovers, what it refuses, what it costs."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from crowds import Planted, polled
from scipy.optimize import check_grad
from scipy.stats import spearmanr

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.aggregation import bradley_terry, likelihood
from concordant.feedback.aggregation.bradley_terry import Fit, LabelerStanding, fit_board, fit_labelers
from concordant.feedback.aggregation.contests import (
    COVARIATES,
    FIRST,
    SECOND,
    TIE,
    Contests,
    form,
    from_arrays,
    from_live_votes,
)
from concordant.feedback.aggregation.intervals import Place, Uncertainty, uncertainty
from concordant.feedback.aggregation.likelihood import Parameters, objective, slope_along
from concordant.feedback.answering.simulated import Traits
from concordant.feedback.reading.live_votes import LiveVote, LiveVotes
from concordant.feedback.votes import both_bad, prefer, ranking, tie
from telling import tells

# The equation.


def small(seed: int) -> Contests:
    """Votes with weights of all sizes, of which nobody knows for some what was shown first."""
    votes, _ = Planted(votes=200, items=6, rho=(0.9,) * 4, q=(0.0,) * 4).draw(seed)
    rng = np.random.default_rng(seed)
    x = votes.x.copy()
    x[:, 0] = rng.random(200) < 0.7
    return replace(votes, x=x, weight=rng.random(200) * 2)


@pytest.mark.parametrize("seed", range(4))
def test_gradient_against_differences(seed: int) -> None:
    votes = small(seed)
    rng = np.random.default_rng(seed)
    for size in (0.3, 1.0, 2.0):
        theta = rng.normal(size=6 + 8 + 5) * size
        error = check_grad(lambda t: objective(t, votes)[0], lambda t: objective(t, votes)[1], theta)
        assert error < 1e-4


def test_objective_by_hand() -> None:
    """One vote for the first: d = 1 + .5 = 1.5, nu = 1, so L = e^.75/(e^.75 + e^-.75 + 1) = 0.58980; the habit is
    q = 1, tau = 0: C = e^.5/(e^.5 + e^-.5 + 1) = 0.50648; rho = 0.5: P = 0.54814, -log P = 0.60123. The penalty is
    .25 (|s|^2 .5 + (0-2)^2 + q^2 1 + gamma^2 .25) = 1.4375."""
    votes = from_arrays([0], [1], [FIRST])
    at = Parameters(np.array([0.5, -0.5]), np.zeros(1), np.ones(1), np.array([0.5, 0, 0]), 0.0, 0.0)
    value, _ = objective(at.flat(), votes)
    looked = math.exp(0.75) / (math.exp(0.75) + math.exp(-0.75) + 1)
    habit = math.exp(0.5) / (math.exp(0.5) + math.exp(-0.5) + 1)
    assert (looked, habit) == (pytest.approx(0.58980, abs=1e-5), pytest.approx(0.50648, abs=1e-5))
    assert value == pytest.approx(-math.log((looked + habit) / 2) + 1.4375, abs=1e-9)
    twice = replace(votes, weight=np.array([2.0]))
    assert objective(at.flat(), twice)[0] == pytest.approx(2 * (value - 1.4375) + 1.4375)


def test_without_a_known_order_no_position_term_is_read() -> None:
    votes = replace(small(0), x=np.zeros((200, 3)))
    at = Parameters.start(6, 4)
    moved = replace(at, q=np.full(4, 3.0), gamma=np.array([2.0, 0, 0]))
    penalty = likelihood._penalty(moved)[0] - likelihood._penalty(at)[0]
    assert objective(moved.flat(), votes)[0] - objective(at.flat(), votes)[0] == pytest.approx(penalty)


# What is recovered.


@pytest.fixture(scope="module")
def planted() -> tuple[Contests, np.ndarray, Fit, Uncertainty]:
    """20 labelers from careless to careful, 4,000 votes."""
    rho = np.linspace(0.1, 0.97, 20)
    plan = Planted(votes=4_000, items=12, rho=tuple(rho), q=(1.5,) * 10 + (-0.5,) * 10, gamma=(0.4, 0.5, 0.0))
    votes, scores = plan.draw(0)
    fit = fit_board(votes)
    return votes, scores, fit, uncertainty(votes, fit)


def test_planted_scores_and_reliabilities_are_recovered(planted) -> None:
    _, scores, fit, _ = planted
    assert spearmanr(fit.parameters.s, scores).statistic > 0.95
    rho = [one.rho for one in fit.labelers]
    assert spearmanr(rho, np.linspace(0.1, 0.97, 20)).statistic >= 0.9
    assert fit.parameters.s.mean() == pytest.approx(0, abs=1e-9)
    assert {one.labeler for one in fit.labelers if one.flagged} >= {f"labeler {w}" for w in range(6)}
    assert not any(one.flagged for one in fit.labelers[-6:])


def test_intervals_cover_what_was_planted(planted) -> None:
    """And leave out what was not: the pull of length is not zero. That of position is hard to tell from habits."""
    _, scores, fit, unsure = planted
    style = unsure.style()
    for name, truth in zip(COVARIATES, (0.4, 0.5, 0.0), strict=True):
        assert style[name].low < truth < style[name].high
    assert style["log length ratio"].low > 0
    assert unsure.ties().low < -1.2 < unsure.ties().high
    board = {place.item: place.score for place in unsure.board()}
    inside = [board[f"item {i}"].low < truth < board[f"item {i}"].high for i, truth in enumerate(scores)]
    assert sum(inside) >= 11
    assert all(one.low < one.value < one.high for one in board.values())
    assert board["item 0"].value == fit.parameters.s[0]


def test_the_board_is_ranked_with_bounds(planted) -> None:
    """A bound counts only rivals that are surely better; with half the confidence it counts more of them."""
    *_, unsure = planted
    board = unsure.board()
    values = [place.score.value for place in board]
    assert values == sorted(values, reverse=True)
    for place in board:
        assert place.rank_bound == 1 + sum(other.score.low > place.score.high for other in board)
    assert board[0].rank_bound == 1 < board[-1].rank_bound <= 12
    loose = {place.item: place.rank_bound for place in unsure.board(0.3)}
    assert sum(loose.values()) > sum(place.rank_bound for place in board)


def test_weights_decide() -> None:
    """Of two halves that contradict each other the heavier one is followed."""
    votes, scores = Planted(votes=2_000, items=8, rho=(0.95,) * 4, q=(0.0,) * 4).draw(1)
    turned = votes.swapped()
    both = from_arrays(
        np.concatenate([votes.first, votes.first]),
        np.concatenate([votes.second, votes.second]),
        np.concatenate([votes.said, turned.said]),  # the same order shown, the other side preferred
        weight=np.repeat([0.2, 1.0], 2_000),
    )
    assert spearmanr(fit_board(both).parameters.s, scores).statistic < -0.9


def test_swapping_all_sides_flips_only_position_terms() -> None:
    votes, _ = Planted(votes=1_500).draw(3)
    one, other = fit_board(votes).parameters, fit_board(votes.swapped()).parameters
    assert abs(one.gamma[0]) > 0.2
    assert np.abs(one.q).max() > 1
    flipped = replace(other, q=-other.q, gamma=other.gamma * np.array([-1.0, 1.0, 1.0]))
    np.testing.assert_allclose(flipped.flat(), one.flat(), atol=2e-3)


def test_an_always_first_labeler_is_flagged_within_30_votes() -> None:
    """95 % of them first, beside ten labelers who look; nobody else is flagged in more than one seed of 20."""
    caught = false = 0
    for seed in range(20):
        plan = Planted(votes=830, items=15, rho=(0.92,) * 10 + (0.05,), q=(0.0,) * 10 + (3.5,), last=30)
        fit = fit_board(plan.draw(seed)[0], seed)
        assert fit.labelers[-1].n == 30
        caught += fit.labelers[-1].flagged
        false += any(one.flagged for one in fit.labelers[:-1])
    assert caught >= 19
    assert false <= 1


def test_few_votes_hide_the_reliability_and_raise_no_flag() -> None:
    crowd = (0.92,) * 10 + (0.02,)
    for votes_of_last, hidden in ((4, True), (19, False)):
        plan = Planted(votes=800, items=8, rho=crowd, q=(0.0,) * 10 + (5.0,), last=votes_of_last)
        last = fit_board(plan.draw(2)[0]).labelers[-1]
        assert (last.n, last.rho is None, last.flagged) == (votes_of_last, hidden, False)
    assert last.rho is not None
    assert last.rho < bradley_terry.FLAGGED_BELOW


def test_several_starts_find_better_minima_than_one() -> None:
    """The likelihood has several; with 22 votes of the last labeler the first start is often in the wrong one."""
    better = 0
    for seed in range(100, 110):
        plan = Planted(votes=900, items=20, rho=(0.92,) * 10 + (0.05,), q=(0.0,) * 10 + (3.5,), last=22)
        votes = plan.draw(seed)[0]
        first = bradley_terry._starts(votes, seed)[0]
        better += fit_board(votes, seed).loss < bradley_terry._minimum(first, votes)[1] - 0.1
    assert better >= 2


# Each bias shows only in its own diagnostic.

BIASES = {
    "none": Traits(),
    "length": Traits(length=0.06),
    "side": Traits(first=0.6),
    "fatigue": Traits(fatigue=0.5),
    "sycophancy": Traits(sycophancy=1.0),
}
SHOWS_IN = {"length": "log length ratio", "side": "shown first"}


@pytest.mark.parametrize("bias", BIASES)
def test_a_bias_of_all_shows_in_its_own_term(bias: str) -> None:
    """Length and side have a term; fatigue and sycophancy have none, and leave those of others alone."""
    live, policies = polled([BIASES[bias]] * 8, 400, 4)
    votes = from_live_votes(live, policies)
    fit = fit_board(votes)
    style = uncertainty(votes, fit).style()
    shown = {name for name, one in style.items() if one.low > 0 or one.high < 0}
    assert shown == ({SHOWS_IN[bias]} if bias in SHOWS_IN else set())
    rho = float(np.mean([one.rho for one in fit.labelers if one.rho is not None]))
    assert (rho < 0.82) == (bias == "fatigue")


def test_a_labeler_that_tires_or_looks_at_sides_is_told_from_the_others() -> None:
    """Fatigue lowers the reliability and is no habit; a strong pull of the side is both."""
    tired, sided = Traits(fatigue=0.5), Traits(first=5.0)
    live, policies = polled([Traits()] * 6 + [tired, sided], 400, 4, seed=1)
    fit = fit_board(from_live_votes(live, policies))
    rho = {one.labeler: one.rho for one in fit.labelers}
    habit = {one.labeler: one.habit for one in fit.labelers}
    good = [f"labeler {w}" for w in range(6)]
    assert max(rho["labeler 6"], rho["labeler 7"]) < 0.7 < min(rho[w] for w in good)
    assert habit["labeler 7"] > 3
    assert max(abs(habit[w]) for w in [*good, "labeler 6"]) < 1.5


# What is refused.


def chain(*wins: tuple[int, int], ties: tuple[tuple[int, int], ...] = (), names: str = "abcdef") -> Contests:
    rows = [(a, b, FIRST) for a, b in wins] + [(a, b, TIE) for a, b in ties]
    size = max(max(a, b) for a, b, _ in rows) + 1
    first, second, said = zip(*rows, strict=True)
    return from_arrays(first, second, said, items=names[:size])


def test_an_even_chain_is_refused() -> None:
    with pytest.raises(UserError, match="not scoreable: all-win: a, all-loss: c"):
        fit_board(chain((0, 1), (1, 2), (0, 1), (1, 2)))
    closed = fit_board(chain((0, 1), (1, 2), (2, 0)))  # one more win closes the ring
    assert np.abs(closed.parameters.s).max() < 1e-6
    tied = fit_board(chain((0, 1), ties=((0, 1), (1, 2))))  # as a tie leads both ways
    assert tied.parameters.s[0] > tied.parameters.s[1]


def test_two_components_are_refused() -> None:
    with pytest.raises(UserError, match=r"component: 2 groups .* apart are d, e, f"):
        fit_board(chain((0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)))


def test_one_sided_groups_are_refused() -> None:
    """Everybody wins and loses, but nobody of the second ring ever beat one of the first."""
    with pytest.raises(UserError, match="component: 2 groups, one of which never lost"):
        fit_board(chain((0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3), (0, 3)))


def test_a_vote_of_no_weight_connects_nothing() -> None:
    ring = chain((0, 1), (1, 2), (2, 0))
    with pytest.raises(UserError, match="all-win"):
        fit_board(replace(ring, weight=np.array([1.0, 1.0, 0.0])))


def test_labelers_are_fitted_without_a_board_in_one_piece() -> None:
    """Two answers to each of many prompts: boards of two. Who answers at random is still found out."""
    rng = np.random.default_rng(0)
    tasks, who = np.repeat(np.arange(250), 5), np.tile(np.arange(5), 250)
    first_better = np.where(rng.random(250) < 0.5, FIRST, SECOND)
    said = np.where((who < 4) & (rng.random(1250) < 0.9), first_better[tasks], rng.integers(0, 2, 1250))
    votes = from_arrays(2 * tasks, 2 * tasks + 1, said, who)
    with pytest.raises(UserError, match="component: 250"):
        fit_board(votes)
    rho = [one.rho for one in fit_labelers(votes).labelers]
    assert min(rho[:4]) > 0.8
    assert rho[4] < 0.4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": np.array([1.0, -1.0, 1.0])}, "weights"),
        ({"said": np.array([0, 1, 3])}, "unknown verdict"),
        ({"second": np.array([0, 2, 0])}, "one item"),
        ({"second": np.array([1, 2, 9])}, "unknown item"),
        ({"x": np.full((3, 3), np.nan)}, "covariates"),
        ({"labeler": np.array([0])}, "columns"),
    ],
)
def test_columns_that_make_no_sense_are_refused(change, said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(chain((0, 1), (1, 2), (2, 0)), **change)


# From the store's votes.


def test_ballots_become_contests() -> None:
    """In the order shown: a preference, a tie, "both bad", a doubtful judge, and a ranking of three."""
    texts = {"a": "one two three", "b": "# head\n- point", "c": "one"}
    votes = (
        LiveVote("t1", "ada", ("b", "a"), prefer("a"), 1.0),
        LiveVote("t1", "bob", ("a", "b"), tie(), 1.0),
        LiveVote("t1", "cyd", ("a", "b"), both_bad(), 1.0),
        LiveVote("t1", "judge", ("a", "b"), prefer("a") | {"p": 0.75}, 0.5),
        LiveVote("t1", "old", None, prefer("b"), 1.0),
        LiveVote("t2", "ada", ("c", "b", "a"), ranking([["a"], ["b", "c"]]), 1.0),
    )
    prompts = {"t1": Prompt.user("x"), "t2": Prompt.user("y")}
    completions = {key: Completion(text, id=key) for key, text in texts.items()}
    live = LiveVotes(votes, completions, prompts, {"t1": ("a", "b"), "t2": ("a", "b", "c")})
    found = from_live_votes(live, {key: f"policy {key}" for key in texts})
    rows = zip(found.first, found.second, found.said, found.weight.round(3), found.x[:, 0], strict=True)
    assert [tuple(float(value) for value in row) for row in rows] == [
        (1, 0, SECOND, 1, 1),
        (0, 1, TIE, 1, 1),
        (0, 1, TIE, 1, 1),
        (0, 1, FIRST, 0.375, 1),
        (0, 1, SECOND, 0.125, 1),
        (0, 1, SECOND, 1, 0),
        (1, 0, SECOND, 0.333, 1),
        (2, 0, SECOND, 0.333, 1),
        (2, 1, TIE, 0.333, 1),
    ]
    assert found.x[0, 1:].tolist() == [pytest.approx(math.log(5 / 4)), 1.0]
    assert dict(zip(found.labelers, found.counts().tolist(), strict=True)) == {
        "ada": 2, "bob": 1, "cyd": 1, "judge": 1, "old": 1
    }  # fmt: skip
    same = from_live_votes(live, {"a": "x", "b": "x", "c": "y"})
    assert len(same.first) == 2  # completions of one policy are not set against each other


def test_form_counts_words_and_marked_lines() -> None:
    text = "# Head\n\nplain words here\n- one\n2. two\nwith **bold** or `code`\n2 * 3 - 4"
    assert (form(text).words, form(text).markdown) == (18, pytest.approx(4 / 6))
    assert (form("").words, form("").markdown) == (0, 0.0)


# What it costs.


def test_memory_of_the_intervals_is_that_of_the_votes() -> None:
    """100,000 votes on 25,000 prompts: a few columns beside the 14 MB of the votes, however many are estimated."""
    peaks = []
    for items in (6, 24):
        plan = Planted(votes=100_000, items=items, rho=(0.9,) * 5, q=(0.0,) * 5)
        votes, scores = plan.draw(0)
        at = Parameters(scores, np.full(5, 2.0), np.zeros(5), np.array(plan.gamma), plan.log_nu, plan.tau)
        labelers = tuple(LabelerStanding(name, 0.9, 0.0, 20_000) for name in votes.labelers)
        tracemalloc.start()
        uncertainty(votes, Fit(votes.items, at, labelers, 0.0))  # the truth: no need to search for it
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < 60e6
    assert peaks[1] - peaks[0] < 1e6


def test_slopes_of_votes_are_the_gradient_taken_apart() -> None:
    votes = small(3)
    rng = np.random.default_rng(3)
    theta, direction = rng.normal(size=(2, 6 + 8 + 5))
    pull = objective(theta, replace(votes, weight=votes.weight * 1e-12))[1]  # of the penalty alone
    whole = objective(theta, votes)[1]
    assert slope_along(direction, theta, votes).sum() == pytest.approx(float((pull - whole) @ direction))


def test_intervals_are_as_wide_as_estimates_vary() -> None:
    """30 data sets of one board: neither sqrt(3) too wide nor too narrow, and they cover what was planted."""
    plan = Planted(votes=1_200, items=8, rho=(0.92,) * 10, q=(0.0,) * 10)
    found, errors, truth = [], [], None
    for seed in range(30):
        votes, scores = plan.draw(seed, board=0)
        truth = scores
        fit = fit_board(votes)
        found.append(fit.parameters.s)
        errors.append(uncertainty(votes, fit).errors[:8])
    spread = np.std(found, axis=0)
    assert 0.85 < float(np.mean(errors) / np.mean(spread)) < 1.3
    inside = np.abs(np.array(found) - truth) < 1.96 * np.array(errors)
    assert 0.91 < inside.mean() < 0.99


def test_one_labeler_or_one_prompt_is_no_cluster_to_learn_from() -> None:
    """The other kind of cluster says how far estimates vary, and where there is none the votes by themselves."""
    votes, _ = Planted(votes=400, items=5, rho=(0.9,), q=(0.0,)).draw(0)
    fit = fit_board(votes)
    alone = uncertainty(votes, fit).errors
    together = uncertainty(replace(votes, prompt=np.zeros(400, dtype=np.int64), prompts=1), fit).errors
    by_votes = uncertainty(replace(votes, prompt=np.arange(400), prompts=400), fit).errors
    assert (alone[:5] > 0.05).all()
    np.testing.assert_allclose(together, by_votes, rtol=0.01)


def test_clusters_widen_the_intervals() -> None:
    """Six votes on each of 250 pairs share what is odd about the prompt: they say less than six prompts would."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 250)
    second = (first + rng.integers(1, 5, 250)) % 5
    lead = np.arange(5)[first] / 2 - np.arange(5)[second] / 2 + rng.normal(size=250) * 2
    rows, who = np.repeat(np.arange(250), 6), np.tile(np.arange(6), 250)
    said = np.where(rng.random(1_500) < 1 / (1 + np.exp(-lead[rows])), FIRST, SECOND)
    votes = from_arrays(first[rows], second[rows], said, who, prompt=rows)
    fit = fit_board(votes)
    together = uncertainty(votes, fit).board()
    apart = uncertainty(replace(votes, prompt=np.arange(1_500), prompts=1_500), fit).board()
    assert _width(together) > 1.25 * _width(apart)


def _width(board: list[Place]) -> float:
    return float(np.mean([place.score.high - place.score.low for place in board]))


def test_columns_of_votes_that_do_not_fit() -> None:
    votes = from_arrays([0, 1], [1, 0], [0, 1])
    with tells(
        "columns of [1, 2] votes", where="a fit", expected="the same length", fix="one entry for each"
    ):
        replace(votes, said=votes.said[:1])
    for column, what, expected in (
        ({"x": votes.x[:, :2]}, "covariates of shape (2, 2)", "finite, (votes, 3)"),
        ({"x": votes.x * 2}, "a first covariate that is no constant", "1, or 0"),
        ({"weight": votes.weight * 0}, "weights that votes cannot have", "not all 0"),
        ({"labeler": votes.labeler + 1}, "unknown item or labeler", "indices into the names"),
        ({"second": votes.first}, "a vote on one item", "two items"),
    ):
        with tells(what, where="the votes of a fit", expected=expected, fix="from_live_votes"):
            replace(votes, **column)


def test_a_fit_that_does_not_settle_says_so() -> None:
    """A covariate in other units, a million times as large as the constant."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 200)
    x = np.stack([np.ones(200), rng.normal(size=200) * 1e6, rng.normal(size=200)], axis=1)
    votes = from_arrays(first, (first + 1) % 4, rng.integers(0, 3, 200), x=x)
    with tells(
        "the fit of 200 votes did not settle", where="the fit", expected="slopes", fix="different size"
    ):
        fit_board(votes)
