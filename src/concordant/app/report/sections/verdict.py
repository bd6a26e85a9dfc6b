"""What the reader sees first: how far the policy came, whether it may be released, what to keep in mind."""

from __future__ import annotations

from collections.abc import Iterator

from concordant.app.gaming import exploited, held_out
from concordant.app.report.document import Callout, Tone
from concordant.app.report.phrases import SPLITS, change, listed, model_name, percent, plain, tone
from concordant.app.report.source import ReportInput
from concordant.app.verdicts import sentences
from concordant.evaluation.config import GateConfig
from concordant.evaluation.gate import GO, NO_GO, Decision, decide
from concordant.evaluation.intervals import Mean


def gain(run: ReportInput, measure: str) -> Mean | None:
    """Policy minus the model it started from; paired where the results have it, else from the two means."""
    models = run.models(measure)
    if measure == "gold" and (paired := run.mean("gaps", f"policy_minus_{run.start}")):
        return paired
    return models["policy"].minus(models[run.start]) if {"policy", run.start} <= models.keys() else None


def verdict(run: ReportInput) -> Callout:
    """The headline and its price. A higher proxy alone is no good news."""
    measure = "gold" if run.has_gold else "score"
    difference = gain(run, measure)
    side: Tone = tone(difference) if measure == "gold" else "flat"
    decided = decision(run)
    if decided is not None and decided.verdict == NO_GO:
        side = "down"
    return Callout(side, _headline(run, measure, difference), (" ".join(_price(run)),))


def decision(run: ReportInput) -> Decision | None:
    """What the gate says of the figures of the run; None where the recipe demands nothing, or it cannot be read."""
    try:
        return decide(GateConfig.model_validate(run.table("gate")["demands"]), run.results)
    except (AttributeError, KeyError, TypeError, ValueError):  # figures may be missing, and so may all of it
        return None


def released(run: ReportInput) -> Callout | None:
    """The decision of the gate with its reasons; None where there is none."""
    decided = decision(run)
    if decided is None:
        return None
    try:
        said, *reasons = sentences(decided, run.table("gate"))
    except (KeyError, TypeError):
        return None
    tones: dict[str, Tone] = {GO: "up", NO_GO: "down"}
    headline = f"Release gate: {said.removeprefix('gate: ')}"
    points = tuple(reason.strip() for reason in reasons)
    return Callout(tones.get(decided.verdict, "flat"), headline, points=points)


def _headline(run: ReportInput, measure: str, difference: Mean | None) -> str:
    name = "gold reward" if measure == "gold" else "score of the reward model"
    models = run.models(measure)
    if not {"policy", run.start} <= models.keys() or difference is None:
        known = [f"{model_name(run, model)} {plain(mean.mean)}" for model, mean in models.items()]
        return f"The {name}: {listed(known)}." if known else "This run has not been evaluated yet."
    before, after = plain(models[run.start].mean), plain(models["policy"].mean)
    span = f"the {name} from {before} to {after} ({change(difference)})"
    if difference.sign == 0:
        moved = f"{before} → {after} ({change(difference)})"
        return f"{run.algorithm} did not measurably change the {name}: {moved}."
    ideal = models.get("ideal")
    share = ""
    if ideal is not None and ideal.mean > 0 and models["policy"].mean > 0:
        share = f", {percent(models['policy'].mean / ideal.mean)} of an ideal answerer"
    return f"{run.algorithm} {'raised' if difference.sign > 0 else 'lowered'} {span}{share}."


def _start(run: ReportInput) -> str:
    return f"the {model_name(run, run.start)} model" if run.start == "sft" else "the base model"


def _price(run: ReportInput) -> Iterator[str]:
    """How far the policy went for it, and whether the reward model was fooled."""
    gold, score = gain(run, "gold"), gain(run, "score")
    if gold is not None and score is not None and gold.sign < 0 < score.sign:
        yield (
            f"Its proxy score rose all the same ({change(score)}): over-optimisation, also called reward "
            "hacking."
        )
    yield from _paid_for(run)
    kl, length = run.mean("models", "policy", "kl"), run.models("length")
    if kl is not None:
        yield f"It moved {plain(kl.mean, 1)} nats away from {_start(run)}."
    if {"policy", run.start} <= length.keys():
        before, after = plain(length[run.start].mean, 1), plain(length["policy"].mean, 1)
        yield f"Its answers went from {before} to {after} tokens."


