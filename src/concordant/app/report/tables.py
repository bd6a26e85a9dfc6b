"""Rows of the report's tables: text and bar positions, computed here so that the template only lays out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from concordant.app.report.source import MODELS, ReportInput, number
from concordant.app.report.wording import (
    error,
    flat,
    model_name,
    percent,
    plain,
    same_reward_model,
    setting,
    signed,
)
from concordant.evaluation.intervals import Mean, Rate

SAMPLES = 14
LONGEST_TEXT = 700  # characters of a model text that are shown; the rest is counted
GOLD_PARTS = ("helpful", "honest", "harmless", "concise")


@dataclass(frozen=True)
class Bar:
    """A bar inside a cell; positions in percent of the cell's width."""

    left: float
    width: float
    zero: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Cell:
    """A figure of one model: `text`, its error, and a bar where the scale has a meaning."""

    text: str
    error: str = ""
    bar: Bar | None = None


@dataclass(frozen=True)
class Row:
    """A quantity over the models, or a model over one quantity."""

    key: str
    label: str
    note: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Chip:
    """A gold value with its colour: `tone` from -1 (worst) to 1 (best)."""

    text: str
    tone: float


@dataclass(frozen=True)
class Sample:
    """A prompt with the answers of the models side by side."""

    family: str
    turns: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str, str, Chip | None], ...]  # key, name, text, chip


def bars(means: Mapping[str, Mean]) -> dict[str, Bar]:
    """Bars on one scale that holds zero and every interval."""
    halves = {model: mean.half if math.isfinite(mean.half) else 0.0 for model, mean in means.items()}
    low = min(0.0, *(mean.mean - halves[model] for model, mean in means.items()))
    high = max(0.0, *(mean.mean + halves[model] for model, mean in means.items()))
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / span, 2)

    drawn = {}
    for model, mean in means.items():
        start, end = sorted((place(0.0), place(mean.mean)))
        known = math.isfinite(mean.half)
        ends = (place(mean.low), place(mean.high)) if known else (None, None)
        drawn[model] = Bar(start, round(end - start, 2), place(0.0), *ends)
    return drawn


def ladder(run: ReportInput) -> tuple[str, list[Row]]:
    """Gold of every model, one wide bar each; the reward model's score where there is no gold."""
    measure = "gold" if run.has_gold else "score"
    means = run.models(measure)
    drawn = bars(means) if means else {}
    rows = [
        Row(m, model_name(run, m), ROLES[m], (Cell(plain(mean.mean), error(mean), drawn[m]),))
        for m, mean in means.items()
    ]
    return measure, rows


ROLES = {
    "base": "where the run starts",
    "sft": "has imitated demonstrations",
    "policy": "has learned from preferences",
    "ideal": "the best the world allows",
}


def details(run: ReportInput) -> tuple[list[tuple[str, str]], list[Row]]:
    """Columns (key, name) and rows of everything else that was measured on the models."""
    rows = [row for row in _measured(run) if row is not None]
    shown = [index for index in range(len(MODELS)) if any(row.cells[index] for row in rows)]
    columns = [(MODELS[index], model_name(run, MODELS[index])) for index in shown]
    return columns, [Row(r.key, r.label, r.note, tuple(r.cells[i] for i in shown)) for r in rows]


def _measured(run: ReportInput) -> Iterator[Row | None]:
    for part in GOLD_PARTS:
        yield _row(run, ("gold_parts", part), part.capitalize(), "part of gold", barred=True)
    if run.has_gold:
        yield _row(run, ("score",), "Proxy score", "what the reward model gives", barred=True)
    yield _row(run, ("kl",), "KL", "distance from SFT, nats per answer")
    yield _row(run, ("length",), "Length", "tokens per answer", digits=1)
    yield _row(run, ("distinct", "1"), "Distinct words", "share of words that differ")
    yield _row(run, ("distinct", "2"), "Distinct pairs", "share of word pairs that differ")
    yield _row(
        run, ("distinct", "unique_of_16"), "Unique of 16", "different answers to one prompt", share=True
    )
    yield _ended(run)


