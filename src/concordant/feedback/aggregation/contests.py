"""Votes as arrays: who was shown first, who second, who said what, and how the two texts differ in form."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from concordant.errors import UserError
from concordant.feedback.aggregation.connectivity import Connectivity, connectivity
from concordant.feedback.columns import check_columns
from concordant.feedback.reading.live_votes import LiveVote, LiveVotes
from concordant.feedback.votes import Verdict, verdicts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIRST, SECOND, TIE = 0, 1, 2  # what a vote may say
COVARIATES = ("shown first", "log length ratio", "markdown density")


@dataclass(frozen=True)
class Contests:
    """Comparisons of two items each, N rows; a ranking is a row for each of its pairs.

    Item `first` was shown before item `second`. `x` holds what differs in form, first minus second, in the
    order of COVARIATES; x[:, 0] is 1, or 0 where nobody recorded what was shown first. `weight` counts a
    row; rows of one `ballot` (an answer of one labeler to one task) are one vote.
    """

    first: Ints
    second: Ints
    said: Ints  # FIRST, SECOND or TIE
    labeler: Ints
    prompt: Ints
    ballot: Ints
    weight: Floats
    x: Floats  # (N, 3)
    items: tuple[str, ...]
    labelers: tuple[str, ...]
    prompts: int

    def __post_init__(self) -> None:
        sides = (self.first, self.second, self.said, self.labeler, self.prompt)
        check_columns(*sides, self.ballot, self.weight, self.x, of="votes")
        if self.x.shape[1:] != (len(COVARIATES),) or not np.isfinite(self.x).all():
            raise _unfit(f"covariates of shape {self.x.shape}", f"finite, (votes, {len(COVARIATES)})")
        if not np.isin(self.x[:, 0], (0, 1)).all():
            raise _unfit("a first covariate that is no constant", "1, or 0 where the order is not known")
        if (self.weight < 0).any() or not np.isfinite(self.weight).all() or self.weight.sum() <= 0:
            raise _unfit("weights that votes cannot have", "finite, 0 or more, not all 0")
        ranges = ((self.first, self.items), (self.second, self.items), (self.labeler, self.labelers))
        if any(one.min() < 0 or one.max() >= len(names) for one, names in ranges):
            raise _unfit("a vote that names an unknown item or labeler", "indices into the names")
        if (self.first == self.second).any() or not np.isin(self.said, (FIRST, SECOND, TIE)).all():
            raise _unfit("a vote on one item, or with an unknown verdict", "two items; 0, 1 or 2")

    def counts(self) -> Ints:
        """Votes of each labeler (W): live, however many pairs each has."""
        _, rows = np.unique(self.ballot, return_index=True)
        return np.bincount(self.labeler[rows], minlength=len(self.labelers)).astype(np.int64)

    def connectivity(self) -> Connectivity:
        """What the graph of these wins looks like; rows of weight 0 are no votes."""
        voted = self.weight > 0
        won = np.where(self.said == SECOND, self.second, self.first)[voted]
        lost = np.where(self.said == SECOND, self.first, self.second)[voted]
        return connectivity(len(self.items), won, lost, (self.said == TIE)[voted])

    def swapped(self) -> Contests:
        """The same votes had every pair been shown the other way round."""
        turned = np.array([SECOND, FIRST, TIE])[self.said]
        x = self.x * np.array([1.0, -1.0, -1.0])  # whatever is shown first is shown first
        return replace(self, first=self.second, second=self.first, said=turned, x=x)


def _unfit(what: str, expected: str) -> UserError:
    return UserError(
        what, where="the votes of a fit", expected=expected, fix="take from_live_votes, or mend this column"
    )


def from_arrays(
    first: Sequence[int] | Ints,
    second: Sequence[int] | Ints,
    said: Sequence[int] | Ints,
    labeler: Sequence[int] | Ints | None = None,
    *,
    prompt: Sequence[int] | Ints | None = None,
    weight: Sequence[float] | Floats | None = None,
    x: Floats | None = None,
    items: Sequence[str] | None = None,
    labelers: Sequence[str] | None = None,
) -> Contests:
    """Contests from columns of indices, each row a vote of its own.

    Without `labeler` all votes are one labeler's, without `prompt` each has a prompt of its own, without `x`
    the first was shown first and no text is known, without names items and labelers are numbered.
    """
    n = len(first)
    columns = [np.asarray(one, dtype=np.int64) for one in (first, second, said)]
    who = np.zeros(n, dtype=np.int64) if labeler is None else np.asarray(labeler, dtype=np.int64)
    asked = np.arange(n) if prompt is None else np.asarray(prompt, dtype=np.int64)
    return Contests(
        first=columns[0],
        second=columns[1],
        said=columns[2],
        labeler=who,
        prompt=asked,
        ballot=np.arange(n),
        weight=np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64),
        x=np.tile([1.0, 0.0, 0.0], (n, 1)) if x is None else np.asarray(x, dtype=np.float64),
        items=_names(items, max(columns[0].max(initial=-1), columns[1].max(initial=-1))),
        labelers=_names(labelers, who.max(initial=-1)),
        prompts=int(asked.max(initial=-1)) + 1,
    )


def _names(given: Sequence[str] | None, last: int) -> tuple[str, ...]:
    return tuple(map(str, range(int(last) + 1))) if given is None else tuple(given)


@dataclass(frozen=True, slots=True)
class _Row:
    first: str
    second: str
    said: int
    weight: float
    known: bool  # what was shown first


def from_live_votes(live: LiveVotes, item_of: Mapping[str, str]) -> Contests:
    """The live votes as contests between items, such as the policies that made the completions.

    item_of: the item of each completion (id); completions of one item are not set against each other. "Both
    bad" is a tie. A judge's p is two rows weighted p and 1 - p. A ranking of K weighs 1 over all its pairs.
    """
    rows: list[tuple[_Row, str, str, int]] = []
    for index, vote in enumerate(live.votes):
        asked = live.prompts[vote.task_id].id
        for row in _rows(vote, live.members[vote.task_id]):
            if item_of[row.first] != item_of[row.second]:
                rows.append((row, vote.labeler, asked, index))
    items = _numbered(item for row, *_ in rows for item in (item_of[row.first], item_of[row.second]))
    labelers = _numbered(who for _, who, _, _ in rows)
    prompts = _numbered(asked for _, _, asked, _ in rows)
    texts = {key: form(one.text) for key, one in live.completions.items()}
    firsts, seconds = [row.first for row, *_ in rows], [row.second for row, *_ in rows]
    differ = [[row.known, *_differ(texts[row.first], texts[row.second])] for row, *_ in rows]
    return Contests(
        first=_ints([items[item_of[key]] for key in firsts]),
        second=_ints([items[item_of[key]] for key in seconds]),
        said=_ints([row.said for row, *_ in rows]),
        labeler=_ints([labelers[who] for _, who, _, _ in rows]),
        prompt=_ints([prompts[asked] for _, _, asked, _ in rows]),
        ballot=_ballot_of([(who, live.votes[index].task_id) for _, who, _, index in rows]),
        weight=np.array([row.weight for row, *_ in rows], dtype=np.float64),
        x=np.array(differ, dtype=np.float64).reshape(-1, len(COVARIATES)),
        items=tuple(items),
        labelers=tuple(labelers),
        prompts=len(prompts),
    )


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _numbered(names: Iterator[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(names)))}


def _ballot_of(keys: Sequence[tuple[str, str]]) -> Ints:
    """Several passes of one labeler at a task are one ballot."""
    numbers: dict[tuple[str, str], int] = {}
    return _ints([numbers.setdefault(key, len(numbers)) for key in keys])


def _rows(vote: LiveVote, members: Sequence[str]) -> Iterator[_Row]:
    stated = list(verdicts(vote.payload, members))
    if vote.payload.get("verdict") == "both_bad":
        first, second = sorted(members)
        stated = [Verdict(first, second, 0.5, weight=vote.payload.get("weight", 1.0))]
    for one in stated:
        yield from _sided(one, vote)


def _sided(one: Verdict, vote: LiveVote) -> Iterator[_Row]:
    """A verdict as rows in the order shown; in the order of ids where that is not known."""
    pair = sorted((one.better, one.worse), key=vote.shown.index if vote.shown else None)
    first, second = pair
    weight, known = one.weight * vote.weight, vote.shown is not None
    if not one.decided:
        yield _Row(first, second, TIE, weight, known)
        return
    won, lost = (FIRST, SECOND) if one.better == first else (SECOND, FIRST)
    yield _Row(first, second, won, weight * one.p, known)
    if one.p < 1:
        yield _Row(first, second, lost, weight * (1 - one.p), known)


@dataclass(frozen=True, slots=True)
class Form:
    """How a text looks: words, and the share of its lines that carry markdown."""

    words: int
    markdown: float


_MARKED = re.compile(r"^\s*(#{1,6}\s|[-*+]\s|\d+[.)]\s|>|\||```)|\*\*[^*\n]+\*\*|`[^`\n]+`")


def form(text: str) -> Form:
    """Length and markdown of a text; a line counts with a heading, list, quote, table, fence, bold or code."""
    lines = [line for line in text.split("\n") if line.strip()]
    marked = sum(_MARKED.search(line) is not None for line in lines)
    return Form(len(text.split()), marked / len(lines) if lines else 0.0)


def _differ(first: Form, second: Form) -> tuple[float, float]:
    """Log ratio of the lengths (one word added, so that an empty text has one) and difference of the shares."""
    return math.log((first.words + 1) / (second.words + 1)), first.markdown - second.markdown
