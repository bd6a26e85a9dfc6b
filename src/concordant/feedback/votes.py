"""What is shown to a labeler and what comes back. Payloads hold completion ids, never left and right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError

Payload = Mapping[str, Any]

_KEYS = {
    "pairwise": {
        "type",
        "verdict",
        "winner",
        "strength",
        "reasons",
        "rationale",
        "dims",
        "p",
        "margin",
        "weight",
    },
    "ranking": {"type", "tiers", "unacceptable", "rationale"},
    "rating": {"type", "scores", "weight", "rationale"},
    "edit": {"type", "parent", "accept", "text", "completion", "rationale"},
    "skip": {"type", "reason"},
    "flag": {"type", "reason"},
}
VERDICT_TYPES = ("pairwise", "ranking", "rating", "edit")  # what a task counts as done; a skip is not
COMPARED = ("pairwise", "ranking", "rating")  # kinds of tasks that a labeler of any kind can answer
ANSWERED_BY = {"demonstration": "edit"}  # the type of vote that answers a kind of task, where names differ
MAX_STRENGTH = 3
WORST, BEST = 1, 7  # the scale of ratings


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question to a labeler: completions in the order shown, text only."""

    task_id: str
    prompt: Prompt
    completions: tuple[Completion, ...]
    kind: str = "pairwise"


@dataclass(frozen=True, slots=True)
class Vote:
    """An answer to a comparison. `client` is for diagnostics; no training view reads it."""

    task_id: str
    payload: Payload
    pass_index: int = 0  # a judge votes once per order or sample
    shown: tuple[str, ...] | None = None  # None: as the lease says
    active_ms: int | None = None
    wall_ms: int | None = None
    client: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one labeler to answer one comparison until `expires` (UTC ms)."""

    token: str
    comparison: Comparison
    expires: int
    rubric: Mapping[str, Any] = field(default_factory=dict)  # the question, and the dimensions it is about


@dataclass(frozen=True, slots=True)
class Submission:
    """A vote handed in under a lease; the same `key` handed in again is recognised and adds nothing."""

    token: str
    key: str
    vote: Vote


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a vote is kept."""

    vote_id: str
    task_id: str
    repeated: bool = False  # this key was known: nothing was added
    extra: bool = False  # came after the lease ran out, when the task had enough votes


def prefer(winner: str, *, strength: int = 0) -> dict[str, Any]:
    """`winner` is better; strength 0 (not said, or barely) to 3 (much better)."""
    return {"type": "pairwise", "verdict": "prefer", "winner": winner, "strength": strength}


def tie() -> dict[str, Any]:
    """Both are equally good."""
    return {"type": "pairwise", "verdict": "tie", "winner": None, "strength": 0}


def both_bad() -> dict[str, Any]:
    """Neither will do."""
    return {"type": "pairwise", "verdict": "both_bad", "winner": None, "strength": 0}


def ranking(tiers: Sequence[Sequence[str]], unacceptable: Sequence[str] = ()) -> dict[str, Any]:
    """Completions from best to worst; those in one tier are equally good."""
    return {"type": "ranking", "tiers": [list(tier) for tier in tiers], "unacceptable": list(unacceptable)}


