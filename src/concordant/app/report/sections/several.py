"""Several runs on one page: what differs in their recipes, their figures side by side, who beats whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from concordant.app.report.document import (
    Callout,
    Cell,
    Column,
    Figure,
    Figures,
    Notes,
    Row,
    Section,
    Table,
    Text,
    blocks,
)  # fmt: skip
from concordant.app.report.drawings.canvas import BASE, GOLD, OTHER, POLICY, PROXY, SFT
from concordant.app.report.drawings.curves import Line, frontier
from concordant.app.report.drawings.forest import Dot, Series, forest
from concordant.app.report.lines import anchor, numbers
from concordant.app.report.phrases import change, listed, mean_cell, plain, rate_cell, setting
from concordant.app.report.sections.comparison import FIGURES, contrast, differences, same_reward_model
from concordant.app.report.sections.wins import SERIES, share_cell, share_dot
from concordant.app.report.source import ReportInput, flat, number
from concordant.errors import UserError
from concordant.evaluation.intervals import Mean

Runs = Sequence[ReportInput]

COLOURS = (POLICY, OTHER, PROXY, GOLD, SFT, BASE)
ALIKE = ("evaluate.prompts", "evaluate.temperature", "evaluate.completion")


def refuse_unlike(runs: Runs) -> None:
    """Raise UserError where figures of the runs do not mean the same: other prompts, or another way of sampling."""
    first = runs[0]
    for other in runs[1:]:
        why = unlike(first, other)
        if not why:
            continue
        raise UserError(
            f"these runs were not measured alike: {why}",
            where=f"{first.name} and {other.name}",
            expected="the same prompts, answered with the same settings of [evaluate]",
            fix="run both with the same seed, data and [evaluate], or report on each by itself",
        )


def unlike(run: ReportInput, other: ReportInput) -> str:
    """Why figures of two runs do not mean the same; empty where they do."""
    differing = [key for key, _, _ in differences(run, other) if key in ALIKE]
    if differing:
        return ", ".join(differing)
    return "" if _prompts(run) == _prompts(other) else "they answered other prompts"


def _prompts(run: ReportInput) -> list[Any]:
    """What was asked, draw by draw."""
    found = {int(row["draw"]): row.get("prompt_id") for row in run.answers}
    return [found[draw] for draw in sorted(found)]


def comparable(runs: Runs) -> bool:
    """Whether anything decides between all of them: gold, or one and the same reward model."""
    return all(run.has_gold for run in runs) or all(same_reward_model(runs[0], run) for run in runs[1:])


def headline(runs: Runs) -> Callout:
    """Which policy is best, and whether that is more than chance; of two runs, one against the other."""
    if len(runs) == 2:
        return contrast(*runs)
    measure = "gold" if comparable(runs) and all(run.has_gold for run in runs) else "score"
    found = [(run.name, mean) for run in runs if (mean := run.mean("models", "policy", measure)) is not None]
    if len(found) < 2 or (measure == "score" and not comparable(runs)):
        return Callout("flat", f"{len(runs)} runs that share no measured quantity.")
    (best, top), *others = sorted(found, key=lambda pair: -pair[1].mean)
    sure = [name for name, mean in others if top.minus(mean).sign > 0]
    said = f"better than {listed(sure)} beyond chance" if sure else "no more than chance above the others"
    return Callout(
        "flat", f"{best} has the highest {measure} of {len(runs)} runs, {plain(top.mean)}: {said}."
    )


def sections(runs: Runs, duels: Mapping[str, Any] | None) -> Iterator[Section]:
    """The page below the headline."""
    yield Section("figures", "Side by side", "Figures", blocks(Text(_LEAD), figures(runs), _paths(runs)))
    if duels is not None and duels.get("win_rates"):
        yield _wins(duels)
    recipes = recipe_table(runs)
    if recipes is not None:
        yield Section("recipes", "What differs in the recipes", "Recipes", (recipes,))
    yield Section("limits", "Limits", "Limits", (Notes(tuple(_limits(runs))),))


_LEAD = "Of the policy of each run, on the same prompts; ± is half of the 95 % interval over them."


def figures(runs: Runs) -> Table:
    """One column for each run."""
    rows = []
    for path, label, digits in FIGURES:
        if path == ("score",) and not all(same_reward_model(runs[0], run) for run in runs[1:]):
            continue
        means = [run.mean("models", "policy", *path) for run in runs]
        if any(means):
            rows.append(
                Row(label, tuple(None if mean is None else mean_cell(mean, digits) for mean in means))
            )
    gains = [_gain(run) for run in runs]
    if any(gains):
        rows.append(Row("Gold gained over SFT", tuple(map(_gained, gains)), "paired by prompt"))
    rates = [run.rate("reward_model", "gold_accuracy") for run in runs]
    if any(rates):
        cells = tuple(None if rate is None else rate_cell(rate) for rate in rates)
        rows.append(Row("Reward model agrees with gold", cells))
    rows += _gates(runs)
    return Table(tuple(Column(run.name) for run in runs), tuple(rows), "policy")


def _gain(run: ReportInput) -> Mean | None:
    return run.mean("gaps", f"policy_minus_{run.start}")


def _gained(mean: Mean | None) -> Cell | None:
    return None if mean is None else Cell(change(mean), "", mean.mean, mean.low, mean.high)


def _gates(runs: Runs) -> Iterator[Row]:
    verdicts = [run.at("gate", "verdict") for run in runs]
    if any(verdicts):
        yield Row("Release gate", tuple(Cell(str(one)) if one else None for one in verdicts))


def _paths(runs: Runs) -> Figures | None:
    """Gold, or the score, of every policy over the distance it travelled."""
    drawn = []
    wanted = {"objective/gold": "gold reward"}
    if all(same_reward_model(runs[0], run) for run in runs[1:]):
        wanted["objective/score"] = "proxy score"
    for key, title in wanted.items():
        found = [
            Line(run.name, points, COLOURS[place % len(COLOURS)], dashed=place >= len(COLOURS))
            for place, run in enumerate(runs)
            if len(points := run.over_kl(key)) >= 2
        ]
        if len(found) >= 2:
            note = "Higher is better, farther left is cheaper; the ring is the end."
            draw = partial(frontier, anchor(f"runs-{key}"), found, title)
            drawn.append(Figure(f"{title.capitalize()} against distance", note, draw, numbers(found, "KL")))
    return Figures(tuple(drawn)) if drawn else None


def _wins(duels: Mapping[str, Any]) -> Section:
    """Win rates between policies of different runs, and between them and what they started from."""
    rows = [row for row in duels["win_rates"] if str(row.get("second", "")).endswith("/policy")]
    dots, lines = [], []
    for row in rows:
        both = {"raw": share_dot(row), "even": share_dot(row.get("length_controlled") or {})}
        marks: dict[str, Dot] = {name: dot for name, dot in both.items() if dot is not None}
        pair = f"{row.get('second')} over {row.get('first')}"
        if "raw" in marks:
            dots.append((f"{row.get('by')}: {pair}", marks))
            n = number(row.get("n"))
            cells = (
                Cell(str(row.get("by"))),
                share_cell(row),
                share_cell(row.get("length_controlled") or {}),
                None if n is None else Cell(f"{n:,.0f}", value=n),
            )
            lines.append(Row(pair, cells))
    series: Mapping[str, Series] = SERIES
    heads = tuple(Column(text) for text in ("decided by", "win rate", "at equal lengths", "prompts"))
    draw = partial(forest, "runs-forest", dots, series, "win rate", line=0.5, percent=True, width=8.4)
    note = "Right of the line the model named first is the better one."
    figure = Figure(
        "Win rates on the prompts that all runs answered", note, draw, Table(heads, tuple(lines), "models")
    )
    return Section("wins", "Who beats whom", "Wins", (Figures((figure,), wide=True),))


def recipe_table(runs: Runs) -> Table | None:
    """Every setting that is not the same in all runs."""
    known = [dict(flat(run.recipe)) for run in runs]
    keys = dict.fromkeys(key for run in runs[1:] for key, _, _ in differences(runs[0], run))
    rows = tuple(Row(key, tuple(Cell(setting(values.get(key))) for values in known)) for key in keys)
    return Table(tuple(Column(run.name) for run in runs), rows, "setting") if rows else None


def _limits(runs: Runs) -> Iterator[str]:
    seeds = {run.at("seed") for run in runs}
    if len(seeds) == 1:
        yield f"All runs have seed {seeds.pop()}: what another seed does is not in any interval here."
    if not all(run.has_gold for run in runs):
        yield "Without a gold reward no figure here says which run answers better: people have to compare them."
    if not all(same_reward_model(runs[0], run) for run in runs[1:]):
        yield "The runs have different reward models: their scores are not on one scale and are left out."
    yield "Intervals are over prompts; figures of different runs are compared as if their answers were independent."
