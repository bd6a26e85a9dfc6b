"""How right the reward model is, and how sure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from concordant.app.report.document import (
    Cell,
    Column,
    Figure,
    Figures,
    Row,
    Section,
    Stat,
    Stats,
    Table,
    Text,
    blocks,
)
from concordant.app.report.drawings.reward import margins, reliability
from concordant.app.report.phrases import (
    mean_cell,
    number_cell,
    percent,
    plain,
    rate_cell,
    span,
)
from concordant.app.report.source import ReportInput, number
from concordant.evaluation.intervals import Rate, wilson


def section(run: ReportInput) -> Section | None:
    """Sentences, drawings and single figures."""
    drawn, stats = tuple(_drawings(run)), tuple(figures(run))
    if not (drawn or stats):
        return None
    said = " ".join(sentences(run))
    found = blocks(
        Text(said) if said else None, Figures(drawn) if drawn else None, Stats(stats) if stats else None
    )
    return Section("reward-model", "The reward model", "Reward model", found)


def sentences(run: ReportInput) -> tuple[str, ...]:
    """What the figures of the reward model say."""
    accuracy, n = run.number("reward_model", "accuracy"), run.number("reward_model", "n")
    said = []
    if accuracy is not None:
        interval = run.at("reward_model", "accuracy_ci")
        inside = ""
        if isinstance(interval, list | tuple) and len(interval) == 2:
            inside = f" (95 % interval {percent(interval[0], 1)} to {percent(interval[1], 1)})"
        pairs = f" {n:.0f}" if n else ""
        said.append(
            f"It ranks {percent(accuracy, 1)} of{pairs} held-out pairs as the labelers did{inside}; "
            "guessing gives 50 %."
        )
    loss, chance = run.number("reward_model", "log_loss"), run.number("reward_model", "chance_log_loss")
    if loss is not None:
        chance = math.log(2) if chance is None else chance
        side = "better than" if loss < chance - 0.005 else "no better than"
        said.append(f"Its log-loss is {plain(loss, 3)}, {side} the {plain(chance, 3)} of a coin.")
    on_policy = run.rate("reward_model", "on_policy_accuracy")
    in_distribution = run.rate("reward_model", "gold_accuracy")
    if on_policy is not None and in_distribution is not None:
        weaker, stronger = on_policy.high < in_distribution.low, on_policy.low > in_distribution.high
        advice = (
            "weaker there" if weaker else "better there" if stronger else "not measurably different there"
        )
        said.append(
            f"Against gold it is right on {percent(in_distribution.rate)} of held-out pairs, and on "
            f"{percent(on_policy.rate)} of pairs sampled from the trained policy: its advice is {advice}."
        )
    return tuple(said)


def _drawings(run: ReportInput) -> Iterator[Figure]:
    if rows := run.at("reward_model", "reliability"):
        note = (
            "On the dotted line it is exactly as sure as it should be; below, overconfident. Numbers: pairs."
        )
        columns = (Column("How often that won"),)
        lines = (
            Row(plain(row["predicted"]), (rate_cell(wilson(row["observed"] * row["n"], row["n"])),))
            for row in rows
        )
        yield Figure(
            "Is it as sure as it is right?",
            note,
            partial(reliability, "reliability", rows),
            Table(columns, tuple(lines), "how sure"),
        )
    if rows := run.at("reward_model", "by_margin"):
        note = "Close calls on the left, clear ones on the right: the bars should climb. Dotted: guessing."
        lines = (
            Row(
                f"{plain(row['low'], 1)}–{plain(row['high'], 1)}",
                (rate_cell(wilson(row["accuracy"] * row["n"], row["n"])),),
            )
            for row in rows
        )
        yield Figure(
            "Accuracy by score difference",
            note,
            partial(margins, "margins", rows),
            Table((Column("Accuracy"),), tuple(lines), "difference"),
        )


def figures(run: ReportInput) -> Iterator[Stat]:
    """Single figures, each with how to read it, as far as they are known."""
    at = run.table("reward_model")
    chance = number(at.get("chance_log_loss")) or math.log(2)
    length = run.mean("reward_model", "length_correlation")
    gold, on_policy = (run.rate("reward_model", key) for key in ("gold_accuracy", "on_policy_accuracy"))
    coin = f"a coin gives {plain(chance, 3)}"
    known: tuple[tuple[str, Cell | None, str], ...] = (
        ("Accuracy", _accuracy(run), "on held-out labels; guessing gives 50 %"),
        ("Agrees with gold", _rate(gold), "held-out pairs, compared with the truth"),
        (
            "Agrees with gold, on-policy",
            _rate(on_policy),
            "pairs sampled from the trained policy",
        ),
        ("Log-loss", _number(at, "log_loss", 3), coin),
        ("Brier", _number(at, "brier", 3), "a coin gives 0.250"),
        ("ECE", _number(at, "ece", 3), "calibration error; above 0.10 is much"),
        ("Temperature", _number(at, "temperature", 2), "above 1 it is overconfident"),
        ("Ties", _share(at, "ties"), "equal scores, counted as half right"),
        (
            "Always the longer",
            _accuracy_at(run, "longer_rule"),
            "right so often is who takes the longer answer",
        ),
        (
            "Where length misleads",
            _accuracy_at(run, "by_style", "hard"),
            "the shorter answer is the better one",
        ),
        (
            "Best of four",
            _rate(run.rate("reward_model", "best_of_4")),
            "the labelers' best first; guessing: 25 %",
        ),
        (
            "On its own training pairs",
            _accuracy_at(run, "train"),
            "if far above held-out, it learnt by heart",
        ),
        ("Suspect labels", _rate(run.rate("reward_model", "suspect_labels")), "contradicted by the others"),
        ("Second reward model", _accuracy_at(run, "held_out"), "on votes that neither learnt from"),
        (
            "Length correlation",
            None if length is None else mean_cell(length),
            "of score and length within a prompt; above 0.5 it pays for length",
        ),
    )
    yield from (Stat(label, cell, note) for label, cell, note in known if cell is not None)


def _accuracy(run: ReportInput) -> Cell | None:
    """On held-out labels; in results it stands with its interval and n beside it."""
    value, ends = run.number("reward_model", "accuracy"), run.at("reward_model", "accuracy_ci")
    if value is None:
        return None
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return Cell(percent(value, 1), value=value)
    return Cell(percent(value, 1), span(*ends), value, *ends)


def _accuracy_at(run: ReportInput, *path: str) -> Cell | None:
    """An entry that has its interval and n under names of its own."""
    at = run.table("reward_model", *path)
    value, ends = number(at.get("accuracy")), at.get("accuracy_ci") or ()
    if value is None or len(ends) != 2:
        return None
    return Cell(percent(value, 1), f"{span(*ends)}, n = {at.get('n', 0):,.0f}", value, *ends)


def _rate(rate: Rate | None) -> Cell | None:
    if rate is None:
        return None
    return Cell(
        percent(rate.rate, 1),
        f"{span(rate.low, rate.high)}, n = {rate.n:.0f}",
        rate.rate,
        rate.low,
        rate.high,
    )


def _number(table: Mapping[str, Any], key: str, digits: int) -> Cell | None:
    return number_cell(number(table.get(key)), digits)


def _share(table: Mapping[str, Any], key: str) -> Cell | None:
    known = number(table.get(key))
    return None if known is None else Cell(percent(known, 1), value=known)
