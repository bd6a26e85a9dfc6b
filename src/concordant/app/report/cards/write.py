"""Writing a card: the sections of the report that bear on one model, and what its reader has to know beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from concordant import __version__
from concordant.app.report.cards.metadata import base_model, metadata
from concordant.app.report.document import Block, Facts, Figures, Notes, Section, Text, blocks
from concordant.app.report.html import SHOWN_AS_MARKS
from concordant.app.report.markdown import escaped, sectioned
from concordant.app.report.phrases import model_name, percent, plain, setting
from concordant.app.report.sections import (
    behaviours,
    capability,
    labels,
    limits,
    made,
    models,
    overoptimisation,
    redteam,
    reward_model,
    wins,
)  # fmt: skip
from concordant.app.report.sections.verdict import caveats, caveats_of_run, released, verdict
from concordant.app.report.source import ReportInput, flat

# Sections of a recipe that made the model of a stage, in order.
MADE_BY: Mapping[str, tuple[str, ...]] = {
    "base": ("model", "pretrain"),
    "sft": ("model", "pretrain", "sft"),
    "reward": ("model", "pretrain", "sft", "feedback", "reward"),
    "policy": ("model", "pretrain", "sft", "feedback", "reward", "policy"),
}


def card(run: ReportInput, stage: str, license_id: str = "") -> str:
    """The card of the model of a stage; what the run does not know is said to be unknown."""
    sections = _of_reward_model(run) if stage == "reward" else _of_policy(run, stage)
    lines = [
        f"# {escaped(run.name)}: {model_name(run, stage)}",
        "",
        f"Made by concordant {__version__}, seed {run.at('seed')}.",
    ]
    for section in (*sections, *_shared(run, stage, license_id)):
        lines += ["", *sectioned(section)]
    text = "\n".join(lines).translate(SHOWN_AS_MARKS).rstrip() + "\n"
    return metadata(run, stage, license_id).translate(SHOWN_AS_MARKS) + "\n" + text


def _of_policy(run: ReportInput, stage: str) -> Iterator[Section]:
    yield Section("summary", "Summary", "", blocks(*_summary(run, stage)))
    yield Section("use", "Intended use", "", (Notes(tuple(_uses(run))),))
    if run.at("models", stage) is None:
        yield Section("evaluation", "Evaluation", "", (Text("This model has not been measured."),))
        return
    evaluated = (models.section(run), wins.section(run), behaviours.section(run), capability.section(run))
    yield from (section for section in evaluated if section is not None)
    attacked = redteam.section(run)
    unknown = Text("No red team has attacked this model: how often it can be made to misbehave is unknown.")
    yield attacked or Section("red-team", "The red team", "", (unknown,))
    if stage == "policy":
        yield Section("over", "Over-optimisation", "", tuple(_over_optimised(run)))


def _summary(run: ReportInput, stage: str) -> Iterator[Block]:
    if stage == "policy":
        said, gate = verdict(run), released(run)
        yield Text(" ".join((said.headline, *said.paragraphs)).strip())
        yield gate or Text("No release gate was stated for this model.")
        return
    base = {
        "sft": "learned from demonstrations, and from no preferences",
        "base": "has learned from no preferences",
    }
    yield Text(f"The model that {base[stage]}; the run compares what comes after with it.")


def _uses(run: ReportInput) -> Iterator[str]:
    if run.at("world"):
        yield (
            f"Intended: studying reinforcement learning from human feedback in the world {run.at('world')}, whose "
            "truth is known. It knows no language beyond that world's."
        )
        yield "Out of scope: everything else. It is a demonstration, not a product."
        return
    yield "Intended: answering prompts like those it was trained and measured on."
    yield (
        "Out of scope: decisions about people, advice where an error does harm, and any use that the evaluation below "
        "does not cover. Nobody has tested it there."
    )


def _over_optimised(run: ReportInput) -> Iterator[Block]:
    """How far the policy went, what is known of the turning point, and whether the price of distance was varied."""
    found = overoptimisation.section(run)
    kl, coefficient = run.mean("models", "policy", "kl"), run.setting("policy", "kl_coef")
    if kl is not None:
        root = max(kl.mean, 0.0) ** 0.5
        yield Text(f"It ended {plain(kl.mean)} nats from the model before, d = √KL = {plain(root)}.")
    if coefficient is not None:
        yield Text(
            f"kl_coef was {setting(coefficient)}; this run alone does not say what another value would do."
        )
    if found is None:
        yield Text("Whether it is over-optimised was not measured.")
        return
    yield from (block for block in found.blocks if not isinstance(block, Figures))


def _of_reward_model(run: ReportInput) -> Iterator[Section]:
    uses = (
        "Intended: scoring two answers to the same prompt against each other, on prompts like those it was trained on.",
        "Out of scope: an absolute measure of quality, comparing answers to different prompts, other prompts.",
        "A policy that was trained on its score is not to be judged by its score.",
    )
    yield Section("use", "Intended use", "", (Notes(uses),))
    found = reward_model.section(run)
    unknown = Text("It has not been measured.")
    yield found or Section("reward-model", "The reward model", "", (unknown,))
    failures = tuple(_failures(run))
    said = Notes(failures) if failures else Text("None was found by the figures above, which look for few.")
    yield Section("failures", "Known failures", "", (said,))


def _failures(run: ReportInput) -> Iterator[str]:
    """What the figures say against it."""
    on_policy, before = (run.rate("reward_model", key) for key in ("on_policy_accuracy", "gold_accuracy"))
    if on_policy is not None and before is not None and on_policy.high < before.low:
        yield (
            f"On answers of the policy it agrees with gold in {percent(on_policy.rate)}, on those of the model before "
            f"in {percent(before.rate)}."
        )
    for row in run.at("health") or ():
        if row.get("beyond") and str(row.get("figure", "")).startswith("reward_model"):
            yield f"{row['figure']} is {plain(row.get('value'))}: {row.get('says')}."
    rows = run.at("best_of_n") or []
    if len(rows) >= 2:
        yield overoptimisation.best_of_n(rows)


def _shared(run: ReportInput, stage: str, license_id: str) -> Iterator[Section]:
    """What every card ends with."""
    yield Section(
        "training",
        "How it was trained",
        "",
        (Facts(tuple(_lineage(run, license_id))), *_settings(run, stage)),
    )
    if stage in ("reward", "policy"):
        given = labels.section(run)
        yield given or Section("labels", "The labels", "", (Text("Who gave the preferences is unknown."),))
    about = caveats(run) if stage == "policy" else caveats_of_run(run)
    yield Section("limits", "Limits", "", (Notes((*about, *limits.limits(run))),))
    yield made.section(run)


def _lineage(run: ReportInput, license_id: str) -> Iterator[tuple[str, str]]:
    path = str(run.setting("model", "path") or "")
    yield "Base model", base_model(run) or (f"a folder, {path}" if path else "made here, from nothing")
    yield "Licence", license_id or "not stated; that of the base model and of the data applies"


def _settings(run: ReportInput, stage: str) -> Iterator[Facts]:
    for name in MADE_BY[stage]:
        table = run.setting(name)
        if isinstance(table, Mapping):
            rows = tuple((key, setting(value)) for key, value in flat(table) if value not in ("", None))
            yield Facts(rows, f"[{name}]", look="values")
