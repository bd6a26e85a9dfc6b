"""Which figures of a run are out of bounds: levels from which on others have met trouble, and what is likely behind it.

None of them proves anything, and none is a gate: a gate is what somebody stated for a run of their own. Where the
levels come from is told in `docs/metrics.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.evaluation.intervals import Mean

Results = Mapping[str, Any]
INF = math.inf
VALUES = ("mean", "rate", "value", "accuracy", "share")  # under which of these an entry has its figure


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a figure of `results.json` should lie; START stands for the model that the policy started from.

    `figure` is a dotted place, or two with " - " or " / " between them; `where` names a figure, and the value above
    which this one is looked at.
    """

    figure: str
    at_least: float
    at_most: float
    says: str  # what is likely behind it where it does not
    where: tuple[str, float] | None = None


BOUNDS = (
    Bound("feedback.agreement", 0.6, INF, "the question is unclear, or its answers are too alike"),
    Bound("feedback.alpha", 0.3, INF, "labelers agree little more than chance makes them"),
    Bound("feedback.implied_accuracy", 0.55, INF, "one label says next to nothing: ask more labelers each"),
    Bound("feedback.longer_chosen", -INF, 0.62, "a reward model is going to learn that longer is better"),
    Bound("feedback.first_chosen", 0.5, 0.5, "the place in which an answer is shown decides"),
    Bound("feedback.swap_consistent", 0.65, INF, "the order in which answers are shown decides too often"),
    Bound(
        "reward_model.suspect_labels", -INF, 0.15, "a model that learnt from other labels contradicts many"
    ),
    Bound(
        "models.START.text.nll_per_token / models.base.text.nll_per_token",
        -INF,
        1.1,
        "fine-tuning unlearnt what the base model could: fewer epochs, a lower learning rate",
    ),
    Bound(
        "models.START.eos_rate", 0.98, INF, "demonstrations without an end, or evaluate.completion too small"
    ),
    Bound(
        "reward_model.log_loss", -INF, 0.65, "a nearly constant scorer", where=("reward_model.accuracy", 0.9)
    ),
    Bound("reward_model.train - reward_model", -INF, 0.1, "learnt by heart: fewer epochs, more votes"),
    Bound("reward_model - reward_model.longer_rule", 0.0, INF, "to take the longer answer would do better"),
    Bound("reward_model.ece", -INF, 0.1, "differences in score do not mean what they say"),
    Bound("reward_model.temperature", -INF, 2.0, "scores are overconfident"),
    Bound("reward_model.by_style.hard", 0.5, INF, "it has learnt length, and is wrong where length misleads"),
    Bound(
        "reward_model.length_correlation", -INF, 0.5, "of answers to one prompt the longer ones score higher"
    ),
    Bound("reward_model.on_policy_accuracy", 0.5, INF, "of answers of the policy the scores know nothing"),
    Bound("models.policy.kl", -INF, 20.0, "the reward model has seen nothing like it"),
    Bound(
        "models.policy.kl_per_token",
        -0.1,
        INF,
        "sampler and reference disagree: dropout, temperature, padding",
    ),
    Bound("models.policy.score_z", -INF, 3.0, "far above all that the start ever earned"),
    Bound("models.policy.length_z", -3.0, 3.0, "answers of quite another length"),
    Bound("non_length_gain.policy_minus_START", 0.5, INF, "most of what the score gained came from length"),
    Bound("models.policy.eos_rate", 0.95, INF, "answers run into the limit"),
    Bound("models.policy.loops", -INF, 0.01, "answers end in loops"),
    Bound(
        "models.policy.entropy_per_token / models.START.entropy_per_token",
        0.3,
        INF,
        "it has stopped trying anything else",
    ),
    Bound("models.policy.distinct.unique_of_16", 0.5, INF, "asked 16 times, it says nearly the same"),
    Bound(
        "models.policy.diversity.within.ead / models.START.diversity.within.ead",
        0.5,
        INF,
        "half of the variety of answers to one prompt is gone",
    ),
    Bound(
        "models.policy.ref_nll_per_token - models.START.ref_nll_per_token",
        -INF,
        1.0,
        "text that the start would not have written",
    ),
    Bound("implicit_reward.displacement.chosen", -1.0, INF, "preferred answers became less probable as well"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure with its 95 % interval, which is the figure itself where nobody knows one."""

    value: float
    low: float
    high: float

    @classmethod
    def at(cls, results: Results, place: str) -> Reading | None:
        """What stands at a dotted place: a number, a mean, a rate or an accuracy; None where nothing does."""
        *above, name = place.split(".")
        around: Any = results
        for key in above:
            around = around.get(key) if isinstance(around, Mapping) else None
        if not isinstance(around, Mapping) or around.get(name) is None:
            return None
        entry = around[name]
        if not isinstance(entry, Mapping):
            if f"{name}_se" in around:
                return cls._of_mean({"mean": entry, "se": around[f"{name}_se"]})
            return cls._with_ends(entry, around.get(f"{name}_ci"))
        if "mean" in entry and "se" in entry:
            return cls._of_mean(entry)
        value = next((entry[key] for key in VALUES if key in entry), None)
        return cls._with_ends(value, entry.get("accuracy_ci") or (entry.get("low"), entry.get("high")))

    @classmethod
    def _of_mean(cls, row: Mapping[str, Any]) -> Reading:
        """Of a mean of one prompt nobody knows how far others are from it."""
        mean = Mean.from_dict(row)
        known = math.isfinite(mean.se)
        return cls(mean.mean, mean.low if known else -INF, mean.high if known else INF)

    @classmethod
    def _with_ends(cls, value: float | None, ends: Sequence[float | None] | None) -> Reading | None:
        if value is None:
            return None
        low, high = (value if end is None else end for end in ends or (None, None))
        return cls(value, low, high)

    def minus(self, other: Reading) -> Reading:
        """The difference, with an interval that is too wide rather than too narrow."""
        return Reading(self.value - other.value, self.low - other.high, self.high - other.low)

    def over(self, other: Reading) -> Reading | None:
        """The share of another figure, with an interval that is too wide; None of one that may be 0."""
        if other.low <= 0:
            return None
        return Reading(self.value / other.value, self.low / other.high, self.high / other.low)

    @classmethod
    def of(cls, results: Results, figure: str) -> Reading | None:
        """The figure of a bound; see there."""
        for sign, combine in ((" - ", cls.minus), (" / ", cls.over)):
            if sign in figure:
                one, other = (cls.at(results, place) for place in figure.split(sign))
                return None if one is None or other is None else combine(one, other)
        return cls.at(results, figure)


def health(results: Results, start: str) -> list[dict[str, Any]]:
    """Every bound whose figure is known, with the figure and whether it is beyond; ready for JSON.

    It is where the whole interval is: what chance explains is no alarm.
    """
    found = []
    for bound in BOUNDS:
        figure = bound.figure.replace("START", start)
        reading = Reading.of(results, figure)
        if reading is None or not _looked_at(bound, results):
            continue
        found.append(
            {
                "figure": figure,
                "value": reading.value,
                "at_least": bound.at_least if math.isfinite(bound.at_least) else None,
                "at_most": bound.at_most if math.isfinite(bound.at_most) else None,
                "beyond": reading.high < bound.at_least or reading.low > bound.at_most,
                "says": bound.says,
            }
        )
    return found


def _looked_at(bound: Bound, results: Results) -> bool:
    if bound.where is None:
        return True
    condition = Reading.at(results, bound.where[0])
    return condition is not None and condition.value > bound.where[1]
