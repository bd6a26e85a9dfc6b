"""Runs of the demo that differ in a few settings, and what their policies answer, for the benchmarks that read them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from concordant.app.runs import recipe_of
from concordant.data.types import Prompt
from concordant.models.load import load_policy
from concordant.pipeline.afterwards import context_after, finished_stages
from concordant.pipeline.parts.sampling import sampler_of, with_ids
from concordant.pipeline.recipe import load_recipe, parse_overrides
from concordant.pipeline.reporter import Silent
from concordant.worlds.gold import Gold
from concordant.worlds.town import Town

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "demo.toml"
LITTLE = (  # of evaluation: what is measured here is measured by `answers`
    "evaluate.prompts=20",
    "evaluate.best_of_prompts=0",
    "evaluate.diversity_prompts=4",
)
POLICY = Path("stages", "05-policy")
ASKED = 1500
COMPLETION = 24  # tokens, as in the recipe


def town_run(folder: Path, seed: int, *words: str) -> Path:
    """Make a run of the demo on one thread, or find it; returns its directory, named by what is changed.

    Runs in one folder share the stages that they have in common.
    """
    name = "-".join([f"s{seed}", *(word.rpartition(".")[2].replace("=", "-") for word in words)])
    place = folder / name
    command = [sys.executable, "-m", "concordant", "run", str(RECIPE), f"seed={seed}", *words, *LITTLE]
    subprocess.run(
        [*command, "machine.threads=1", "--run", str(place)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return place


def answers(run: Path, n: int = ASKED) -> list[tuple[Prompt, str, Gold]]:
    """What the policy of a run says to `n` prompts of its world that no stage has seen, and what that is worth."""
    recipe_path, words = recipe_of(run)
    recipe = load_recipe(recipe_path, parse_overrides(words))
    context = context_after(recipe, run, finished_stages(run), Silent(), purpose="benchmark")
    model = load_policy(context.model_path("policy"))
    town = Town(recipe.seed)
    asked = with_ids(context, town.prompts(n, rng="benchmark"), model, COMPLETION)
    sampler = sampler_of(context, model, completion=COMPLETION, temperature=1.0)
    rollout = sampler.sample([ids for _, ids in asked], seed=context.seed("answers"))
    texts = [context.template.text(sample.completion) for sample in rollout.samples]
    return [(prompt, text, town.gold(prompt, text)) for (prompt, _), text in zip(asked, texts, strict=True)]
