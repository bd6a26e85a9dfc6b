"""The same prompts, answered before and after, picked in several ways."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from concordant.app.report.document import Browser, Mark, Reply, Sample, Section, Text, View, blocks
from concordant.app.report.phrases import model_name, plain, shortened
from concordant.app.report.source import MODELS, ReportInput, number

ACROSS = 14  # prompts of all kinds of question
PICKED = 20  # prompts of every other view


@dataclass(frozen=True)
class Said:
    """What one model said, and what is known of it."""

    text: str
    gold: float | None
    score: float | None
    length: float | None
    ref_nll: float | None  # nats a token, of the reference


@dataclass(frozen=True)
class Asked:
    """A prompt and what each model said to it, in the order of `MODELS`."""

    id: str
    family: str
    turns: tuple[tuple[str, str], ...]
    said: Mapping[str, Said]


def section(run: ReportInput) -> Section | None:
    """Prompts of all kinds first; then those that tell most about what went wrong."""
    views = tuple(_views(run))
    if not views:
        return None
    families = dict.fromkeys(sample.family for view in views for sample in view.samples)
    chip = " The chip is the gold of an answer, from the worst to the best." if run.has_gold else ""
    lead = Text(f"The same prompts, answered before and after; one answer each.{chip}")
    browser = Browser(views, tuple(family for family in families if family))
    return Section("samples", "Samples", "Samples", blocks(lead, browser))


def _views(run: ReportInput) -> Iterator[View]:
    listed = [_listed(row) for row in run.samples]
    asked = list(answered(run.answers))
    shown = listed or asked
    if not shown:
        return
    scale = _gold_range(shown)
    some = tuple(_sample(run, one, scale) for one in across(shown))
    yield View("across", "Of every kind", "A few prompts of each kind of question.", some)
    if exploited := list(_exploited(run)):
        beside = tuple(_sample(run, one, scale) for one in exploited)
        note = "Where what the score was paid for beside the truth shows most, by feature."
        yield View("exploited", "What was exploited", note, beside)
    for key, title, note, value in _PICKS:
        picked = pick(asked, run.start, value)
        if picked:
            beside = tuple(_sample(run, one, scale, (run.start, "policy")) for one in picked)
            yield View(key, title, note, beside)


def _listed(row: Mapping[str, Any]) -> Asked:
    """From a row of `samples` in the results."""
    found = row.get("answers") or {}
    said = {model: _said(found[model]) for model in MODELS if isinstance(found.get(model), Mapping)}
    return Asked(str(row.get("id") or ""), str(row.get("family") or ""), _turns(row), said)


def answered(rows: Iterable[Mapping[str, Any]]) -> Iterator[Asked]:
    """The prompts of `samples.jsonl`, of the split that is reported first, with what every model said."""
    draws: dict[Any, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        draws.setdefault(row.get("draw"), {})[str(row.get("model"))] = row
    for found in draws.values():
        row = next(iter(found.values()))
        said = {model: _said(found[model]) for model in MODELS if model in found}
        yield Asked(str(row.get("prompt_id") or ""), str(row.get("family") or ""), _turns(row), said)


def _exploited(run: ReportInput) -> Iterator[Asked]:
    """The samples of every feature that was found to be exploited, before and after."""
    shown = run.table("exploits", "samples")
    for one in run.at("exploits", "named") or ():
        for row in shown.get(one.get("feature")) or ():
            sides = ((run.start, row.get("before")), ("policy", row.get("after")))
            said = {model: _said(side) for model, side in sides if isinstance(side, Mapping)}
            yield Asked("", str(one.get("words") or ""), _turns(row), said)


def _turns(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(t.get("role", "")), str(t.get("content", ""))) for t in row.get("prompt") or ())


def _said(row: Mapping[str, Any]) -> Said:
    gold = row.get("gold")
    length, ref_logprob = number(row.get("length")), number(row.get("ref_logprob"))
    return Said(
        str(row.get("text", "")),
        number(gold.get("total") if isinstance(gold, Mapping) else gold),
        number(row.get("score")),
        length,
        -ref_logprob / length if ref_logprob is not None and length else None,
    )


def across(asked: Sequence[Asked]) -> list[Asked]:
    """Up to `ACROSS` prompts, taken from the families in turn, families kept together."""
    families: dict[str, list[Asked]] = {}
    for one in asked:
        families.setdefault(one.family, []).append(one)
    in_turn = [one for one in chain.from_iterable(zip_longest(*families.values())) if one is not None]
    chosen = {id(one) for one in in_turn[:ACROSS]}
    return [one for one in chain.from_iterable(families.values()) if id(one) in chosen]


Value = Callable[[Said, Said], float | None]  # of what was said before and after


def pick(asked: Sequence[Asked], start: str, value: Value | None) -> list[Asked]:
    """The `PICKED` prompts with the largest value, no question with one and the same answer twice.

    Without a `value`: those that the reward model likes most beyond their worth.
    """
    both = [one for one in asked if {start, "policy"} <= one.said.keys()]
    value = value or _beyond([one.said["policy"] for one in both])
    found: dict[tuple[str, str], tuple[float, Asked]] = {}
    for one in both:
        worth = value(one.said[start], one.said["policy"])
        if worth is not None:
            found.setdefault((one.id, one.said["policy"].text), (worth, one))
    ranked = sorted(found.values(), key=lambda pair: -pair[0])
    return [one for _, one in ranked[:PICKED]]


def _beyond(said: Sequence[Said]) -> Value:
    """By how much an answer's score stands higher among all scores than its gold among all golds, in deviations."""
    scores = [one.score for one in said if one.score is not None and one.gold is not None]
    golds = [one.gold for one in said if one.score is not None and one.gold is not None]
    if len(scores) < 2:
        return lambda *_: None
    score_mean, score_sd = statistics.fmean(scores), statistics.stdev(scores) or 1.0
    gold_mean, gold_sd = statistics.fmean(golds), statistics.stdev(golds) or 1.0

    def value(_: Said, after: Said) -> float | None:
        if after.score is None or after.gold is None:
            return None
        return (after.score - score_mean) / score_sd - (after.gold - gold_mean) / gold_sd

    return value


