"""What a run would do, without doing it."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from concordant.app.runs import folder_of
from concordant.data.sources import hub_needs
from concordant.pipeline.context import base_path
from concordant.pipeline.plan import plan
from concordant.pipeline.recipe import Recipe, load_recipe, parse_overrides
from concordant.train.config import FitConfig, OnPolicyConfig, RoundsConfig


def plan_only(arguments: argparse.Namespace, console: Console) -> int:
    """Say what would be run and why, and what would be downloaded."""
    recipe = load_recipe(arguments.recipe, parse_overrides(arguments.overrides))
    folder = folder_of(arguments.recipe, arguments.overrides, arguments.runs, arguments.run)
    stages = plan(recipe, folder)
    table = Table(title=escape(f"{recipe.name} into {folder}"), title_justify="left")
    for column in ("stage", "action", "why", "folder"):
        table.add_column(column)
    for stage in stages:
        table.add_row(stage.name, stage.action, escape(stage.why), stage.folder.path.name)
    console.print(table)
    for line in (*batch_lines(recipe), *download_lines(recipe)):
        console.print(line, markup=False, highlight=False)
    return 0


def batch_lines(recipe: Recipe) -> list[str]:
    """What each training stage does per optimiser step, as far as the recipe alone says it."""
    lines = []
    for name in ("pretrain", "sft", "reward"):
        section = getattr(recipe, name)
        if section is not None:
            lines.append(fit_line(name, section))
    policy = recipe.policy
    if isinstance(policy, FitConfig):
        lines.append(fit_line(policy.algorithm, policy))
    if isinstance(policy, RoundsConfig):
        lines.append(
            f"{policy.algorithm}: {policy.rounds} rounds of {policy.prompts} prompts, {policy.samples} completions "
            f"each, about {policy.steps_per_round} optimiser steps of {policy.batch} examples"
        )
    if isinstance(policy, OnPolicyConfig):
        lines.append(
            f"{policy.algorithm}: {policy.updates} rollouts of {policy.batch} completions, "
            f"{policy.group} per prompt, "
            f"{policy.epochs * policy.minibatches} optimiser steps of "
            f"{policy.batch // policy.minibatches} completions on each, kl_coef {policy.kl_coef:g}"
        )
    return lines


def fit_line(name: str, section: FitConfig) -> str:
    """What a stage that learns from fixed data does per optimiser step."""
    amount = f"{section.steps} steps" if section.steps else f"{section.epochs:g} epochs"
    return (
        f"{name}: {amount} of {section.batch} examples, at most {section.tokens} tokens in one pass, "
        f"lr {section.optimizer.lr:g} {section.optimizer.schedule}"
    )


def download_lines(recipe: Recipe) -> list[str]:
    """What a run of this recipe would fetch from the hub, said without asking the hub."""
    needed = []
    if recipe.model.path and not Path(base_path(recipe)).is_dir():
        needed.append(f"model {recipe.model.path}: weights, configuration and tokenizer")
    sources = [source for some in recipe.data.sources.values() for source in some]
    for source in dict.fromkeys(source.path for source in sources):
        need = hub_needs(source, Path(recipe.data_root))
        if need:
            needed.append(need)
    if not needed:
        return ["Nothing would be downloaded."]
    return [
        "Would be downloaded from the Hugging Face hub, unless it is in the local cache already:",
        *(f"  {n}" for n in needed),
        "Nothing was downloaded or asked for by this command.",
    ]
