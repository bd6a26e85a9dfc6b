"""The sentences of the report. Every claim of a rise or a fall is decided by a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.app.report.source import ReportInput, number
from concordant.app.verdicts import sentences
from concordant.evaluation.config import GateConfig
from concordant.evaluation.gate import GO, NO_GO, decide
from concordant.evaluation.intervals import Mean

NAMES = {"base": "Base", "sft": "SFT", "ideal": "Ideal"}


@dataclass(frozen=True)
class Verdict:
    """The answer first: a headline, what it cost, and what to keep in mind. `tone` is up, down or flat."""

    tone: str
    headline: str
    details: tuple[str, ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Contrast:
    """Two runs side by side: what differs in the recipe, and what that did. `tone` is up, down or flat."""

    tone: str
    title: str
    headline: str
    meaning: str
    notes: tuple[str, ...]


def plain(value: float | None, digits: int = 2) -> str:
    """A number for people, with a true minus sign; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def signed(value: float, digits: int = 2) -> str:
    text = plain(value, digits)
    return text if text.startswith("−") or not float(text) else "+" + text


def error(mean: Mean, digits: int = 2) -> str:
    """Half of the 95 % interval after a ±; empty where it is unknown or the figure is exact."""
    return f" ± {plain(mean.half, digits)}" if math.isfinite(mean.se) and mean.se > 0 else ""


def change(mean: Mean, digits: int = 2) -> str:
    return signed(mean.mean, digits) + error(mean, digits)


def percent(share: float, digits: int = 0) -> str:
    return f"{plain(100 * share, digits)} %"


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def model_name(run: ReportInput, model: str) -> str:
    return run.algorithm if model == "policy" else NAMES.get(model, model)


def _tone(mean: Mean | None) -> str:
    return "flat" if mean is None else {1: "up", -1: "down", 0: "flat"}[mean.sign]


def gain(run: ReportInput, measure: str) -> Mean | None:
    """Policy minus SFT; paired where the results have it, else from the two means."""
    models = run.models(measure)
    if measure == "gold" and (paired := run.mean("gaps", "policy_minus_sft")):
        return paired
    return models["policy"].minus(models["sft"]) if {"policy", "sft"} <= models.keys() else None


def verdict(run: ReportInput) -> Verdict:
    """The first thing a reader sees."""
    measure = "gold" if run.has_gold else "score"
    difference = gain(run, measure)
    headline = _headline(run, measure, difference)
    tone = _tone(difference) if measure == "gold" else "flat"  # a higher proxy alone is no good news
    return Verdict(tone, headline, tuple(_price(run)), tuple(_caveats(run, difference)))


def _headline(run: ReportInput, measure: str, difference: Mean | None) -> str:
    name = "gold reward" if measure == "gold" else "score of the reward model"
    models = run.models(measure)
    if not {"policy", "sft"} <= models.keys() or difference is None:
        known = [f"{model_name(run, model)} {plain(mean.mean)}" for model, mean in models.items()]
        return f"The {name}: {listed(known)}." if known else "This run has not been evaluated yet."
    before, after = plain(models["sft"].mean), plain(models["policy"].mean)
    span = f"the {name} from {before} to {after} ({change(difference)})"
    if difference.sign == 0:
        moved = f"{before} → {after} ({change(difference)})"
        return f"{run.algorithm} did not measurably change the {name}: {moved}."
    ideal = models.get("ideal")
    share = ""
    if ideal is not None and ideal.mean > 0 and models["policy"].mean > 0:
        share = f", {percent(models['policy'].mean / ideal.mean)} of an ideal answerer"
    return f"{run.algorithm} {'raised' if difference.sign > 0 else 'lowered'} {span}{share}."


def _price(run: ReportInput) -> Iterator[str]:
    """How far the policy went for it, and whether the reward model was fooled."""
    gold, score = gain(run, "gold"), gain(run, "score")
    if gold is not None and score is not None and gold.sign < 0 < score.sign:
        yield (
            f"Its proxy score rose all the same ({change(score)}): over-optimisation, also called reward "
            "hacking."
        )
    kl, length = run.mean("models", "policy", "kl"), run.models("length")
    if kl is not None:
        yield f"It moved {plain(kl.mean, 1)} nats away from the SFT model."
    if {"policy", "sft"} <= length.keys():
        before, after = plain(length["sft"].mean, 1), plain(length["policy"].mean, 1)
        yield f"Its answers went from {before} to {after} tokens."


