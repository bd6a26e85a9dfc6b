"""A recipe: one TOML file that says everything about a run, and overrides from the command line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from concordant.config import Config
from concordant.data.config import DataConfig
from concordant.errors import UserError
from concordant.evaluation.config import EvaluateConfig, GateConfig
from concordant.feedback.config import FeedbackConfig
from concordant.models.config import MachineConfig, ModelConfig
from concordant.monitor.config import MonitorConfig
from concordant.pipeline.trackers.config import TrackConfig
from concordant.train.config import FitConfig, PolicyConfig
from concordant.worlds.config import WorldConfig

PEOPLE, GOLD, JUDGE = "people", "gold", "judge"  # who may compare in probes beside simulated labelers


class RewardConfig(FitConfig):
    """The reward model: a Bradley–Terry fit to the preferences."""

    centering: float = Field(0.001, ge=0)
    """Weight of the squared sum of both scores, which keeps scores near zero."""
    held_out: float = Field(0.0, ge=0, lt=1)
    """Share of the prompts whose pairs a second reward model learns from in its place, to check it; 0 = none."""


class Recipe(Config):
    """A whole run. A stage whose section is absent is not run."""

    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._+-]*$")
    """Names the run directory."""
    seed: int = Field(0, ge=0)
    """Fixes the world, the initial weights, the order of the data and every sample."""
    data_root: str = "."
    """Relative paths of data and models start here."""
    model: ModelConfig = ModelConfig()
    machine: MachineConfig = MachineConfig()
    world: WorldConfig | None = None
    data: DataConfig = DataConfig()
    pretrain: FitConfig | None = None
    sft: FitConfig | None = None
    feedback: FeedbackConfig = FeedbackConfig()
    reward: RewardConfig | None = None
    policy: PolicyConfig | None = None
    evaluate: EvaluateConfig | None = EvaluateConfig()
    monitor: MonitorConfig = MonitorConfig()
    gate: GateConfig | None = None
    track: TrackConfig = TrackConfig()
    compare: dict[str, PolicyConfig] = Field(default_factory=dict)
    """Other policy sections by name, for `concordant compare`; a run does not read them."""

    @property
    def reads_votes(self) -> bool:
        """Whether a stage learns from votes: the reward model, or a policy that does without one."""
        return self.reward is not None or isinstance(self.policy, FitConfig)

    @property
    def probed_by(self) -> str:
        """Who compares the policy with what its training began with: labelers, gold, a judge, people, or nobody."""
        if not self.monitor.probes:
            return ""
        evaluating = self.evaluate.labelers if self.evaluate else ""
        judge = JUDGE if self.monitor.judge else ""
        return self.monitor.probed_by or judge or evaluating or (GOLD if self.world else "")


# Where things are, what computes them, who is asked and who is told; a run with another of these is the same run.
PLACES = (
    "data_root",
    "machine.device",
    "machine.threads",
    "feedback.source",
    "feedback.people",
    "feedback.url",
    *(f"track.{name}" for name in TrackConfig.model_fields),
)


def parse_value(text: str) -> Any:
    """The value of an override, read as TOML where it is TOML and as a plain string otherwise."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """Dotted overrides such as `policy.kl_coef=0.1`."""
    overrides = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(
                f"{word!r} is not an override",
                where="the command line",
                expected="section.key=value",
                fix="write it like policy.kl_coef=0.1, without spaces around the equals sign",
            )
        overrides[key] = parse_value(value)
    return overrides


def with_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested `values` with dotted keys replaced."""
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    for dotted, value in overrides.items():
        *path, last = dotted.split(".")
        place = merged
        for part in path:
            inner = place.get(part)
            place[part] = dict(inner) if isinstance(inner, Mapping) else {}
            place = place[part]
        place[last] = value
    return merged


def load_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe; unknown keys, wrong types and bad TOML are one clear message each."""
    return make_recipe(with_overrides(read_toml(path), overrides or {}), where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The plain values of a recipe. Errors: UserError for a file that is not there or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        folder = path.parent
        names = [p.name for p in folder.glob("*.toml")] if folder.is_dir() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        raise UserError(
            "there is no such recipe",
            where=str(path),
            expected="a TOML file" + (f"; recipes there: {', '.join(sorted(names))}" if names else ""),
            fix=f"did you mean {folder / near[0]}?" if near else "check the path",
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot read this recipe: {error.strerror}",
            where=str(path),
            expected="a TOML file this user may read",
            fix="check the path",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message, line = str(error), re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        raise UserError(
            f"this recipe is not valid TOML: {message[: line.start()] if line else message}",
            where=f"{path}:{line[1]}:{line[2]}" if line else str(path),
            expected='lines such as key = 1, key = "text" and [section]',
            fix="mend that line; text stands in quotes",
        ) from None


def make_recipe(values: Mapping[str, Any], *, where: str) -> Recipe:
    """Check plain values against the recipe's types."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _explain(error, where) from None


def _explain(error: ValidationError, where: str) -> UserError:
    """The first problem of a recipe in words, with the nearest known key for a typo."""
    # An unknown key comes before what is missing: it may be the missing one with a typo.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    loc = tuple(part for part in first["loc"] if isinstance(part, str))
    place, _ = _walk(loc)
    dotted = ".".join(place)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = sorted(_walk(loc[:-1])[1].model_fields)
        near = difflib.get_close_matches(place[-1], known, n=1)
        return UserError(
            f"unknown key {dotted!r}{more}",
            where=where,
            expected=f"one of {', '.join(known)}",
            fix=f"did you mean {'.'.join((*place[:-1], near[0]))!r}?" if near else "remove it",
        )
    if first["type"] == "union_tag_invalid":
        key = first["ctx"]["discriminator"].strip("'")
        dotted, first["input"] = f"{dotted}.{key}", first["ctx"]["tag"]
        first["msg"] = f"one of {first['ctx']['expected_tags']}"
    given = "" if first["type"] == "missing" else f", got {first['input']!r}"
    message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return UserError(
        f"bad value for {dotted!r}{more}",
        where=where,
        expected=message[0].lower() + message[1:] + given,
        fix="set it in the recipe, or on the command line as KEY=VALUE",
    )


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The config classes a field or its items may hold: none for plain values, several where `algorithm` decides."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple):
        return [section for choice in get_args(annotation) for section in sections_of(choice)]
    return []


def algorithms_of(section: type[BaseModel]) -> tuple[str, ...]:
    """The names that pick this class among several; none where there is no choice."""
    field = section.model_fields.get("algorithm") or section.model_fields.get("kind")
    return () if field is None else get_args(field.annotation)


def _walk(loc: Iterable[str]) -> tuple[tuple[str, ...], type[BaseModel]]:
    """The dotted place of a problem, and the config class there.

    On the way pydantic also names the algorithm that picked a class; it is no part of the place.
    """
    place: list[str] = []
    section: type[BaseModel] = Recipe
    choices: list[type[BaseModel]] = []
    named: list[type[BaseModel]] = []  # what stands under the free names of a table such as [compare]
    for part in loc:
        chosen = [choice for choice in choices if part in algorithms_of(choice)]
        if chosen:
            section, choices = chosen[0], []
            continue
        place.append(part)
        if named:
            section, choices, named = named[0], named, []
            continue
        field = section.model_fields.get(part)
        annotation = None if field is None else field.annotation
        if get_origin(annotation) is dict:
            named = sections_of(get_args(annotation)[1])
        choices = sections_of(annotation)
        section = choices[0] if choices else section
    return tuple(place), section
