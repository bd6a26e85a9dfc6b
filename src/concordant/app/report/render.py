"""Putting the report together: which sections there are, and the template that lays them out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from concordant import __version__
from concordant.app.report import figures, tables, wording
from concordant.app.report.figures import Line
from concordant.app.report.source import MODELS, Points, ReportInput, number
from concordant.errors import UserError
from concordant.evaluation.best_of_n import fit_gold

SCHEMA = 1

# Characters that hide or reorder what stands beside them: controls, halves of surrogates, direction marks.
_HIDING = [*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0), *range(0xD800, 0xE000)]
_REORDERING = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
SHOWN_AS_MARKS = dict.fromkeys([*_HIDING, *_REORDERING], "\ufffd")

# key of a step record -> title, how to read it, colour
GAINS = {
    "objective/score": ("Proxy score", "What training maximises: up by construction.", figures.PROXY),
    "objective/gold": ("Gold reward", "The truth. It should rise with the proxy.", figures.GOLD),
    "objective/kl": ("KL to SFT", "Distance travelled, in nats per answer.", figures.POLICY),
    "policy/entropy": (
        "Entropy",
        "How open the choice of words still is; near 0 is collapse.",
        figures.POLICY,
    ),
    "rollout/length": ("Length", "Tokens per answer; a drift may be a bias of the labels.", figures.POLICY),
    "rollout/eos_rate": ("Answers that end", "Share that stops by itself; near 1 is right.", figures.POLICY),
}
HEALTH = {
    "policy/clip_fraction": (
        "Clipped",
        "Share of updates held back; above 0.3 the steps are too big.",
        figures.SFT,
    ),
    "policy/approx_kl": ("Step size", "KL between the policy before and after one update.", figures.SFT),
    "value/explained_variance": (
        "Critic",
        "Explained variance: 1 foresees the reward, 0 guesses.",
        figures.SFT,
    ),
    "objective/kl_coef": ("KL coefficient", "Price of distance; it moves if it is adaptive.", figures.SFT),
}
STAGES = {"base": "Base", "sft": "SFT", "reward": "Reward model", "policy": "Policy"}
FITS = {
    "loss": ("loss", "Falls while it learns."),
    "reward/accuracy": ("accuracy", "Training pairs ranked right."),
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its title and one line on how to read it."""

    title: str
    svg: Markup
    note: str


def render(run: ReportInput, against: ReportInput | None = None) -> str:
    """The report of `run` as one self-contained HTML page, with a comparison if `against` is given.

    Everything that came from a model, a recipe or a data file is escaped, and the page forbids itself any
    script and any request. Raises UserError on results of another schema.
    """
    for source in (run, against):
        if source is not None and source.at("schema") not in (None, SCHEMA):
            raise UserError(
                f"results of schema {source.at('schema')} cannot be read",
                where=f"results.json of the run {source.name}",
                expected=f"schema {SCHEMA}",
                fix="write the report with the version of concordant that made the run",
            )
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_page(run, against)).translate(SHOWN_AS_MARKS)


def _page(run: ReportInput, against: ReportInput | None) -> dict[str, Any]:
    """Everything the template needs; a part that the run lacks is empty."""
    measure, ladder = tables.ladder(run)
    columns, rows = tables.details(run)
    return {
        "run": run,
        "version": __version__,
        "verdict": wording.verdict(run),
        "released": wording.released(run),
        "contrast": wording.contrast(run, against) if against else None,
        "against": against,
        "contrast_rows": tables.side_by_side(run, against) if against else [],
        "contrast_labels": _labels(run, against) if against else ("", ""),
        "contrast_drawings": list(_contrast_drawings(run, against)) if against else [],
        "measure": measure,
        "ladder": ladder,
        "wins": tables.wins(run),
        "columns": columns,
        "rows": rows,
        "groups": list(_groups(run)),
        "gains": list(_curves(run, GAINS)),
        "health": list(_curves(run, HEALTH)),
        "fits": list(_fit_curves(run)),
        "notices": tables.notices(run, STAGES),
        "best_of_n": _best_of_n(run),
        "reward_model": wording.reward_model(run),
        "reward_drawings": list(_reward_drawings(run)),
        "reward_figures": tables.reward_figures(run),
        "samples": tables.samples(run),
        "stages": tables.stages(run),
        "facts": tables.facts(run),
        "feedback": tables.feedback(run),
        "recipe": tables.recipe(run),
        "command": run.at("command") or f"concordant run runs/{run.name}/recipe.toml",
    }


def _groups(run: ReportInput) -> Iterator[Drawing]:
    """Gold by family and by split."""
    names = {model: wording.model_name(run, model) for model in MODELS}
    for key, title, labels in (
        ("gold_by_family", "By kind of question", {}),
        ("gold_by_split", "By distance from the training data", wording.SPLITS),
    ):
        found = dict.fromkeys(name for model in MODELS for name in run.table("models", model, key))
        rows = {labels.get(name, name): run.models(key, name) for name in found}
        rows = {name: means for name, means in rows.items() if means}
        if rows:
            svg = figures.forest(key, rows, names, "gold reward")
            yield Drawing(title, Markup(svg), "Farther right is better. The pale band is the 95 % interval.")


