"""Crowds whose truth is known: votes drawn from the model, and from simulated labelers with stated defects."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from concordant.data.types import Completion, Prompt
from concordant.feedback.aggregation.contests import Contests, from_arrays
from concordant.feedback.answering.simulated import SimulatedLabeler, Traits
from concordant.feedback.reading.live_votes import LiveVote, LiveVotes
from concordant.feedback.votes import Comparison

Floats = npt.NDArray[np.float64]


def choice(lead: Floats, tie: float) -> Floats:
    """Probabilities of first, second and tie."""
    weights = np.exp(np.stack([lead / 2, -lead / 2, np.full_like(lead, tie)], axis=1))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Planted:
    """A board of normal scores, and labelers who look with probability rho and else follow their habit q."""

    votes: int = 2_000
    items: int = 15
    rho: Sequence[float] = (0.92,) * 14 + (0.08,) * 6
    q: Sequence[float] = (0.0,) * 14 + (3.0,) * 6
    gamma: Sequence[float] = (0.4, 0.5, 0.0)
    log_nu: float = -1.2
    tau: float = -1.5
    last: int = 0  # votes of the last labeler, who otherwise votes as often as the others

    def draw(self, seed: int, board: int | None = None) -> tuple[Contests, Floats]:
        """Votes, and the centred scores behind them; the same scores for the same `board`, where one is given."""
        rng = np.random.default_rng(seed)
        n = self.votes
        scores = (rng if board is None else np.random.default_rng(board)).normal(size=self.items)
        first = rng.integers(0, self.items, n)
        second = (first + rng.integers(1, self.items, n)) % self.items
        who = rng.integers(0, len(self.rho) - bool(self.last), n)
        who[n - self.last :] = len(self.rho) - 1
        x = np.stack([np.ones(n), rng.normal(size=n), rng.normal(size=n)], axis=1)
        looked = choice(scores[first] - scores[second] + x @ np.array(self.gamma), self.log_nu)
        rho = np.array(self.rho)[who][:, None]
        p = rho * looked + (1 - rho) * choice(np.array(self.q)[who], self.tau)
        said = (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1)
        prompt = rng.integers(0, max(n // 4, 1), n)
        names = [f"labeler {w}" for w in range(len(self.rho))]
        items = [f"item {i}" for i in range(self.items)]
        drawn = from_arrays(first, second, said, who, prompt=prompt, x=x, items=items, labelers=names)
        return drawn, scores - scores.mean()


@dataclass(frozen=True)
class Known:
    """A gold score read off the text: "g=0.5 agree pad **pad**"."""

    total: float
    flags: dict[str, Any] = field(default_factory=dict)


def gold(_prompt: Prompt, text: str) -> Known:
    words = text.split()
    return Known(
        float(words[0].removeprefix("g=")), {"agrees_with_claim": "agree" in words, "words": len(words)}
    )


def text_of(quality: float, rng: random.Random) -> str:
    """Gold, length, markdown and agreement drawn independently of one another."""
    claim = rng.choice(("agree", "differ"))
    pads = ["**pad**" if rng.random() < 0.5 else "pad" for _ in range(rng.choice((4, 8, 16)))]
    return "\n".join([f"g={quality + rng.gauss(0, 0.3):.2f}", claim, *pads])


def polled(
    traits: Sequence[Traits], prompts: int, each: int, seed: int = 0
) -> tuple[LiveVotes, dict[str, str]]:
    """`each` of the labelers of these traits on a pair for every prompt; and the policy of each completion."""
    rng = random.Random(seed)
    labelers = [SimulatedLabeler(f"labeler {w}", one, gold, seed) for w, one in enumerate(traits)]
    asked, completions, policies, members, votes = {}, {}, {}, {}, []
    for number in range(prompts):
        task, prompt = f"task {number}", Prompt.user(f"question {number}")
        pair = []
        for policy in rng.sample(range(5), 2):
            one = Completion(text_of(0.4 * policy, rng), id=f"{rng.getrandbits(64):016x}")
            completions[one.id], policies[one.id] = one, f"policy {policy}"
            pair.append(one)
        asked[task], members[task] = prompt, tuple(one.id for one in pair)
        for labeler in rng.sample(labelers, each):
            shown = tuple(rng.sample(pair, 2))
            (vote,) = labeler.label([Comparison(task, prompt, shown)])
            order = tuple(one.id for one in shown)
            votes.append(LiveVote(task, labeler.name, order, vote.payload, 1.0))
    return LiveVotes(tuple(votes), completions, asked, members), policies
