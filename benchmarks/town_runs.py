"""Runs of the demo that differ in a few settings, and what their policies answer, for the benchmarks that read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from concordant.data.types import Prompt
from concordant.models.load import load_policy
from concordant.pipeline.afterwards import context_after, finished_stages
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.parts.sampling import sampler_of, with_ids
from concordant.pipeline.recipe import Recipe, load_recipe, parse_overrides
from concordant.pipeline.reporter import Silent
from concordant.pipeline.run import execute, open_run
from concordant.worlds.gold import Gold
from concordant.worlds.town import Town

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "demo.toml"
SHARED = ("machine.threads=1", "monitor.probed_by=pool")
ASKED = 1500
COMPLETION = 24  # tokens, as in the recipe


@dataclass(frozen=True)
class TownRun:
    """The demo with other settings, up to its policy: measuring all models would take longer than training one."""

    recipe: Recipe
    place: Path

    @classmethod
    def made(cls, folder: Path, seed: int, *words: str) -> TownRun:
        """Make a run on one thread, or find it. Runs in one folder share the stages that they have in common."""
        overrides = parse_overrides((f"seed={seed}", *SHARED, *words))
        recipe = load_recipe(RECIPE, overrides).model_copy(update={"evaluate": None, "gate": None})
        changed = (word.rpartition(".")[2].replace("=", "-") for word in words)
        run = cls(recipe, folder / "-".join([f"s{seed}", *changed]))
        open_run(recipe, run.place, RECIPE.read_text(encoding="utf-8"))
        execute(recipe, run.place, Silent(), StopRequest())
        return run

    @property
    def policy(self) -> Path:
        """The folder of its policy."""
        return self.place / "stages" / "05-policy"

    @cached_property
    def answers(self) -> list[tuple[Prompt, str, Gold]]:
        """What its policy says to prompts of its world that no stage has seen, and what that is worth."""
        done = finished_stages(self.place)
        context = context_after(self.recipe, self.place, done, Silent(), purpose="benchmark")
        model = load_policy(context.model_path("policy"))
        town = Town(self.recipe.seed)
        asked = with_ids(context, town.prompts(ASKED, rng="benchmark"), model, COMPLETION)
        sampler = sampler_of(context, model, completion=COMPLETION, temperature=1.0)
        rollout = sampler.sample([ids for _, ids in asked], seed=context.seed("answers"))
        texts = [context.template.text(sample.completion) for sample in rollout.samples]
        return [
            (prompt, text, town.gold(prompt, text)) for (prompt, _), text in zip(asked, texts, strict=True)
        ]