def rating(scores: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Completions by themselves, each from 1 to 7 by one or several dimensions; "overall" sums them up."""
    return {"type": "rating", "scores": {key: dict(given) for key, given in scores.items()}}


def edit(parent: str | None, text: str) -> dict[str, Any]:
    """A text that is better than `parent`, or, without a parent, an answer of one's own.

    The store keeps the text as a completion and the vote names it: {"completion": id} in place of the text.
    """
    return {"type": "edit", "parent": parent, "accept": False, "text": text}


def accept(parent: str) -> dict[str, Any]:
    """`parent` is good as it is: there is nothing to edit."""
    return {"type": "edit", "parent": parent, "accept": True}


def skip(reason: str) -> dict[str, Any]:
    """No verdict from this labeler; the task stays open for others."""
    return {"type": "skip", "reason": reason}


def flag(reason: str) -> dict[str, Any]:
    """Something is wrong with the task itself."""
    return {"type": "flag", "reason": reason}


MEND_VOTE = "mend what made this vote; it was not kept"


def _unfit(what: str, where: str, expected: str) -> UserError:
    return UserError(what, where=where, expected=expected, fix=MEND_VOTE)


def no_text(where: str) -> UserError:
    """The error for an edit that neither brings a text nor accepts what was there."""
    return UserError(
        "an edit without a text", where=where, expected="the text, or accept", fix="write one, or accept"
    )


def check_payload(payload: Payload, kind: str, completions: Sequence[str], where: str) -> None:
    """Raise UserError unless `payload` answers a task of this kind with these completions."""
    if not isinstance(payload, Mapping):
        raise _unfit(f"a vote that is a {type(payload).__name__}", where, "an object")
    said, wanted = payload.get("type"), ANSWERED_BY.get(kind, kind)
    if said not in (wanted, "skip", "flag") or said not in _KEYS:
        raise _unfit(f"a vote of type {said!r}", where, f"{wanted}, skip or flag")
    unknown = sorted(set(payload) - _KEYS[said])
    if unknown:
        raise _unfit(f"unknown key {unknown[0]!r} in a vote", where, ", ".join(sorted(_KEYS[said])))
    try:
        _check_numbers(payload, where)
        if (check := _CHECKS.get(said)) is not None:
            check(payload, completions, where)
    except (TypeError, AttributeError) as error:  # a list where names were expected, and the like
        raise _unfit(
            f"a {said} vote of a strange form ({error})", where, ", ".join(sorted(_KEYS[said]))
        ) from None


def _check_numbers(payload: Payload, where: str) -> None:
    for name in ("p", "margin", "weight"):
        value = payload.get(name, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _unfit(f"a vote with {name} {value!r}", where, "a finite number")
    if payload.get("weight", 1.0) < 0:
        raise _unfit(f"a vote of weight {payload['weight']!r}", where, "0 or more")


def _check_pairwise(payload: Payload, completions: Sequence[str], where: str) -> None:
    verdict, winner = payload.get("verdict"), payload.get("winner")
    if verdict not in ("prefer", "tie", "both_bad"):
        raise _unfit(f"a vote with verdict {verdict!r}", where, "prefer, tie or both_bad")
    if (verdict == "prefer") != (winner is not None) or (winner is not None and winner not in completions):
        raise _unfit(
            f"a vote with winner {winner!r} and verdict {verdict!r}",
            where,
            f"one of {', '.join(completions)} with prefer, none otherwise",
        )
    if payload.get("strength", 0) not in range(MAX_STRENGTH + 1):
        raise _unfit(f"a vote of strength {payload['strength']!r}", where, f"0 to {MAX_STRENGTH}")
    if not 0.5 <= payload.get("p", 1.0) <= 1:
        raise _unfit(f"a vote with p {payload['p']!r}", where, "0.5 to 1, how sure the winner is")
    for name, lean in payload.get("dims", {}).items():
        if isinstance(lean, bool) or lean not in range(-MAX_STRENGTH, MAX_STRENGTH + 1):
            raise _unfit(
                f"a vote with {lean!r} for {name}", where, f"-{MAX_STRENGTH} to {MAX_STRENGTH}, whole"
            )


def _check_ranking(payload: Payload, completions: Sequence[str], where: str) -> None:
    ranked = [completion for tier in payload.get("tiers", ()) for completion in tier]
    if sorted(ranked) != sorted(completions):
        raise _unfit("a ranking that is not of the completions shown", where, "each of them once")
    strange = set(payload.get("unacceptable", ())) - set(completions)
    if strange:
        raise _unfit(f"a ranking with unacceptable {sorted(strange)}", where, "completions of this task")


def _check_rating(payload: Payload, completions: Sequence[str], where: str) -> None:
    scores = payload.get("scores", {})
    if sorted(scores) != sorted(completions) or not all(scores.values()):
        raise _unfit("a rating that is not of the completions shown", where, "each of them")
    for given in scores.values():
        for dimension, score in given.items():
            if isinstance(score, bool) or not isinstance(score, int | float) or not WORST <= score <= BEST:
                raise _unfit(f"a rating of {score!r} for {dimension}", where, f"{WORST} to {BEST}")


def _check_edit(payload: Payload, completions: Sequence[str], where: str) -> None:
    parent, accepted = payload.get("parent"), payload.get("accept", False)
    if parent not in (completions or (None,)) or (accepted and parent is None):
        expected = f"one of {', '.join(completions)}" if completions else "no parent, as nothing was shown"
        raise _unfit(f"an edit of {parent!r}", where, expected)
    texts = [payload[key] for key in ("text", "completion") if payload.get(key) is not None]
    if accepted and texts:
        raise _unfit("an edit that keeps the answer and has a text", where, "one of the two")
    if not accepted and not (len(texts) == 1 and isinstance(texts[0], str) and texts[0].strip()):
        raise no_text(where)


_CHECKS = {
    "pairwise": _check_pairwise,
    "ranking": _check_ranking,
    "rating": _check_rating,
    "edit": _check_edit,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one vote says about two completions; `p` is how probable it is that `better` is better."""

    better: str
    worse: str
    p: float = 1.0
    margin: float = 0.0
    weight: float = 1.0

    @property
    def decided(self) -> bool:
        """Whether a side was taken."""
        return self.p != 0.5


def verdicts(payload: Payload, completions: Sequence[str]) -> Iterator[Verdict]:
    """The pairs of what was shown that a vote speaks about, best first; of a tie the smaller id stands first.

    The weights of one vote sum to at most 1: each of the K(K-1)/2 pairs of a ranking has 2/(K(K-1)). A rating
    of several completions ranks them by what it says overall.
    `margin` is the strength as 0, 1/3, 2/3, 1 (Llama 2, arXiv:2307.09288) unless the vote has its own.
    """
    if payload["type"] == "pairwise":
        first, second = sorted(completions)
        weight = payload.get("weight", 1.0)
        if payload["verdict"] == "prefer":
            winner = payload["winner"]
            margin = payload.get("margin", payload.get("strength", 0) / MAX_STRENGTH)
            yield Verdict(winner, second if winner == first else first, payload.get("p", 1.0), margin, weight)
        elif payload["verdict"] == "tie":
            yield Verdict(first, second, 0.5, weight=weight)
    elif payload["type"] == "ranking":
        yield from _across(payload["tiers"], 1.0)
    elif payload["type"] == "rating" and len(payload["scores"]) > 1:
        yield from _across(_rated_tiers(payload["scores"]), payload.get("weight", 1.0))


def revision(payload: Payload) -> Verdict | None:
    """What an edit says: the new text is better than the one it began from; None for anything else.

    Nobody compared the two but their author, so this is no verdict that agreement could be counted on.
    """
    if payload["type"] != "edit" or payload.get("accept") or payload.get("parent") is None:
        return None
    return Verdict(payload["completion"], payload["parent"])


def endorsed(payload: Payload) -> str | None:
    """The completion an edit puts up as the answer to give: the new text, or the old one as it is."""
    if payload["type"] != "edit":
        return None
    return str(payload["parent"] if payload.get("accept") else payload["completion"])


def _across(tiers: Sequence[Sequence[str]], weight: float) -> Iterator[Verdict]:
    k = sum(map(len, tiers))
    share = weight * 2 / (k * (k - 1))
    for rank, tier in enumerate(tiers):
        yield from (Verdict(a, b, 0.5, weight=share) for a, b in combinations(sorted(tier), 2))
        below = [completion for lower in tiers[rank + 1 :] for completion in lower]
        yield from (Verdict(better, worse, weight=share) for better in tier for worse in below)


def _rated_tiers(scores: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Completions rated together, from the best to the worst; equally rated ones in one tier."""
    overall = {key: _overall(given) for key, given in scores.items()}
    return [
        [key for key in overall if overall[key] == score]
        for score in sorted(set(overall.values()), reverse=True)
    ]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one vote says about a completion by itself."""

    completion: str
    desirable: bool
    weight: float = 1.0


def opinions(payload: Payload, completions: Sequence[str], threshold: float) -> Iterator[Opinion]:
    """The completions a vote calls good or bad, as KTO reads them.

    A rating is good from `threshold` on; without "overall" the mean of its dimensions counts. A decided pair
    says good of one side and bad of the other, and so does an edit. What is unacceptable, as both are in "both
    bad", is bad however it was ranked: it has one opinion, of the weight 2/K of all pairs in which a ranking of K
    sets it.
    """
    if payload["type"] == "rating":
        for key in completions:
            score = _overall(payload["scores"][key])
            yield Opinion(key, score >= threshold, payload.get("weight", 1.0))
        return
    if (good := endorsed(payload)) is not None:
        yield Opinion(good, True)
        if (revised := revision(payload)) is not None:
            yield Opinion(revised.worse, False)
        return
    bad = refused(payload, completions)
    weight = payload.get("weight", 1.0) * 2 / len(completions)
    yield from (Opinion(key, False, weight) for key in completions if key in bad)
    for said in verdicts(payload, completions):
        sides = ((said.better, True), (said.worse, False)) if said.decided else ()
        yield from (Opinion(key, good, said.weight) for key, good in sides if key not in bad)


def refused(payload: Payload, completions: Sequence[str]) -> Sequence[str]:
    """The completions that a vote says will not do."""
    both_bad = payload.get("verdict") == "both_bad"
    return completions if both_bad else list(payload.get("unacceptable", ()))


def named_in(payload: Payload) -> Iterator[str]:
    """The dimensions a payload speaks of, "overall" aside, which sums them up."""
    yield from payload.get("dims", ())
    for given in payload.get("scores", {}).values():
        yield from (name for name in given if name != "overall")


def dimension_payload(payload: Payload, name: str, completions: Sequence[str]) -> Payload | None:
    """What a vote says of one dimension, as a vote on nothing else; None where it says nothing of it.

    `dims` of a pair lean to the completion with the smaller id where they are positive.
    """
    if payload["type"] == "rating":
        scores = {key: {"overall": given[name]} for key, given in payload["scores"].items() if name in given}
        return rating(scores) if len(scores) == len(completions) else None
    if name not in payload.get("dims", {}):
        return None
    lean, (first, second) = payload["dims"][name], sorted(completions)
    return tie() if lean == 0 else prefer(first if lean > 0 else second, strength=abs(lean))


def _overall(given: Mapping[str, float]) -> float:
    return given["overall"] if "overall" in given else sum(given.values()) / len(given)
