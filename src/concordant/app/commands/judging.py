"""Two stages of a run compared by people: the project in which they are asked, and who wins."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from concordant.app.runs import recipe_of, store_at
from concordant.app.terminal import Terminal, quiet_libraries
from concordant.errors import UserError
from concordant.feedback.reading.projects import project_named, projects
from concordant.feedback.reading.versus import Result, ask_versus, is_versus, result
from concordant.feedback.store import Store
from concordant.pipeline.recipe import load_recipe, parse_overrides
from concordant.pipeline.versus import answered_by_both


def compare_stages(store: Store, arguments: argparse.Namespace, console: Console) -> str:
    """Make a project of two stages' answers and say what it holds; returns its id."""
    run_folder = Path(arguments.store)
    for option, value in (("prompts", arguments.prompts), ("votes", arguments.votes)):
        if value is not None and value < 1:
            raise UserError(
                f"--{option} {value}",
                where="the command line",
                expected="1 or more",
                fix=f"leave --{option} out",
            )
    recipe_path, words = recipe_of(run_folder)
    recipe = load_recipe(recipe_path, parse_overrides(words))
    quiet_libraries()
    terminal = Terminal(console)
    sides, pairs = answered_by_both(recipe, run_folder, arguments.compare, arguments.prompts, terminal)
    asked = ask_versus(store, sides, pairs, votes=arguments.votes or 1)
    before = f", {asked.repeated} were there before" if asked.repeated else ""
    terminal.say(
        f"{asked.name}: {len(pairs)} prompts, {asked.added} pairs of answers to compare{before}; "
        f"to {asked.alike} both say the same, which counts as a tie"
    )
    return asked.project


def say_results(arguments: argparse.Namespace, console: Console) -> int:
    """Print who wins in every project that compares two stages, or in one."""
    with Store.open(store_at(arguments.store)) as store:
        named = [project_named(store, arguments.project)] if arguments.project else projects(store)
        found = {one.name: result(store, one.id) for one in named if is_versus(one.settings)}
    if not found:
        raise UserError(
            "no two stages are compared here",
            where=str(arguments.project or arguments.store),
            expected="a project made by concordant label RUN --compare",
            fix=f"concordant label {arguments.store} --compare sft policy",
        )
    for name, one in found.items():
        console.print(f"{name}: {in_words(one)}", markup=False, highlight=False)
        for words, n in counts(one):
            console.print(f"  {n:>6,}  {words}", markup=False, highlight=False)
    return 0


def in_words(one: Result) -> str:
    """The outcome in a sentence."""
    if not one.rate.n:
        return "nobody has answered yet"
    share = f"{one.rate.value:.3f} [{one.rate.low:.3f}, {one.rate.high:.3f}], n = {one.rate.n:,} prompts"
    verdict = f"{one.sure} is better" if one.sure else "undecided"
    return f"{one.second} wins {share}: {verdict}"


def counts(one: Result) -> list[tuple[str, int]]:
    """How many of each verdict, in words."""
    return [
        (f"{one.second} is better", one.second_better),
        (f"{one.first} is better", one.first_better),
        ("both are as good", one.ties),
        ("neither will do", one.neither),
        ("prompts to which both say the same: ties that nobody was asked about", one.alike),
        ("questions without an answer yet", one.unanswered),
    ]