def _caveats(run: ReportInput, difference: Mean | None) -> Iterator[str]:
    if not run.has_gold:
        yield (
            "There is no gold reward here, as there is in the embedded world. The score comes from the "
            "reward model that training maximised, so it cannot show that answers got better: people, or a "
            "judge that took no part in training, have to compare them."
        )
    elif difference is not None:
        yield "One seed. The interval covers the choice of prompts, not another run with another seed."
    yield from _weak_spots(run)
    eos = run.rate("models", "policy", "eos_rate")
    if eos is not None and eos.high < 0.98:
        yield f"Only {percent(eos.rate)} of its answers end by themselves."
    unique = run.models("distinct", "unique_of_16")
    if {"policy", "sft"} <= unique.keys() and unique["policy"].mean < 0.5 * unique["sft"].mean:
        before, after = percent(unique["sft"].mean), percent(unique["policy"].mean)
        yield f"It says fewer different things: unique answers among 16 fell from {before} to {after}."
    if run.at("world"):
        yield "The gold reward is a program that knows the truth of a small invented world."
        if name := run.setting("feedback", "labelers"):
            yield _LABELERS[str(run.setting("feedback", "source") or "simulated")].format(name=name)


_LABELERS = {
    "simulated": "The labelers are simulated ({name}).",
    "human": "The labelers are people.",
    "human+simulated": "The labelers are people, beside simulated ones ({name}).",
}


def _weak_spots(run: ReportInput) -> Iterator[str]:
    """Families in which the policy is measurably worse than SFT, and test splits where it did not gain."""
    worse = []
    for family in run.table("models", "policy", "gold_by_family"):
        means = run.models("gold_by_family", family)
        if {"policy", "sft"} <= means.keys():
            difference = means["policy"].minus(means["sft"])
            if difference.sign < 0:
                worse.append(f"{family} ({change(difference)})")
    if worse:
        yield f"It got worse than SFT at {listed(worse)}."
    for split in ("ood", "heldout"):
        means = run.models("gold_by_split", split)
        if {"policy", "sft"} <= means.keys():
            difference = means["policy"].minus(means["sft"])
            if difference.sign <= 0:
                verb = "lost" if difference.sign < 0 else "did not measurably gain"
                yield f"It {verb} on {SPLITS[split]} ({change(difference)})."


SPLITS = {"train": "seen phrasings", "ood": "unseen phrasings", "heldout": "unseen objects"}


NO_SETTINGS = {"name", "data_root", "machine", "versions", "fingerprints"}


def differences(run: ReportInput, against: ReportInput) -> list[tuple[str, Any, Any]]:
    """Settings that differ, as (dotted key, here, there); names, places and versions are no settings."""
    here, there = dict(flat(run.recipe)), dict(flat(against.recipe))
    keys = [*here, *(key for key in there if key not in here)]
    return [
        (key, here.get(key), there.get(key))
        for key in keys
        if here.get(key) != there.get(key) and key.split(".")[0] not in NO_SETTINGS
    ]


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings with dotted keys."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def same_reward_model(run: ReportInput, against: ReportInput) -> bool:
    """Whether the two runs differ in the policy stage only, so that their scores are on one scale."""
    return all(key.split(".")[0] in {"policy", "evaluate", "gate"} for key, _, _ in differences(run, against))


def contrast(run: ReportInput, against: ReportInput) -> Contrast:
    """`run` against `against`, in plain words."""
    changed = differences(run, against)
    title = f"{run.name} against {against.name}"
    if len(changed) == 1:
        key, here, there = changed[0]
        title = f"{key.split('.')[-1]} {setting(here)} against {setting(there)}"
    gold, proxy = (_between(run, against, measure) for measure in ("gold", "score"))
    if not same_reward_model(run, against):
        proxy = None
    tone, meaning = _meaning(proxy, gold)
    return Contrast(tone, title, _contrast_headline(title, proxy, gold), meaning, tuple(_notes(run, against)))