def _lost(before: Said, after: Said) -> float | None:
    """Gold that was lost, of answers that lost any."""
    if before.gold is None or after.gold is None or after.gold >= before.gold:
        return None
    return before.gold - after.gold


def _length(_: Said, after: Said) -> float | None:
    return after.length


def _ref_nll(_: Said, after: Said) -> float | None:
    return after.ref_nll


_PICKS: tuple[tuple[str, str, str, Value | None], ...] = (
    (
        "beyond", "Score against gold",
        "Where the reward model likes the policy's answer most beyond what it is worth: what a hack would look like.",
        None,
    ),
    ("lost", "Got worse", "Where the policy's answer lost most gold against the one before.", _lost),
    ("longest", "Longest", "The policy's longest answers.", _length),
    (
        "strange", "Least like before",
        "The policy's answers that the model before finds least likely, in nats a token.",
        _ref_nll,
    ),
)  # fmt: skip


def _gold_range(asked: Iterable[Asked]) -> tuple[float, float]:
    golds = [said.gold for one in asked for said in one.said.values() if said.gold is not None]
    return min(golds, default=0.0), max(golds, default=0.0)


def _sample(
    run: ReportInput, one: Asked, scale: tuple[float, float], models: Sequence[str] = MODELS
) -> Sample:
    turns = tuple((role, shortened(content)) for role, content in one.turns)
    replies = tuple(
        Reply(model, model_name(run, model), shortened(said.text), tuple(_marks(said, scale)))
        for model, said in one.said.items()
        if model in models
    )
    return Sample(shortened(one.family), turns, replies)


def _marks(said: Said, scale: tuple[float, float]) -> Iterator[Mark]:
    """Gold in colour: 0 is neutral, the worst and the best gold are the ends."""
    if said.gold is not None:
        end = scale[1] if said.gold > 0 else -scale[0]
        tone = max(-1.0, min(1.0, said.gold / end)) if end > 0 else 0.0
        yield Mark("gold", plain(said.gold), round(tone, 2))
    for label, value, digits in (
        ("score", said.score, 2),
        ("tokens", said.length, 0),
        ("nats a token", said.ref_nll, 1),
    ):
        if value is not None:
            yield Mark(label, plain(value, digits))
