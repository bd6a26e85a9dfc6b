"""What each update gained and cost, and what was out of bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from concordant.app.report.document import (
    Cell,
    Column,
    Facts,
    Figure,
    Figures,
    Fold,
    Row,
    Section,
    Table,
    Text,
    blocks,
)  # fmt: skip
from concordant.app.report.drawings.canvas import GOLD, MUTED, POLICY, PROXY, SFT
from concordant.app.report.drawings.curves import Line, curves
from concordant.app.report.drawings.forest import forest
from concordant.app.report.lines import anchor, numbers
from concordant.app.report.phrases import NAMES, model_name
from concordant.app.report.sections.behaviours import FAILURES
from concordant.app.report.sections.wins import SERIES, share_cell, share_dot
from concordant.app.report.source import ReportInput
from concordant.monitor.canaries import CANARY, CANARY_LIMIT

STAGES = {**NAMES, "policy": "Policy"}

# key of a step record -> title, how to read it, colour
GAINS = {
    "objective/score": ("Proxy score", "What training maximises: up by construction.", PROXY),
    "objective/gold": ("Gold reward", "The truth. It should rise with the proxy.", GOLD),
    "objective/kl": ("KL to SFT", "Distance travelled, in nats per answer.", POLICY),
    "policy/entropy": (
        "Entropy",
        "How open the choice of words still is; near 0 is collapse.",
        POLICY,
    ),
    "rollout/length": ("Length", "Tokens per answer; a drift may be a bias of the labels.", POLICY),
    "rollout/eos_rate": ("Answers that end", "Share that stops by itself; near 1 is right.", POLICY),
}


HEALTH = {
    "policy/clip_fraction": (
        "Clipped",
        "Share of updates held back; above 0.3 the steps are too big.",
        SFT,
    ),
    "policy/approx_kl": ("Step size", "KL between the policy before and after one update.", SFT),
    "value/explained_variance": (
        "Critic",
        "Explained variance: 1 foresees the reward, 0 guesses.",
        SFT,
    ),
    "objective/kl_coef": ("KL coefficient", "Price of distance; it moves if it is adaptive.", SFT),
}


CANARIES = "Canaries: share of answers that fail; an alarm is twice in a row above the dashed line, or once far above"


FITS = {
    "loss": ("loss", "Falls while it learns."),
    "reward/accuracy": ("accuracy", "Training pairs ranked right."),
}


def section(run: ReportInput) -> Section | None:
    """Curves of the policy, what was out of bounds, and the stages before."""
    gains, health = tuple(_curves(run, GAINS)), tuple(_curves(run, HEALTH))
    fits, noticed = tuple(_fit_curves(run)), notices(run)
    if not (gains or health or fits or noticed or run.probes):
        return None
    lead = Text(
        "What the policy gained with each update, and what it paid. The faint line is every update, the strong one "
        "its running mean, the dot the end."
    )
    probed, canaries = _probes(run), tuple(_canaries(run))
    before: Figures | Fold | None = Figures(fits, small=True) if fits else None
    if before and (gains or health):
        before = Fold("The stages before", (before,))
    found = blocks(
        lead if gains else None,
        Figures(gains, small=True) if gains else None,
        Figures(health, "Health of the updates", small=True) if health else None,
        Figures(canaries, CANARIES, small=True) if canaries else None,
        Figures((probed,)) if probed else None,
        noticed,
        before,
    )
    return Section("training", "Training", "Training", found)


def _curves(run: ReportInput, wanted: Mapping[str, tuple[str, str, str]]) -> Iterator[Figure]:
    """One small drawing per quantity of the policy stage that was recorded and moved."""
    for key, (title, note, colour) in wanted.items():
        points = run.series("policy", key)
        if len(points) < 2 or (key == "objective/kl_coef" and len({value for _, value in points}) == 1):
            continue
        levels = {}
        if key == "objective/gold":
            golds = run.models("gold")
            levels = {model_name(run, m): golds[m].mean for m in ("sft", "ideal") if m in golds}
        lines = [Line(title, points, colour)]
        draw = partial(curves, anchor(f"policy-{key}"), lines, levels=levels, x="update")
        yield Figure(title, note, draw, numbers(lines, "update"))


def _canaries(run: ReportInput) -> Iterator[Figure]:
    """The failures of each canary, and the rate above which two looks in a row are an alarm."""
    for key in run.quantities("policy", CANARY):
        name = key.removeprefix(CANARY)
        fails, alarm = run.series("policy", key), run.series("policy", f"{CANARY_LIMIT}{name}")
        if len(fails) < 2:
            continue
        lines = [Line("fails", fails, POLICY)]
        if len(alarm) > 1:
            lines.append(Line("alarm", alarm, MUTED, dashed=True))
        draw = partial(curves, anchor(f"policy-{key}"), lines, x="update")
        yield Figure(name.capitalize(), FAILURES.get(name, "").capitalize(), draw, numbers(lines, "update"))


def _fit_curves(run: ReportInput) -> Iterator[Figure]:
    """Loss and accuracy of the stages that learn from fixed data."""
    for stage in run.steps:
        for key, (title, note) in FITS.items():
            points = run.series(stage, key)
            if len(points) >= 2 and not (stage == "policy" and run.series("policy", "objective/kl")):
                lines = [Line(title, points, SFT)]
                draw = partial(curves, anchor(f"{stage}-{key}"), lines, x="step")
                yield Figure(f"{STAGES.get(stage, stage)}: {title}", note, draw, numbers(lines, "step"))


def _probes(run: ReportInput) -> Figure | None:
    """How often the policy was preferred, blind, while it trained."""
    known = [(row, dot) for row in run.probes if (dot := share_dot(row)) is not None]
    if not known:
        return None
    dots = [(f"step {row.get('step')}", {"raw": dot}) for row, dot in known]
    rows = (
        Row(
            f"step {row.get('step')}",
            (
                share_cell(row),
                Cell(f"{row.get('n')}"),
                Cell(str(row.get("by"))),
                Cell(str(row.get("why", ""))),
            ),
        )
        for row, _ in known
    )
    heads = tuple(Column(text) for text in ("preferred", "pairs", "by", "why"))
    note = f"Against {model_name(run, run.start)}, in the order of training; the intervals hold at all times."
    draw = partial(forest, "probes", dots, SERIES, "policy preferred", line=0.5, percent=True)
    return Figure("Blind probes", note, draw, Table(heads, tuple(rows)))


def notices(run: ReportInput) -> Facts | None:
    """What the detectors said, in the order in which they said it, each with what was asked and answered."""
    rows = []
    for stage, found in run.notices.items():
        for row in found:
            where = f"{STAGES.get(stage, stage)}, step {row.get('step')}: {row.get('detector')}"
            saw = str(row.get("saw", ""))
            said = f"{saw[:1].upper()}{saw[1:]}. Likely: {row.get('causes', '')}."
            if row.get("done"):
                said += f" Done: {row['done']}."
            shown = (
                f"{one.get('prompt', '')} → {one.get('completion', '')}" for one in row.get("examples", ())
            )
            rows.append((where, "\n".join((said, *shown))))
    return Facts(tuple(rows), "What was out of bounds") if rows else None
