"""How often intervals cover what was planted, over simulated crowds: scores of a board, style, ties; and alpha.

    python benchmarks/coverage.py [--sets 200]

A board of 15 items with normal scores; labelers who look 92 % of the time and some who take the first; four votes
on each prompt. "Odd prompts" favour one of their two items by a normal number of standard deviation 1, "tastes"
give every labeler an opinion of each item of its own (0.5). What is to be covered is then not what was planted but
what the fit of endless votes of that crowd would say: it is read off 160,000 votes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from concordant.feedback.aggregation.bradley_terry import fit_board
from concordant.feedback.aggregation.contests import Contests, from_arrays
from concordant.feedback.aggregation.intervals import uncertainty
from concordant.feedback.reading.agreement import clustered_rate, krippendorff_alpha, rate

Floats = npt.NDArray[np.float64]

ITEMS = 15
PER_PROMPT = 4
STYLE, LOG_NU = (0.4, 0.5, 0.0), -1.2
SCORES = np.random.default_rng(7).normal(size=ITEMS)
ENDLESS = 160_000


@dataclass(frozen=True)
class Crowd:
    """Labelers of whom the last `bad` vote by habit, and what their votes share."""

    votes: int = 2_000
    labelers: int = 20
    bad: int = 6
    odd: float = 0.0
    taste: float = 0.0

    def draw(self, seed: int) -> Contests:
        """Votes of this crowd."""
        rng = np.random.default_rng(seed)
        prompts = self.votes // PER_PROMPT
        prompt = np.repeat(np.arange(prompts), PER_PROMPT)
        a = rng.integers(0, ITEMS, prompts)
        b = (a + rng.integers(1, ITEMS, prompts)) % ITEMS
        who = np.concatenate([rng.permutation(self.labelers)[:PER_PROMPT] for _ in range(prompts)])
        turned = rng.random(len(prompt)) < 0.5
        first, second = np.where(turned, b[prompt], a[prompt]), np.where(turned, a[prompt], b[prompt])
        sign = np.where(turned, -1.0, 1.0)
        form = rng.normal(size=(prompts, 2))[prompt] * sign[:, None]
        x = np.column_stack([np.ones(len(prompt)), form])
        taste = rng.normal(size=(self.labelers, ITEMS)) * self.taste
        lead = SCORES[first] - SCORES[second] + x @ np.array(STYLE) + taste[who, first] - taste[who, second]
        lead += rng.normal(size=prompts)[prompt] * self.odd * sign
        good = np.arange(self.labelers) < self.labelers - self.bad
        rho = np.where(good, 0.92, 0.08)[who][:, None]
        p = rho * _choice(lead, LOG_NU) + (1 - rho) * _choice(np.where(good, 0.0, 3.0)[who], -1.5)
        said = (rng.random(len(prompt))[:, None] > p.cumsum(axis=1)).sum(axis=1)
        return from_arrays(first, second, said, who, prompt=prompt, x=x)

    def truth(self) -> Floats:
        """Scores, style and log nu."""
        if not self.odd and not self.taste:
            return np.concatenate([SCORES - SCORES.mean(), STYLE, [LOG_NU]])
        many = 20 if self.taste else 1  # tastes are averaged over
        endless = replace(self, votes=ENDLESS, labelers=self.labelers * many, bad=self.bad * many)
        found = fit_board(endless.draw(10**6)).parameters
        return np.concatenate([found.s, found.gamma, [found.log_nu]])


def _choice(lead: Floats, tie: float) -> Floats:
    weights = np.exp(np.stack([lead / 2, -lead / 2, np.full_like(lead, tie)], axis=1))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


CROWDS: Mapping[str, Crowd] = {
    "independent votes": Crowd(),
    "odd prompts": Crowd(odd=1.0),
    "tastes": Crowd(taste=0.5),
    "odd prompts and tastes": Crowd(odd=1.0, taste=0.5),
    "600 votes": Crowd(votes=600),
    "8 labelers": Crowd(labelers=8, bad=2),
    "8 labelers, tastes": Crowd(labelers=8, bad=2, taste=0.5),
    "5 labelers, tastes": Crowd(labelers=5, bad=0, taste=0.5),
}


def board(sets: int) -> None:
    """A row for each crowd: the share of intervals that cover, and their errors against the spread of estimates."""
    print("| crowd | scores | position | length | markdown | ties | error / spread of scores |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, crowd in CROWDS.items():
        truth, found, errors = crowd.truth(), [], []
        for seed in range(sets):
            votes = crowd.draw(seed)
            fit = fit_board(votes)
            found.append(np.concatenate([fit.parameters.s, fit.parameters.gamma, [fit.parameters.log_nu]]))
            errors.append(uncertainty(votes, fit).errors)
        inside = np.abs(np.array(found) - truth) < student.ppf(0.975, crowd.labelers - 1) * np.array(errors)
        cells = [inside[:, :ITEMS].mean(), *inside[:, ITEMS:].mean(axis=0)]
        ratio = np.mean(errors, axis=0)[:ITEMS].mean() / np.std(found, axis=0)[:ITEMS].mean()
        print(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} | {ratio:.2f} |", flush=True)


def labels(
    rng: np.random.Generator, prompts: int, pairs: int, labelers: int, hard: bool
) -> tuple[Floats, list[int]]:
    """Labels of the pairs of prompts, by labelers who are right 80 % of the time; less on hard prompts."""
    right = np.full(prompts, 0.8)
    if hard:
        right = rng.choice([0.55, 0.95], prompts)
    truth = rng.integers(0, 2, (prompts, pairs, 1))
    wrong = rng.random((prompts, pairs, labelers)) > right[:, None, None]
    return (truth ^ wrong).reshape(-1, labelers).astype(float), np.repeat(np.arange(prompts), pairs).tolist()


def shares(table: Floats, clusters: list[int]) -> tuple[list[float], list[int]]:
    """For every prompt and two labelers, the share of its pairs on which they agree; and the prompts."""
    size = clusters.count(0)
    both = list(combinations(range(table.shape[1]), 2))
    found = np.stack([(table[:, a] == table[:, b]).reshape(-1, size).mean(axis=1) for a, b in both], axis=1)
    return found.ravel().tolist(), np.repeat(np.arange(len(found)), len(both)).tolist()


def agreement(sets: int) -> None:
    """Alpha with its bootstrap over prompts, and raw agreement: share by share, and with prompts as clusters."""
    print("\n| labels | alpha | raw agreement | without clusters |\n|---|--:|--:|--:|")
    for prompts, pairs, labelers, hard in (
        (200, 1, 2, True),
        (200, 1, 3, True),
        (200, 1, 5, True),
        (200, 1, 5, False),
        (200, 6, 3, True),
        (30, 3, 2, True),
    ):
        endless = labels(np.random.default_rng(10**6), 50_000, pairs, labelers, hard)
        alpha = krippendorff_alpha(endless[0], clusters=endless[1], replicates=2).value
        agreed = float(np.mean(shares(*endless)[0]))
        covered = []
        for seed in range(sets):
            table, of = labels(np.random.default_rng(seed), prompts, pairs, labelers, hard)
            one = krippendorff_alpha(table, clusters=of, seed=seed)
            raw, plain = clustered_rate(*shares(table, of)), rate(shares(table, of)[0])
            covered.append(
                (one.low < alpha < one.high, raw.low < agreed < raw.high, plain.low < agreed < plain.high)
            )
        cells = " | ".join(f"{cell:.3f}" for cell in np.mean(covered, axis=0))
        kind = "easy and hard" if hard else "equal"
        print(f"| {prompts} {kind} prompts, {pairs} pairs each, {labelers} labelers | {cells} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200, help="simulated data sets for each crowd")
    sets = parser.parse_args().sets
    board(sets)
    agreement(sets)


if __name__ == "__main__":
    main()
