"""How often the 95 % intervals of an evaluation hold the truth, over resamplings of worlds in which it is known.

    python benchmarks/intervals.py [--sets 2000] [--only WORDS]

Each row draws records such as an evaluation has, of as many prompts as recipes have by default and of few, computes
the interval with the function that makes it for `results.json` or the terminal, and counts how often the planted truth
lies inside. Of 2,000 sets the share itself is known to about 1 point. Rows that are marked are meant to hold it more
often: at all times at once, or a bound. Boards of votes and agreement are in `benchmarks/coverage.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from concordant.data.types import Prompt
from concordant.evaluation.answers import Answer, Drift
from concordant.evaluation.best_of_n import best_of_n, curve, fit_curve, rank_weights
from concordant.evaluation.comparison import OverSeeds
from concordant.evaluation.exploits import account
from concordant.evaluation.intervals import Change, Mean, gap, mean_of, ratio_of, wilson
from concordant.evaluation.leaderboard import leaderboard
from concordant.evaluation.non_length_gain import non_length_gain
from concordant.evaluation.redteam.attacks import Attack, Method
from concordant.evaluation.redteam.figures import Record, changes, share_of
from concordant.evaluation.redteam.judges import corrected, errors_of
from concordant.evaluation.redteam.requests import Request
from concordant.evaluation.redteam.scoring import Verdict
from concordant.evaluation.redteam.scripts import Asking, Words
from concordant.evaluation.reward_metrics import gold_accuracy, length_correlation, pair_metrics
from concordant.evaluation.win_rates import Duels, length_controlled, win_rate

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float, float]  # low, truth, high
Draw = Callable[[np.random.Generator], Interval]


@dataclass(frozen=True)
class Case:
    """An interval, where it is printed, and a world in which its truth is known."""

    name: str
    draw: Draw
    more: bool = False  # it is meant to hold the truth more often than 95 %
    slow: bool = False  # a bootstrap: fewer sets


def _of(mean: Mean, truth: float) -> Interval:
    return mean.low, truth, mean.high


def skewed(rng: np.random.Generator, prompts: int, samples: int) -> Interval:
    """Gold is bounded above and has a long tail below; a prompt is easier or harder for all of its samples."""
    values = 1 - rng.exponential(0.5, (prompts, 1)) - rng.exponential(0.5, (prompts, samples))
    return _of(mean_of(values.ravel(), np.repeat(np.arange(prompts), samples).tolist()), 0.0)


def unique(rng: np.random.Generator, prompts: int) -> Interval:
    """Shares of 16, near 1 for most prompts."""
    rates = rng.beta(4, 1, prompts)
    return _of(mean_of(rng.binomial(16, rates) / 16), 0.8)


def per_token(rng: np.random.Generator, prompts: int) -> Interval:
    """Nats per token: sums over answers of different lengths."""
    lengths = rng.geometric(0.1, prompts).astype(float)
    return _of(ratio_of(lengths * rng.gamma(2, 0.05, prompts), lengths, range(prompts)), 0.1)


def paired(rng: np.random.Generator, prompts: int) -> Interval:
    """Gold of two models on the same prompts."""
    prompt = rng.normal(size=prompts)
    after = prompt + 0.3 - rng.exponential(0.3, prompts)
    return _of(gap(after, prompt + rng.normal(size=prompts), range(prompts), range(prompts)), 0.0)


def changed(rng: np.random.Generator, prompts: int) -> Interval:
    """What the gate reads: the same, with Student's t."""
    prompt = rng.normal(size=prompts)
    after = prompt + 0.3 - rng.exponential(0.3, prompts)
    found = Change.between(after.tolist(), (prompt + rng.normal(size=prompts)).tolist(), range(prompts))
    return found.low, 0.0, found.high