def _curves(run: ReportInput, wanted: dict[str, tuple[str, str, str]]) -> Iterator[Drawing]:
    """One small drawing per quantity of the policy stage that was recorded and moved."""
    for key, (title, note, colour) in wanted.items():
        points = run.series("policy", key)
        if len(points) < 2 or (key == "objective/kl_coef" and len({value for _, value in points}) == 1):
            continue
        levels = {}
        if key == "objective/gold":
            golds = run.models("gold")
            levels = {wording.model_name(run, m): golds[m].mean for m in ("sft", "ideal") if m in golds}
        svg = figures.curves(_id(f"policy-{key}"), [Line(title, points, colour)], levels=levels, x="update")
        yield Drawing(title, Markup(svg), note)


def _fit_curves(run: ReportInput) -> Iterator[Drawing]:
    """Loss and accuracy of the stages that learn from fixed data."""
    for stage in run.steps:
        for key, (title, note) in FITS.items():
            points = run.series(stage, key)
            if len(points) >= 2 and not (stage == "policy" and run.series("policy", "objective/kl")):
                line = Line(title, points, figures.SFT)
                svg = figures.curves(_id(f"{stage}-{key}"), [line], x="step")
                yield Drawing(f"{STAGES.get(stage, stage)}: {title}", Markup(svg), note)


def _best_of_n(run: ReportInput) -> tuple[str, list[Drawing]] | None:
    rows = run.at("best_of_n") or []
    if len(rows) < 2:
        return None
    note = "Read from left to right: the harder the choice, the more the two curves should agree. "
    fit = fit_gold(rows)
    if fit is not None and fit.d_star is not None:
        note += (
            f"Fit of gold: d ({fit.alpha:.2f} − {fit.beta:.2f} d) with d = √KL, "
            f"which peaks at KL {fit.d_star**2:.1f} nats."
        )
    drawings = [Drawing("Best of n", Markup(figures.best_of_n("best", rows)), note)]
    drawings += _two_ways(run, rows)
    return wording.best_of_n(rows), drawings


def _two_ways(run: ReportInput, rows: Sequence[Mapping[str, Any]]) -> Iterator[Drawing]:
    """Gold over distance for best-of-n and for training, in one drawing."""
    chosen = [(float(row["kl"]), gold) for row in rows if (gold := number(row.get("gold"))) is not None]
    trained = _over_kl(run, "objective/gold")
    if len(chosen) >= 2 and len(trained) >= 2:
        lines = [
            Line("best of n", chosen, figures.GOLD, dashed=True),
            Line(run.algorithm, trained, figures.POLICY),
        ]
        note = (
            "Both move away from SFT to please the reward model. Higher is better, farther left is cheaper. "
            "The ring is the end."
        )
        yield Drawing(
            "Two ways to spend distance", Markup(figures.frontier("ways", lines, "gold reward")), note
        )


def _reward_drawings(run: ReportInput) -> Iterator[Drawing]:
    if rows := run.at("reward_model", "reliability"):
        note = (
            "On the dotted line it is exactly as sure as it should be; below, overconfident. Numbers: pairs."
        )
        yield Drawing("Is it as sure as it is right?", Markup(figures.reliability("reliability", rows)), note)
    if rows := run.at("reward_model", "by_margin"):
        note = "Close calls on the left, clear ones on the right: the bars should climb. Dotted: guessing."
        yield Drawing("Accuracy by score difference", Markup(figures.margins("margins", rows)), note)


def _contrast_drawings(run: ReportInput, against: ReportInput) -> Iterator[Drawing]:
    """Gold and proxy over the distance travelled, both runs in one drawing."""
    wanted = [
        ("objective/gold", "gold reward", "The curve that bends down while its KL grows is the hacked one.")
    ]
    if wording.same_reward_model(run, against):
        note = "The same runs as the reward model sees them. Compare the ends of the two drawings."
        wanted.append(("objective/score", "proxy score", note))
    for key, title, note in wanted:
        lines = []
        pairs = ((run, figures.POLICY, False), (against, figures.OTHER, True))
        for (source, colour, dashed), label in zip(pairs, _labels(run, against), strict=True):
            points = _over_kl(source, key)
            if len(points) >= 2:
                lines.append(Line(label, points, colour, dashed))
        if len(lines) == 2:
            svg = figures.frontier(_id(f"contrast-{key}"), lines, title)
            yield Drawing(f"{title.capitalize()} against distance", Markup(svg), note)


def _labels(run: ReportInput, against: ReportInput) -> tuple[str, str]:
    """What to call two runs: the one setting that differs, else their names."""
    changed = wording.differences(run, against)
    if len(changed) != 1:
        return run.name, against.name
    key, here, there = changed[0]
    name = key.split(".")[-1]
    return f"{name} {wording.setting(here)}", f"{name} {wording.setting(there)}"


def _over_kl(run: ReportInput, key: str) -> Points:
    """(KL, value) of the updates where both were measured."""
    kl = dict(run.series("policy", "objective/kl"))
    return [(kl[step], value) for step, value in run.series("policy", key) if step in kl]


def _id(text: str) -> str:
    """A word that may stand in an id attribute."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())