def _paid_for(run: ReportInput) -> Iterator[str]:
    """The features that were exploited, in one sentence."""
    row = run.table("exploits")
    try:
        shares = {part["part"]: float(part["share"]) for part in row.get("parts", ())}
        paid = [
            f"{percent(shares[one['feature']])} was paid for {one['words']}" for one in row.get("named", ())
        ]
    except (KeyError, TypeError, ValueError):
        return
    if paid and row.get("truth"):
        yield f"Of what its score gained, {listed(paid)}, and not for better ones."


def caveats(run: ReportInput) -> tuple[str, ...]:
    """What speaks against taking the headline as it stands."""
    return (*_of_truth(run), *_of_policy(run), *_of_labelers(run))


def caveats_of_run(run: ReportInput) -> tuple[str, ...]:
    """Those that are not about the policy."""
    return (*_of_truth(run), *_of_labelers(run))


def _of_truth(run: ReportInput) -> Iterator[str]:
    difference = gain(run, "gold")
    if not run.has_gold and run.models("score"):
        yield (
            "There is no gold reward here, as there is in the embedded world. The score comes from the "
            "reward model that training maximised, so it cannot show that answers got better: people, or a "
            "judge that took no part in training, have to compare them."
        )
    elif difference is not None:
        yield "One seed. The interval covers the choice of prompts, not another run with another seed."


def _of_policy(run: ReportInput) -> Iterator[str]:
    yield from _gamed(run)
    yield from _weak_spots(run)
    eos = run.rate("models", "policy", "eos_rate")
    if eos is not None and eos.high < 0.98:
        yield f"Only {percent(eos.rate)} of its answers end by themselves."
    unique = run.models("distinct", "unique_of_16")
    if {"policy", run.start} <= unique.keys() and unique["policy"].mean < 0.5 * unique[run.start].mean:
        before, after = percent(unique[run.start].mean), percent(unique["policy"].mean)
        yield f"It says fewer different things: unique answers among 16 fell from {before} to {after}."


def _of_labelers(run: ReportInput) -> Iterator[str]:
    if run.at("world"):
        yield "The gold reward is a program that knows the truth of a small invented world."
        if name := run.setting("feedback", "labelers"):
            yield _LABELERS[str(run.setting("feedback", "source") or "simulated")].format(name=name)


def _gamed(run: ReportInput) -> Iterator[str]:
    """What else the score was paid for, and whether a second reward model saw it rise as well."""
    if run.at("exploits", "named"):
        said = exploited(run.table("exploits"))
        yield f"{said[:1].upper()}{said[1:]}."
    policy = run.table("models", "policy")
    gap = run.mean("models", "policy", "held_out_gap")
    if gap is not None and gap.sign > 0 and {"score_z", "held_out_z"} <= policy.keys():
        said = held_out(policy)
        yield f"{said[:1].upper()}{said[1:]}."


_LABELERS = {
    "simulated": "The labelers are simulated ({name}).",
    "human": "The labelers are people.",
    "human+simulated": "The labelers are people, beside simulated ones ({name}).",
}


def _weak_spots(run: ReportInput) -> Iterator[str]:
    """Families in which the policy is measurably worse than its start, and test splits where it did not gain."""
    worse = []
    for family in run.table("models", "policy", "gold_by_family"):
        means = run.models("gold_by_family", family)
        if {"policy", run.start} <= means.keys():
            difference = means["policy"].minus(means[run.start])
            if difference.sign < 0:
                worse.append(f"{family} ({change(difference)})")
    if worse:
        yield f"It got worse than {_start(run)} at {listed(worse)}."
    for split in ("ood", "heldout"):
        means = run.models("gold_by_split", split)
        if {"policy", run.start} <= means.keys():
            difference = means["policy"].minus(means[run.start])
            if difference.sign <= 0:
                verb = "lost" if difference.sign < 0 else "did not measurably gain"
                yield f"It {verb} on {SPLITS[split]} ({change(difference)})."