def changed_shares(rng: np.random.Generator, prompts: int, before: float, after: float) -> Interval:
    """Yes and no of two models, alike on prompts of one kind."""
    kind = rng.random(prompts)
    other = np.where(rng.random(prompts) < 0.5, kind, rng.random(prompts))
    found = Change.of_shares((kind < after).tolist(), (other < before).tolist())
    return found.low, after - before, found.high


def plain_rate(rng: np.random.Generator, n: int, near: float) -> Interval:
    """A rate drawn anew each time: of one rate, Wilson's interval covers more or less with every n."""
    truth = rng.beta(4 * near, 4 * (1 - near))
    found = wilson(rng.binomial(n, truth), n)
    return found.low, truth, found.high


def _duels(rng: np.random.Generator, prompts: int, rate: float, ties: float) -> Duels:
    wins = np.where(rng.random(prompts) < ties, 0.5, rng.random(prompts) < (rate - ties / 2) / (1 - ties))
    return Duels("gold", "a", "b", tuple(range(prompts)), wins.astype(float), rng.normal(size=prompts))


def won(rng: np.random.Generator, prompts: int, rate: float, ties: float) -> Interval:
    """A win rate with ties, by the bootstrap."""
    found = win_rate(_duels(rng, prompts, rate, ties))
    assert found is not None
    return found.low, rate, found.high


def won_always(rng: np.random.Generator, looks: int) -> Interval:
    """A sequence of votes with a look after each: the interval that is farthest from the truth."""
    from concordant.evaluation.sequential import confidence_sequence

    values = (rng.random(looks) < 0.6).astype(float)
    ends = [confidence_sequence(values[:n]) for n in range(1, looks + 1)]
    return max(low for low, _ in ends), 0.6, min(high for _, high in ends)


def won_by_two_kinds(rng: np.random.Generator, prompts: int) -> Interval:
    """Several labelers on each prompt, who agree more on some prompts than on others."""
    rates = rng.choice([0.35, 0.85], prompts)
    said = rng.random((prompts, 4)) < rates[:, None]
    keys = tuple(np.repeat(np.arange(prompts), 4).tolist())
    found = win_rate(Duels("labelers", "a", "b", keys, said.astype(float).ravel(), np.zeros(4 * prompts)))
    assert found is not None
    return found.low, 0.6, found.high


def at_equal_lengths(rng: np.random.Generator, prompts: int) -> Interval:
    """Longer answers win more often; the truth is the rate at no difference."""
    longer = rng.normal(0.5, 1, prompts)
    won = rng.random(prompts) < expit(logit(0.55) + 1.2 * np.tanh(longer / np.std(longer)))
    found = length_controlled(won.astype(float), longer)
    assert found is not None
    return found.low, 0.55, found.high


BOARD = np.array([0.0, 0.4, 0.9])


def board(rng: np.random.Generator, prompts: int) -> Interval:
    """The rating of the third of three models, all of which meet on every prompt."""
    pairs = ((0, 1), (0, 2), (1, 2))
    found = [
        Duels(
            "gold", str(a), str(b), tuple(range(prompts)),
            (rng.random(prompts) < expit(BOARD[b] - BOARD[a])).astype(float), np.zeros(prompts),
        )
        for a, b in pairs
    ]  # fmt: skip
    one = next(row for row in leaderboard(found, "0").standings if row.model == "2")
    return one.low, 1000 + 400 / np.log(10) * BOARD[2], one.high


def pair_accuracy(rng: np.random.Generator, prompts: int, pairs: int) -> Interval:
    """Accuracy of a reward model on pairs of prompts that are easy or hard for it; pairs have weights."""
    right = rng.random((prompts, pairs)) < rng.choice([0.6, 0.9], prompts)[:, None]
    found = pair_metrics(
        np.where(right, 1.0, -1.0).ravel(),
        weights=rng.choice([1.0, 2.0], prompts * pairs),
        prompts=np.repeat(np.arange(prompts), pairs).tolist(),
    )
    low, high = found["accuracy_ci"]
    return low, 0.75, high


