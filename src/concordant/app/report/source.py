"""What a report is made from, and reading it where any part may be missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from concordant.evaluation.gate import start_of
from concordant.evaluation.intervals import Mean, Rate

MODELS = ("base", "sft", "policy", "ideal")
Points = list[tuple[float, float]]


def number(value: Any) -> float | None:
    """A finite float, or None: results may hold null, nan or nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings with dotted keys."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@dataclass(frozen=True)
class ReportInput:
    """A finished run: its resolved recipe, results.json (schema 1), step records by stage and sample rows.

    Every part but the name may be empty; the report then leaves out what it cannot show and says so.
    """

    name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    answers: Sequence[Mapping[str, Any]] = ()  # rows of samples.jsonl of the split that is reported first
    notices: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # by stage
    unique: Mapping[str, Sequence[float]] = field(
        default_factory=dict
    )  # by model, texts among 16 to a prompt
    probes: Sequence[Mapping[str, Any]] = ()  # blind comparisons of the policy while it trained
    redteam: Mapping[str, Any] = field(default_factory=dict)  # results.json of the red team
    tax: Mapping[str, Any] = field(default_factory=dict)  # results.json of tasks of others
    outdated: Sequence[str] = ()  # what was found of models that have been made anew since, and is left out
    against: ReportInput | None = None  # another run, to compare this one with

    def at(self, *path: str) -> Any:
        """The entry of the results at `path`; None where any part of the path is missing."""
        here: Any = self.results
        for key in path:
            if not isinstance(here, Mapping):
                return None
            here = here.get(key)
        return here

    def table(self, *path: str) -> Mapping[str, Any]:
        """The mapping at `path`, empty where there is none."""
        here = self.at(*path)
        return here if isinstance(here, Mapping) else {}

    def number(self, *path: str) -> float | None:
        return number(self.at(*path))

    def mean(self, *path: str) -> Mean | None:
        """A {"mean", "se", "n"} entry, or a number whose error stands beside it as NAME_se, if anywhere."""
        here = self.at(*path)
        if isinstance(here, Mapping) and number(here.get("mean")) is not None:
            return Mean.from_dict({**here, "se": number(here.get("se"))})
        bare, se = number(here), self.number(*path[:-1], f"{path[-1]}_se")
        return None if bare is None else Mean(bare, math.nan if se is None else se, 0)

    def rate(self, *path: str) -> Rate | None:
        """A {"rate" or "value", "low", "high", "n"} entry, or a number with NAME_ci and NAME_n beside it."""
        here = self.at(*path)
        if isinstance(here, Mapping):
            share = here.get("rate", here.get("value"))
            parts = [number(part) for part in (share, here.get("low"), here.get("high"), here.get("n"))]
        else:
            above, name = self.table(*path[:-1]), path[-1]
            ends = above.get(f"{name}_ci") or ()
            parts = [number(part) for part in (here, *ends, above.get(f"{name}_n"))]
        known = [part for part in parts if part is not None]
        return Rate(*known) if len(known) == len(parts) == 4 else None

    def models(self, *path: str) -> dict[str, Mean]:
        """The mean at `path` for every model that has one, in the order of `MODELS`."""
        found = {model: self.mean("models", model, *path) for model in MODELS}
        return {model: mean for model, mean in found.items() if mean is not None}

    def series(self, stage: str, key: str) -> Points:
        """(step, value) of one quantity over a stage; steps without it are left out."""
        points = []
        for index, record in enumerate(self.steps.get(stage, ()), start=1):
            value, step = number(record.get(key)), number(record.get("step"))
            if value is not None:
                points.append((float(index) if step is None else step, value))
        return points

    def quantities(self, stage: str, prefix: str) -> tuple[str, ...]:
        """The keys of a stage's records that begin so, in the order in which they come up."""
        keys = dict.fromkeys(key for record in self.steps.get(stage, ()) for key in record)
        return tuple(key for key in keys if key.startswith(prefix))

    def over_kl(self, key: str) -> Points:
        """(KL, value) of the updates of the policy where both were measured."""
        kl = dict(self.series("policy", "objective/kl"))
        return [(kl[step], value) for step, value in self.series("policy", key) if step in kl]

    def setting(self, *path: str) -> Any:
        """The entry of the recipe at `path`, None where it is missing."""
        here: Any = self.recipe
        for key in path:
            here = here.get(key) if isinstance(here, Mapping) else None
        return here

    @property
    def algorithm(self) -> str:
        """How the policy was made, for people: PPO, DPO ..."""
        named = self.setting("policy", "algorithm")
        return str(named).upper() if named else "PPO"

    @property
    def start(self) -> str:
        """The model that the training of the policy started from."""
        return start_of(self.results)

    @property
    def has_gold(self) -> bool:
        """Whether a gold reward was measured, as it is in the embedded world."""
        return bool(self.models("gold"))
