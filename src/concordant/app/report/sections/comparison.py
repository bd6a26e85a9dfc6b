"""One run against another: what differs in the recipe, and what that did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from concordant.app.report.document import Callout, Column, Figure, Figures, Row, Section, Table, Tone, blocks
from concordant.app.report.drawings.canvas import OTHER, POLICY
from concordant.app.report.drawings.curves import Line, frontier
from concordant.app.report.lines import anchor, numbers
from concordant.app.report.phrases import change, error, mean_cell, plain, setting, signed, tone
from concordant.app.report.source import ReportInput, flat
from concordant.evaluation.intervals import Mean

NO_SETTINGS = {"name", "data_root", "machine", "versions", "fingerprints", "track", "compare"}
PLACES = {"feedback.url"}


def differences(run: ReportInput, against: ReportInput) -> list[tuple[str, Any, Any]]:
    """Settings that differ, as (dotted key, here, there); names, places and versions are no settings."""
    here, there = dict(flat(run.recipe)), dict(flat(against.recipe))
    keys = [*here, *(key for key in there if key not in here)]
    return [
        (key, here.get(key), there.get(key))
        for key in keys
        if here.get(key) != there.get(key) and key.split(".")[0] not in NO_SETTINGS and key not in PLACES
    ]


def same_reward_model(run: ReportInput, against: ReportInput) -> bool:
    """Whether nothing that comes before the policy differs, so that scores are on one scale."""
    return all(
        key.split(".")[0] in {"policy", "evaluate", "gate", "monitor"}
        for key, _, _ in differences(run, against)
    )


def section(run: ReportInput) -> Section | None:
    """The run against the one that it was to be compared with."""
    if run.against is None:
        return None
    drawn = tuple(_drawings(run, run.against))
    found = blocks(
        contrast(run, run.against), side_by_side(run, run.against), Figures(drawn) if drawn else None
    )
    return Section("comparison", "Comparison", "Comparison", found)


def contrast(run: ReportInput, against: ReportInput) -> Callout:
    """`run` against `against`, in plain words."""
    changed = differences(run, against)
    title = f"{run.name} against {against.name}"
    if len(changed) == 1:
        key, here, there = changed[0]
        title = f"{key.split('.')[-1]} {setting(here)} against {setting(there)}"
    gold, proxy = (_between(run, against, measure) for measure in ("gold", "score"))
    if not same_reward_model(run, against):
        proxy = None
    side, meaning = _meaning(proxy, gold)
    headline = _contrast_headline(title, proxy, gold)
    return Callout(side, headline, (meaning,), tuple(_notes(run, against)))


def _between(run: ReportInput, against: ReportInput, measure: str) -> Mean | None:
    here, there = run.mean("models", "policy", measure), against.mean("models", "policy", measure)
    return None if here is None or there is None else here.minus(there)


def _went(what: str, difference: Mean) -> str:
    size = plain(abs(difference.mean)) + error(difference)
    if difference.sign == 0:
        return f"the {what} did not measurably change ({change(difference)})"
    return f"the {what} went {'UP' if difference.sign > 0 else 'DOWN'} by {size}"


def _contrast_headline(title: str, proxy: Mean | None, gold: Mean | None) -> str:
    parts = [_went(what, d) for what, d in (("proxy score", proxy), ("gold reward", gold)) if d is not None]
    if not parts:
        return f"{title}: the two runs share no measured quantity."
    joint = " while " if len(parts) == 2 and proxy and gold and proxy.sign != gold.sign else " and "
    return f"{title}: {joint.join(parts)}."


def _meaning(proxy: Mean | None, gold: Mean | None) -> tuple[Tone, str]:
    """Tone and reading of the two differences; the table is complete over their signs."""
    if gold is None:
        return "flat", (
            "Without a gold reward nobody can say from these figures which run answers better. "
            "A higher proxy score is what training aims at, not evidence."
        )
    if proxy is None:
        known = {
            1: "It answers better.",
            -1: "It answers worse.",
            0: "No difference that these prompts can show.",
        }
        return tone(gold), known[
            gold.sign
        ] + " The proxy scores of the two runs come from different reward models."
    return _READINGS[proxy.sign, gold.sign]


_READINGS: dict[tuple[int, int], tuple[Tone, str]] = {
    (1, -1): (
        "down",
        "This is over-optimisation, also called reward hacking: the policy found answers that the reward "
        "model likes and that are worse in truth.",
    ),
    (-1, 1): (
        "up",
        "The other run is over-optimised (reward hacking): its reward model is happier with answers that are "
        "worse in truth. This run gave up score and gained quality.",
    ),
    (1, 1): (
        "up",
        "Better on both: more of the proxy was more of the truth here, no sign of over-optimisation.",
    ),
    (-1, -1): ("down", "Worse on both: less of the proxy was less of the truth here."),
    (0, -1): ("down", "The answers got worse and the reward model does not see it."),
    (0, 1): ("up", "The answers got better and the reward model does not see it."),
    (1, 0): (
        "flat",
        "The extra score bought no quality that these prompts can show. This is how over-optimisation "
        "begins; it is not yet a loss.",
    ),
    (-1, 0): ("flat", "Less score, and no loss of quality that these prompts can show."),
    (0, 0): ("flat", "No difference that these prompts can show. More prompts would narrow the intervals."),
}


def _notes(run: ReportInput, against: ReportInput) -> Iterator[str]:
    changed = differences(run, against)
    if len(changed) > 1:
        shown = [f"{key} {setting(here)} / {setting(there)}" for key, here, there in changed[:6]]
        more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        yield "The recipes differ in " + "; ".join(shown) + more + "."
    if not changed and run.recipe:
        yield "The two recipes are the same."
    if not same_reward_model(run, against):
        yield "The runs differ before the policy stage: their scores are not on one scale and are left out."


def side_by_side(run: ReportInput, against: ReportInput) -> Table | None:
    """The figures of two policies and their difference."""
    rows = tuple(_rows(run, against))
    heads = zip(labels(run, against), ("policy", "other"), strict=True)
    columns = (*(Column(label, model) for label, model in heads), Column("Difference"))
    return Table(columns, rows) if rows else None


FIGURES = (
    (("gold",), "Gold reward", 2),
    (("score",), "Proxy score", 2),
    (("kl",), "KL to SFT, nats", 2),
    (("length",), "Length, tokens", 1),
    (("distinct", "2"), "Distinct word pairs", 2),
    (("distinct", "unique_of_16"), "Unique of 16", 2),
)


def _rows(run: ReportInput, against: ReportInput) -> Iterator[Row]:
    for path, label, digits in FIGURES:
        here, there = (source.mean("models", "policy", *path) for source in (run, against))
        if here is None or there is None or (path == ("score",) and not same_reward_model(run, against)):
            continue
        gap = here.minus(there)
        difference = replace(mean_cell(gap, digits), text=signed(gap.mean, digits))
        yield Row(label, (mean_cell(here, digits), mean_cell(there, digits), difference))


def labels(run: ReportInput, against: ReportInput) -> tuple[str, str]:
    """What to call two runs: the one setting that differs, else their names."""
    changed = differences(run, against)
    if len(changed) != 1:
        return run.name, against.name
    key, here, there = changed[0]
    name = key.split(".")[-1]
    return f"{name} {setting(here)}", f"{name} {setting(there)}"


def _drawings(run: ReportInput, against: ReportInput) -> Iterator[Figure]:
    """Gold and proxy over the distance travelled, both runs in one drawing."""
    wanted = [
        ("objective/gold", "gold reward", "The curve that bends down while its KL grows is the hacked one.")
    ]
    if same_reward_model(run, against):
        note = "The same runs as the reward model sees them. Compare the ends of the two drawings."
        wanted.append(("objective/score", "proxy score", note))
    for key, title, note in wanted:
        found = [
            Line(label, points, colour, dashed)
            for source, label, colour, dashed in zip(
                (run, against), labels(run, against), (POLICY, OTHER), (False, True), strict=True
            )
            if len(points := source.over_kl(key)) >= 2
        ]
        if len(found) == 2:
            yield Figure(
                f"{title.capitalize()} against distance",
                note,
                partial(frontier, anchor(f"contrast-{key}"), found, title),
                numbers(found, "KL"),
            )