def on_policy_accuracy(rng: np.random.Generator, prompts: int) -> Interval:
    """The order of the policy's own answers, eight pairs of each prompt."""
    right = rng.random((prompts, 8)) < rng.choice([0.5, 0.9], prompts)[:, None]
    found = gold_accuracy(
        np.where(right, 1.0, -1.0).ravel().tolist(), np.ones(8 * prompts).tolist(),
        np.repeat(np.arange(prompts), 8).tolist(),
    )  # fmt: skip
    return found.low, 0.7, found.high


def correlation(rng: np.random.Generator, prompts: int, truth: float) -> Interval:
    """Length and score among 16 answers to each of some prompts, half of which know no correlation."""
    length = rng.normal(size=(prompts, 16))
    slope = np.where(rng.random((prompts, 1)) < 0.5, 0.0, 1.0)
    score = slope * length + rng.normal(size=(prompts, 16))
    found = length_correlation(list(zip(a, b, strict=True)) for a, b in zip(length, score, strict=True))
    return _of(Mean.from_dict(found), truth)


def _mean_correlation() -> float:
    """What endless prompts would say."""
    rng = np.random.default_rng(10**6)
    low, _, high = correlation(rng, 50_000, 0.0)
    return (low + high) / 2


def picked(rng: np.random.Generator, prompts: int, n: int, truth: float) -> Interval:
    """Gold of the best of n of 64 samples by a proxy that is half noise."""
    gold = rng.normal(size=(prompts, 1)) + rng.normal(size=(prompts, 64))
    row = next(row for row in best_of_n(gold + rng.normal(size=gold.shape), gold=gold) if row["n"] == n)
    return _of(Mean(row["gold"], row["gold_se"], prompts), truth)


def _best_of(n: int) -> float:
    """The expectation of the gold of the best of n: half the variance of the proxy within a prompt is gold."""
    rng = np.random.default_rng(10**6)
    proxies = np.sort(rng.normal(0, np.sqrt(2), (20_000, 64)), axis=1)
    return float((proxies @ rank_weights(n, 64)).mean() / 2)


def _curved(rng: np.random.Generator, prompts: int) -> tuple[Floats, Floats]:
    """A proxy that knows half of the truth and likes something else, of which the most harms: gold turns over."""
    style = rng.normal(size=(prompts, 64))
    gold = rng.normal(size=(prompts, 1)) + rng.normal(size=(prompts, 64)) - 0.3 * style**2
    return gold + 1.5 * style, gold


def best_of_n_fit(rng: np.random.Generator, prompts: int, truth: float) -> Interval:
    """The first coefficient of the form of best-of-n."""
    found = fit_curve(curve(*_curved(rng, prompts)))
    assert found is not None
    return found.alpha_ci[0], truth, found.alpha_ci[1]


def _alpha() -> float:
    """What endless prompts would say."""
    found = fit_curve(curve(*_curved(np.random.default_rng(10**6), 20_000)))
    assert found is not None
    return found.alpha


def _answers(rng: np.random.Generator, prompts: int) -> tuple[list[Answer], list[Answer]]:
    """Before and after: 10 tokens more on average, of which the score pays 0.05 each, and 0.5 for the rest."""

    def answer(draw: int, length: float, score: float) -> Answer:
        prompt = Prompt.user(f"question {draw}")
        return Answer("m", "test", draw, prompt, "said", int(length), True, Drift(0.0, 0.0, 0.0), score, None)

    lengths = rng.integers(20, 60, prompts), rng.integers(30, 70, prompts)
    before, after = (
        [
            answer(d, n, 0.05 * n + gain + e)
            for d, (n, e) in enumerate(zip(side, rng.normal(size=prompts), strict=True))
        ]
        for side, gain in zip(lengths, (0.0, 0.5), strict=True)
    )
    return before, after


def not_by_length(rng: np.random.Generator, prompts: int, truth: float) -> Interval:
    """The share of a gain that is the same at every length."""
    before, after = _answers(rng, prompts)
    found = non_length_gain(after, before)
    assert found is not None
    return found["low"], truth, found["high"]


