"""What a stage works with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordant.pipeline.folder import StageFolder, as_json
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.material import FileMaterial, WorldMaterial
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Reporter
from concordant.seeds import derive

if TYPE_CHECKING:
    from concordant.data.template import Template
    from concordant.models.hardware import Machine
    from concordant.monitor.detectors import Watch
    from concordant.train.checkpoint import Checkpoint
    from concordant.train.config import CheckpointConfig
    from concordant.train.step import Step

STORE = "feedback.sqlite"  # of a run, in its directory


@dataclass
class Totals:
    """What a stage has spent so far, over all its sessions."""

    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def add(self, activity: str, seconds: float, tokens: int = 0) -> None:
        self.seconds[activity] = self.seconds.get(activity, 0.0) + seconds
        self.tokens[activity] = self.tokens.get(activity, 0) + tokens

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Totals:
        return cls(dict(facts.get("seconds", {})), dict(facts.get("tokens", {})))

    def facts(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "tokens": self.tokens}


@dataclass
class Context:
    """One stage of one run."""

    recipe: Recipe
    run_folder: Path
    stage: str
    folder: StageFolder
    inputs: Mapping[str, StageFolder]  # finished stages this one builds on
    material: WorldMaterial | FileMaterial
    reporter: Reporter
    stop: StopRequest
    find_machine: Callable[[], Machine]
    totals: Totals = field(default_factory=Totals)
    figures: dict[str, float] = field(default_factory=dict)  # of the step whose weights a loop leaves

    @property
    def machine(self) -> Machine:
        """Device, precision and threads, probed when first asked for."""
        return self.find_machine()

    @cached_property
    def watch(self) -> Watch:
        """The detectors that the stage's steps go through."""
        import torch

        from concordant.monitor.detectors import Watch

        fp32 = self.machine.precision == torch.float32
        return Watch(fp32=fp32, most=self.recipe.monitor.on_alarm)

    @property
    def store(self) -> str | Path:
        """Where the feedback store of the run is."""
        return store_address(self.recipe, self.run_folder)

    @property
    def rubric(self) -> dict[str, Any] | None:
        """The rubric under which candidates are compared; None for the usual one."""
        from concordant.feedback.asking.rubric import read_rubric

        named = self.recipe.feedback.rubric
        return dict(read_rubric(Path(self.recipe.data_root) / named)) if named else None

    def seed(self, *purpose: object) -> int:
        """A seed for one purpose of this stage."""
        return derive(self.recipe.seed, self.stage, *purpose)

    def model_path(self, stage: str) -> str:
        """Folder or hub name of the model a stage left; `base` may be a model that was given."""
        if stage in self.inputs:
            return str(self.inputs[stage].model)
        return base_path(self.recipe)

    @property
    def start(self) -> str:
        """The policy that training goes on from: the fine-tuned model, or the base where there is none."""
        return "sft" if "sft" in self.inputs else "base"

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the base model, with its chat template."""
        return self.template.tokenizer

    @cached_property
    def template(self) -> Template:
        """How chats become token ids, the same in every stage."""
        return template_of(self.recipe, self.model_path("base"))

    def limit(self, model: Any) -> int:
        """Longest sequence in tokens."""
        from concordant.models.load import context_length

        return min(self.recipe.model.length or 2**31, context_length(model))

    def follow(
        self,
        steps: Iterable[Step],
        *,
        title: str,
        when: CheckpointConfig,
        state: Callable[[], Checkpoint],
        restore: Callable[[Checkpoint], None],
        goes_back: bool = False,
    ) -> Iterator[Step]:
        """Log a loop's steps, show its progress, save checkpoints, and stop in good order when asked to.

        Yields the steps on, so that a stage may look at them. Stopping saves a checkpoint first. Where the recipe
        wants the best checkpoint, `restore` gets it after the last step. Where a loop `goes_back`, an alarm may end
        it, and `restore` gets the checkpoint whose answers were liked best. `figures` are those of what is left then.
        """
        from concordant.pipeline.following import Following

        return Following(self, title, when, state, restore, goes_back).over(steps)

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Go on from the facts of a checkpoint."""
        self.totals = Totals.of(facts)
        self.watch.load_state(facts["watch"])

    def log(self, step: Step) -> None:
        """Count a step's costs, append it to the stage's log, and say what is out of bounds in it."""
        for activity, seconds in step.seconds.items():
            self.totals.add(activity, seconds, step.tokens.get(activity, 0))
        row = {"step": step.number, "seconds": round(sum(step.seconds.values()), 4), **as_json(step.metrics)}
        self.folder.append(self.folder.steps, [row])
        notices = self.watch.see(step)
        if notices:
            self.folder.append(self.folder.notices, [notice.as_row() for notice in notices])
        for notice in notices:
            self.reporter.say(f"  {notice}")

    def timed(self, activity: str) -> Timer:
        """Measure a block and add it to the stage's totals."""
        return Timer(self.totals, activity)


class Timer:
    """Adds the seconds of a block, and the tokens it reports, to the totals."""

    def __init__(self, totals: Totals, activity: str) -> None:
        self.totals, self.activity, self.tokens = totals, activity, 0

    def __enter__(self) -> Timer:
        self.begin = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.totals.add(self.activity, time.perf_counter() - self.begin, self.tokens)


HEADLINES = (
    ("loss", "loss {:.3f}"),
    ("reward/accuracy", "accuracy {:.2f}"),
    ("objective/score", "score {:.2f}"),
    ("objective/gold", "gold {:.2f}"),
    ("objective/kl", "KL {:.1f}"),
)


def headline(metrics: Mapping[str, float]) -> str:
    """The few figures of a step worth a place on the terminal."""
    on_policy = "objective/score" in metrics
    shown = [text.format(metrics[name]) for name, text in HEADLINES if name in metrics]
    return "  ".join(shown[1:] if on_policy else shown)


def store_address(recipe: Recipe, run_folder: Path) -> str | Path:
    """Where the feedback store of a run is: a file in its directory, or the database its recipe names."""
    return recipe.feedback.url or run_folder / STORE


def base_path(recipe: Recipe) -> str:
    """The model a recipe starts from."""
    return path_of(recipe, recipe.model.path)


def path_of(recipe: Recipe, model: str) -> str:
    """Where a model that a recipe names is: a folder below data_root if there is one, else as it stands."""
    below = Path(recipe.data_root) / model
    return str(below) if below.is_dir() else model


def template_of(recipe: Recipe, path: str) -> Template:
    """How chats become token ids for the model at `path`, a folder or hub name."""
    from concordant.data.template import Template, load_tokenizer

    return Template(
        load_tokenizer(path),
        chat_template=recipe.model.chat_template or None,
        stop_ids=generation_stop_ids(path),
    )


def generation_stop_ids(path: str) -> Sequence[int]:
    """Token ids on which the model's own generation settings say to stop."""
    from transformers import GenerationConfig

    try:
        stop = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:
        return ()
    if stop is None:
        return ()
    return tuple(stop) if isinstance(stop, list) else (stop,)