def _row(
    run: ReportInput,
    path: tuple[str, ...],
    label: str,
    note: str,
    *,
    digits: int = 2,
    barred: bool = False,
    share: bool = False,
) -> Row | None:
    means = run.models(*path)
    if not means:
        return None
    drawn = bars(means) if barred else {}

    def cell(model: str) -> Cell | None:
        mean = means.get(model)
        if mean is None:
            return None
        if share:
            return Cell(percent(mean.mean))
        return Cell(plain(mean.mean, digits), error(mean, digits), drawn.get(model))

    return Row(".".join(path), label, note, tuple(cell(model) for model in MODELS))


def _ended(run: ReportInput) -> Row | None:
    """Share of answers that end by themselves, with the Wilson interval."""

    def cell(model: str) -> Cell | None:
        rate = run.rate("models", model, "eos_rate")
        if rate is None:
            return None
        return Cell(percent(rate.rate, 1), f" ({plain(100 * rate.low, 1)}–{plain(100 * rate.high, 1)})")

    cells = tuple(cell(model) for model in MODELS)
    return Row("eos", "Ends by itself", "share of answers with an end", cells) if any(cells) else None


def shortened(text: str) -> str:
    """The beginning of a long text, and how much is left out."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} … ({len(text) - LONGEST_TEXT} more characters)"


def samples(run: ReportInput) -> list[Sample]:
    """Up to `SAMPLES` prompts, taken from the families in turn, families kept together."""
    families: dict[str, list[Mapping[str, Any]]] = {}
    for row in run.samples:
        families.setdefault(str(row.get("family") or ""), []).append(row)
    in_turn = [row for row in chain.from_iterable(zip_longest(*families.values())) if row is not None]
    chosen = {id(row) for row in in_turn[:SAMPLES]}
    rows = [row for row in chain.from_iterable(families.values()) if id(row) in chosen]
    worst, best = _gold_range(rows)
    return [_sample(run, row, worst, best) for row in rows]


@dataclass(frozen=True)
class Win:
    """How often one model beats another."""

    by: str
    models: str
    rate: str
    interval: str
    even: str  # at equal lengths; empty where that cannot be told
    even_interval: str
    n: str


def wins(run: ReportInput) -> list[Win]:
    """The win rates of the models, in the order of the results."""
    found = []
    for row in run.at("win_rates") or ():
        rate, even = _share(row), _share(row.get("length_controlled") or {})
        if rate[0]:
            first, second = (model_name(run, str(row.get(side))) for side in ("first", "second"))
            n = number(row.get("n"))
            found.append(
                Win(
                    str(row.get("by")),
                    f"{second} over {first}",
                    *rate,
                    *even,
                    "" if n is None else f"{n:,.0f}",
                )
            )
    return found


def _share(row: Mapping[str, Any]) -> tuple[str, str]:
    """A share and its interval in per cent; both empty where any of it is missing."""
    value, low, high = (number(row.get(key)) for key in ("rate", "low", "high"))
    if value is None or low is None or high is None:
        return "", ""
    return f"{value:.1%}", f"{low:.1%} to {high:.1%}"


@dataclass(frozen=True)
class Noticed:
    """Something that was out of bounds while a stage trained."""

    where: str
    saw: str
    causes: str
    examples: tuple[tuple[str, str], ...]  # what was asked and answered


def notices(run: ReportInput, stages: Mapping[str, str]) -> list[Noticed]:
    """What the detectors said, in the order in which they said it; `stages` has the names of stages for people."""
    return [
        Noticed(
            f"{stages.get(stage, stage)}, step {row.get('step')}: {row.get('detector')}",
            str(row.get("saw", "")),
            str(row.get("causes", "")),
            tuple(
                (str(one.get("prompt", "")), str(one.get("completion", "")))
                for one in row.get("examples", ())
            ),
        )
        for stage, rows in run.notices.items()
        for row in rows
    ]


def _answers(row: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = row.get("answers") or {}
    yield from ((model, found[model]) for model in MODELS if isinstance(found.get(model), Mapping))


def _gold_range(rows: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    golds = [number(answer.get("gold")) for row in rows for _, answer in _answers(row)]
    known = [gold for gold in golds if gold is not None]
    return min(known, default=0.0), max(known, default=0.0)


def _sample(run: ReportInput, row: Mapping[str, Any], worst: float, best: float) -> Sample:
    turns = tuple(
        (str(t.get("role", "")), shortened(str(t.get("content", "")))) for t in row.get("prompt") or ()
    )
    answers = tuple(
        (model, model_name(run, model), shortened(str(answer.get("text", ""))), _chip(answer, worst, best))
        for model, answer in _answers(row)
    )
    return Sample(shortened(str(row.get("family") or "")), turns, answers)


def _chip(answer: Mapping[str, Any], worst: float, best: float) -> Chip | None:
    """Colour: 0 is neutral, the worst and the best gold of the shown answers are the ends."""
    gold = number(answer.get("gold"))
    if gold is None:
        return None
    end = best if gold > 0 else -worst
    return Chip(plain(gold), round(gold / end, 2) if end > 0 else 0.0)


@dataclass(frozen=True)
class Stage:
    """What a stage took. `share` is its part of the whole time, in percent."""

    name: str
    time: str
    share: float
    tokens: str
    speed: str
    parts: str


def duration(seconds: float) -> str:
    """3.2 s, 1 min 40 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(value: float) -> str:
    """1234567 as 1.23 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def stages(run: ReportInput) -> list[Stage]:
    """Time and speed of every stage, in the order of the results."""
    table = run.table("seconds", "stages")
    rows = {name: row if isinstance(row, Mapping) else {"seconds": row} for name, row in table.items()}
    spent = {name: number(row.get("seconds")) or 0.0 for name, row in rows.items()}
    total = sum(spent.values()) or 1.0
    return [
        Stage(
            name,
            duration(spent[name]),
            round(100 * spent[name] / total, 1),
            *_tokens(run, name, row),
            ", ".join(_activities(run, name, row)),
        )
        for name, row in rows.items()
    ]


def _tokens(run: ReportInput, name: str, row: Mapping[str, Any]) -> tuple[str, str]:
    """How many tokens a stage went through, and how many a second."""
    tokens, speed = number(row.get("tokens")), number(row.get("tokens_per_s"))
    if tokens is None:
        activities = run.table("throughput", name)
        tokens = sum(run.number("throughput", name, activity, "tokens") or 0.0 for activity in activities)
        seconds = sum(run.number("throughput", name, activity, "seconds") or 0.0 for activity in activities)
        speed = tokens / seconds if seconds else None
    return count(tokens) if tokens else "–", f"{count(speed)}/s" if tokens and speed else "–"


def _activities(run: ReportInput, name: str, row: Mapping[str, Any]) -> Iterator[str]:
    """Sampling, scoring and training apart, where the stage measured them."""
    for activity in ("sample", "score", "train"):
        seconds = number(row.get(f"{activity}_s")) or run.number("throughput", name, activity, "seconds")
        if seconds:
            yield f"{activity} {duration(seconds)}"


def facts(run: ReportInput) -> list[tuple[str, str]]:
    """Seed, machine, versions: what another person needs to get the same figures."""
    total, memory = run.number("seconds", "total"), run.number("peak_rss_mb")
    rows = [
        ("World", f"{run.at('world')} (embedded, with an exact gold reward)" if run.at("world") else ""),
        ("Seed", "" if run.at("seed") is None else str(run.at("seed"))),
        ("Total time", duration(total) if total is not None else ""),
        ("Peak memory", f"{memory:,.0f} MB" if memory is not None else ""),
        ("Device", str(run.at("device") or run.at("machine") or "")),
        ("Threads", "" if run.at("threads") is None else str(run.at("threads"))),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in run.table("versions").items())
    return [(label, text) for label, text in [*rows, ("Versions", versions)] if text]


def feedback(run: ReportInput) -> list[tuple[str, str]]:
    """Who gave how many votes, and how far they agree."""
    if not run.table("feedback"):
        return []
    votes = run.number("feedback", "votes")
    people = run.at("feedback", "labelers")
    named = people if isinstance(people, list | tuple) else run.at("feedback", "labeler_names") or ()
    rows = [
        ("Votes", f"{votes:,.0f}" if votes is not None else ""),
        ("Labelers", "; ".join(_labeler(person) for person in named)),
        ("First answer chosen", _rate_text(run, "feedback", "first_chosen")),
        ("Longer answer chosen", _rate_text(run, "feedback", "longer_chosen")),
        ("Agreement", _rate_text(run, "feedback", "agreement") or "not measured: no two votes on one pair"),
    ]
    for name in run.table("feedback").get("against_gold") or ():
        rows.append((f"{name}: better by gold", _rate_text(run, "feedback", "against_gold", name)))
    return [(label, text) for label, text in rows if text]


def _labeler(person: Any) -> str:
    if not isinstance(person, Mapping):
        return str(person)
    name = str(person.get("name") or person.get("id") or "labeler")
    extra = ", ".join(f"{key} {value}" for key, value in person.items() if key not in {"name", "id"})
    return f"{name} ({extra})" if extra else name


def reward_figures(run: ReportInput) -> list[tuple[str, str, str, str]]:
    """Label, figure, interval and how to read it, for what is known of the reward model."""
    at = run.table("reward_model")
    chance = number(at.get("chance_log_loss")) or math.log(2)
    ends: Sequence[float] = at.get("accuracy_ci") or ()
    interval = f"{plain(100 * ends[0], 1)}–{plain(100 * ends[1], 1)}" if len(ends) == 2 else ""
    length = run.mean("reward_model", "length_correlation")
    gold, on_policy = (run.rate("reward_model", key) for key in ("gold_accuracy", "on_policy_accuracy"))
    rows = [
        ("Accuracy", _share_at(at, "accuracy"), interval, "on held-out labels; guessing gives 50 %"),
        ("Agrees with gold", *_split_rate(gold), "held-out pairs, compared with the truth"),
        ("Agrees with gold, on-policy", *_split_rate(on_policy), "pairs sampled from the trained policy"),
        ("Log-loss", _plain_at(at, "log_loss", 3), "", f"a coin gives {plain(chance, 3)}"),
        ("Brier", _plain_at(at, "brier", 3), "", "a coin gives 0.250"),
        ("ECE", _plain_at(at, "ece", 3), "", "calibration error; above 0.10 is much"),
        ("Temperature", _plain_at(at, "temperature", 2), "", "above 1 it is overconfident"),
        ("Ties", _share_at(at, "ties"), "", "equal scores, counted as half right"),
        (
            "Length correlation",
            plain(length.mean) if length else "",
            error(length) if length else "",
            "of score and length within a prompt; above 0.5 it pays for length",
        ),
    ]
    return [row for row in rows if row[1]]


def _plain_at(table: Mapping[str, Any], key: str, digits: int) -> str:
    known = number(table.get(key))
    return "" if known is None else plain(known, digits)


def _share_at(table: Mapping[str, Any], key: str) -> str:
    known = number(table.get(key))
    return "" if known is None else percent(known, 1)


def _split_rate(rate: Rate | None) -> tuple[str, str]:
    """A rate, and its interval with n."""
    if rate is None:
        return "", ""
    return percent(rate.rate, 1), f"{plain(100 * rate.low, 1)}–{plain(100 * rate.high, 1)}, n = {rate.n:.0f}"


def _rate_text(run: ReportInput, *path: str) -> str:
    """A rate with its interval and n, in one text."""
    text, interval = _split_rate(run.rate(*path))
    return f"{text} ({interval})" if text else ""


def recipe(run: ReportInput) -> list[tuple[str, str]]:
    """Every value in force, as dotted keys."""
    return [(key, setting(value)) for key, value in flat(run.recipe)]


def side_by_side(run: ReportInput, against: ReportInput) -> list[Row]:
    """The figures of two policies and their difference."""
    rows: list[Row] = []
    listed: Sequence[tuple[tuple[str, ...], str, int]] = (
        (("gold",), "Gold reward", 2),
        (("score",), "Proxy score", 2),
        (("kl",), "KL to SFT, nats", 2),
        (("length",), "Length, tokens", 1),
        (("distinct", "2"), "Distinct word pairs", 2),
        (("distinct", "unique_of_16"), "Unique of 16", 2),
    )
    for path, label, digits in listed:
        here, there = (source.mean("models", "policy", *path) for source in (run, against))
        if here is None or there is None or (path == ("score",) and not same_reward_model(run, against)):
            continue
        gap = here.minus(there)
        cells = [Cell(plain(mean.mean, digits), error(mean, digits)) for mean in (here, there)]
        difference = Cell(signed(gap.mean, digits), error(gap, digits))
        rows.append(Row(".".join(path), label, "", (*cells, difference)))
    return rows