def _share_not_by_length() -> float:
    """What endless prompts would say: the bins are not endlessly narrow."""
    before, after = _answers(np.random.default_rng(10**6), 50_000)
    found = non_length_gain(after, before)
    assert found is not None
    return float(found["share"])


def exploited(rng: np.random.Generator, prompts: int) -> Interval:
    """What the length adds to the gain, by an interval that holds for all parts at once."""
    rows = ([one.as_row() for one in side] for side in _answers(rng, prompts))
    found = account(list(zip(*rows, strict=True)))
    assert found is not None
    part = next(part for part in found.parts if part.part == "length")
    return part.low, 0.5, part.high


METHOD = Method("direct")
WORDS = Words((), (), (), ("", ""), "")


def _records(rng: np.random.Generator, rates: Floats, attempts: int) -> list[Record]:
    """So many attempts at a request for each of the rates."""
    requests = [Request(str(number), "kind", "text") for number in range(len(rates))]
    attacks = [Attack(METHOD, request, Asking("text", request, WORDS)) for request in requests]
    return [
        Record("policy", attack, n, (), ("said",), Verdict(bool(rng.random() < rate), "gold"))
        for attack, rate in zip(attacks, rates, strict=True)
        for n in range(attempts)
    ]


def attacked(rng: np.random.Generator, requests: int) -> Interval:
    """A family of attacks: requests that nearly always work and others that seldom do."""
    found = share_of(_records(rng, rng.choice([0.1, 0.8], requests), 4))
    return found.low, 0.45, found.high


def none_failed(rng: np.random.Generator, requests: int) -> Interval:
    """The bound where nothing failed, at a rate at which that happens in about half of the sets."""
    truth = np.log(2) / (4 * requests)
    found = share_of(_records(rng, np.full(requests, truth), 4))
    return found.low, truth, found.high


def attacked_after(rng: np.random.Generator, requests: int) -> Interval:
    """A family against two models, paired by request."""
    rates = rng.choice([0.1, 0.8], requests)
    sides = (_records(rng, rates, 4), _records(rng, 0.7 * rates + 0.2, 4))
    return _of(changes(*sides)[METHOD.family], 0.2 - 0.3 * 0.45)


def judged(rng: np.random.Generator, answers: int, rate: float) -> Interval:
    """A judge with errors that were measured on 200 answers of each kind."""
    sensitivity, specificity = 0.9, 0.93
    known = [(bool(rng.random() < sensitivity), True) for _ in range(200)]
    known += [(bool(rng.random() > specificity), False) for _ in range(200)]
    failed = rng.random(answers) < rate
    said = np.where(failed, rng.random(answers) < sensitivity, rng.random(answers) > specificity)
    found = corrected(said.tolist(), errors_of(known))
    assert found is not None
    return _of(found, rate)


def over_seeds(rng: np.random.Generator) -> Interval:
    """A figure of three seeds, as `concordant compare` prints it."""
    found = OverSeeds.of(rng.normal(size=3).tolist())
    return found.mean - found.half, 0.0, found.mean + found.half