def setting(value: Any) -> str:
    """A value of a recipe for people."""
    if isinstance(value, float):
        return f"{value:g}"
    return "unset" if value is None else str(value)


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


def _meaning(proxy: Mean | None, gold: Mean | None) -> tuple[str, str]:
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
        tone = _tone(gold)
        return tone, known[gold.sign] + " The proxy scores of the two runs come from different reward models."
    return _READINGS[proxy.sign, gold.sign]


_READINGS = {
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


def best_of_n(rows: Sequence[Mapping[str, Any]]) -> str:
    """One sentence about picking the best of more and more samples."""
    known = [row for row in rows if number(row.get("gold")) is not None]
    if len(known) < 2:
        return (
            "Without a gold reward only the proxy can be drawn, and it rises by construction. "
            "Whether the chosen answers are better, people have to say."
        )
    first, last, peak = known[0], known[-1], max(known, key=lambda row: float(row["gold"]))
    start, top, end = (plain(float(row["gold"])) for row in (first, peak, last))
    fall = _row_mean(peak).minus(_row_mean(last))
    if peak is not last and fall.sign > 0:
        return (
            f"Taking the best of {peak['n']} by proxy lifts gold from {start} to {top}; taking the best of "
            f"{last['n']} pleases the reward model even more, but gold falls back to {end}. Past the peak "
            "the choice finds the errors of the reward model: over-optimisation, without any training."
        )
    return (
        f"Gold goes from {start} to {end} at n = {last['n']}, with no measurable fall after its highest "
        "point. In this range choosing harder by the reward model does no harm: no over-optimisation yet."
    )


def _row_mean(row: Mapping[str, Any]) -> Mean:
    se = number(row.get("gold_se"))
    return Mean(float(row["gold"]), math.nan if se is None else se, 0)


def reward_model(run: ReportInput) -> tuple[str, ...]:
    """What the figures of the reward model say."""
    accuracy, n = run.number("reward_model", "accuracy"), run.number("reward_model", "n")
    sentences = []
    if accuracy is not None:
        interval = run.at("reward_model", "accuracy_ci")
        inside = ""
        if isinstance(interval, list | tuple) and len(interval) == 2:
            inside = f" (95 % interval {percent(interval[0], 1)} to {percent(interval[1], 1)})"
        pairs = f" {n:.0f}" if n else ""
        sentences.append(
            f"It ranks {percent(accuracy, 1)} of{pairs} held-out pairs as the labelers did{inside}; "
            "guessing gives 50 %."
        )
    loss, chance = run.number("reward_model", "log_loss"), run.number("reward_model", "chance_log_loss")
    if loss is not None:
        chance = math.log(2) if chance is None else chance
        side = "better than" if loss < chance - 0.005 else "no better than"
        sentences.append(f"Its log-loss is {plain(loss, 3)}, {side} the {plain(chance, 3)} of a coin.")
    on_policy = run.rate("reward_model", "on_policy_accuracy")
    in_distribution = run.rate("reward_model", "gold_accuracy")
    if on_policy is not None and in_distribution is not None:
        weaker, stronger = on_policy.high < in_distribution.low, on_policy.low > in_distribution.high
        advice = (
            "weaker there" if weaker else "better there" if stronger else "not measurably different there"
        )
        sentences.append(
            f"Against gold it is right on {percent(in_distribution.rate)} of held-out pairs, and on "
            f"{percent(on_policy.rate)} of pairs sampled from the trained policy: its advice is {advice}."
        )
    return tuple(sentences)


@dataclass(frozen=True)
class Released:
    """What the release gate of the recipe says of the policy."""

    verdict: str
    tone: str
    reasons: list[str]


def released(run: ReportInput) -> Released | None:
    """The decision of the gate on the figures of the run; None where the recipe demands nothing."""
    row = run.table("gate")
    try:
        decision = decide(GateConfig.model_validate(row["demands"]), run.results)
        said, *reasons = sentences(decision, row)
    except (AttributeError, KeyError, TypeError, ValueError):  # figures may be missing, and so may all of it
        return None
    tone = {GO: "up", NO_GO: "down"}.get(decision.verdict, "flat")
    return Released(said.removeprefix("gate: "), tone, [reason.strip() for reason in reasons])