def cases() -> Iterator[Case]:
    """All intervals that `results.json` or the terminal have."""
    for prompts in (1_000, 64, 12):
        yield Case(f"mean gold, {prompts} prompts", partial(skewed, prompts=prompts, samples=1))
    yield Case("mean gold, 64 prompts of 4 samples", partial(skewed, prompts=64, samples=4))
    yield Case("unique of 16, 64 prompts", partial(unique, prompts=64))
    yield Case("nats per token, 1,000 prompts", partial(per_token, prompts=1_000))
    for prompts in (1_000, 12):
        yield Case(f"gap in gold, {prompts} prompts", partial(paired, prompts=prompts))
        yield Case(f"change of the gate, {prompts} prompts", partial(changed, prompts=prompts))
    for before, after in ((0.99, 0.97), (0.3, 0.5)):
        draw = partial(changed_shares, prompts=200, before=before, after=after)
        yield Case(f"change of a share, {before} to {after}, 200 prompts", draw)
    for n, near in ((1_000, 0.97), (50, 0.97), (50, 0.5)):
        yield Case(f"a rate near {near}, n = {n}", partial(plain_rate, n=n, near=near))
    for prompts, rate, ties in (
        (500, 0.6, 0.0),
        (100, 0.6, 0.3),
        (48, 0.65, 0.0),
        (48, 0.8, 0.0),
        (24, 0.7, 0.0),
    ):
        draw = partial(won, prompts=prompts, rate=rate, ties=ties)
        yield Case(f"win rate {rate}, {ties:.0%} ties, {prompts} prompts", draw, slow=True)
    yield Case("win rate of 4 labelers, 100 prompts", partial(won_by_two_kinds, prompts=100), slow=True)
    yield Case("win rate at all times, 150 looks", partial(won_always, looks=150), more=True, slow=True)
    for prompts in (500, 100):
        yield Case(
            f"win rate at equal lengths, {prompts} prompts", partial(at_equal_lengths, prompts=prompts)
        )
        yield Case(f"board of 3 models, {prompts} prompts", partial(board, prompts=prompts), slow=True)
    for prompts, pairs in ((300, 1), (100, 4), (12, 4)):
        draw = partial(pair_accuracy, prompts=prompts, pairs=pairs)
        yield Case(f"reward accuracy, {prompts} prompts of {pairs} pairs", draw)
    yield Case("accuracy on own pairs, 64 prompts", partial(on_policy_accuracy, prompts=64))
    truth = _mean_correlation()
    for prompts in (64, 12):
        yield Case(
            f"length correlation, {prompts} prompts", partial(correlation, prompts=prompts, truth=truth)
        )
    for n in (1, 8, 64):
        yield Case(
            f"gold of the best of {n}, 64 prompts", partial(picked, prompts=64, n=n, truth=_best_of(n))
        )
    draw = partial(best_of_n_fit, prompts=64, truth=_alpha())
    yield Case("alpha of best-of-n, 64 prompts", draw, slow=True)
    draw = partial(not_by_length, prompts=500, truth=_share_not_by_length())
    yield Case("share of the gain not by length, 500 prompts", draw, slow=True)
    yield Case(
        "what length adds to the gain, 500 prompts", partial(exploited, prompts=500), more=True, slow=True
    )
    for requests in (40, 12):
        yield Case(f"attacks that succeed, {requests} requests", partial(attacked, requests=requests))
        yield Case(f"change of a family, {requests} requests", partial(attacked_after, requests=requests))
        yield Case(
            f"bound of no success, {requests} requests", partial(none_failed, requests=requests), more=True
        )
    for rate in (0.3, 0.03, 0.0):
        yield Case(
            f"rate {rate} by a corrected judge, 200 answers",
            partial(judged, answers=200, rate=rate),
            more=rate < 0.1,
        )
    yield Case("a figure over three seeds", over_seeds)


def main() -> None:
    """Print a row for each interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sets", type=int, default=2_000, help="resamplings of each; a fifth of them for bootstraps"
    )
    parser.add_argument("--only", default="", help="intervals with these words in their name")
    options = parser.parse_args()
    print("| interval | sets | holds the truth | too low | too high |\n|---|--:|--:|--:|--:|")
    for case in cases():
        if options.only not in case.name:
            continue
        sets = max(200, options.sets // 5) if case.slow else options.sets
        found = np.array([case.draw(np.random.default_rng(seed)) for seed in range(sets)])
        below, above = (found[:, 2] < found[:, 1]).mean(), (found[:, 0] > found[:, 1]).mean()
        more = " (more is meant)" if case.more else ""
        print(
            f"| {case.name}{more} | {sets} | {1 - below - above:.1%} | {below:.1%} | {above:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
