"""label: people compare the answers of a run in the browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from concordant.app.commands.judging import compare_stages
from concordant.app.runs import recipe_of, store_at
from concordant.errors import UserError
from concordant.feedback.asking.questions import ask_more
from concordant.feedback.asking.rubric import read_rubric
from concordant.feedback.database.engine import Durability
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.projects import projects
from concordant.feedback.store import Store
from concordant.pipeline.recipe import load_recipe, parse_overrides

AGAIN = 200  # questions opened again where all have been answered


def label(arguments: argparse.Namespace, console: Console) -> int:
    """Serve the labeling page until Ctrl-C."""
    from concordant.app.commands.serving import door_of
    from concordant.app.label.server import create_app
    from concordant.app.web.server import serve

    if not arguments.compare and (arguments.prompts or arguments.votes):
        option = "--prompts" if arguments.prompts else "--votes"
        raise UserError(
            f"{option} without --compare",
            where="the command line",
            expected="two stages whose answers are compared",
            fix="add --compare sft policy",
        )
    address = store_at(arguments.store)
    with Store.open(address, durability=arguments.durability or _durability(arguments.store)) as store:
        if arguments.compare:
            compare_stages(store, arguments, console)
        door = door_of(store, arguments, arguments.store)
        app = create_app(store, owner=door.owner, hosts=door.hosts)
        all_done = any(one.id == DEFAULT_PROJECT and one.finished == one.tasks for one in projects(store))
        asked = ask_for_words(store, arguments, console)
        again = arguments.more or (all_done and not asked and not arguments.compare)
        if arguments.rubric and not (again or asked):
            raise UserError(
                "nothing is asked under this rubric: there are open questions, and they keep theirs",
                where=str(arguments.rubric),
                expected="an option that asks something",
                fix="add --more 100, --edit, --rate or --write",
            )
        if again:
            n = open_again(store, arguments)
            console.print(f"{n} answered questions want one more labeler", highlight=False)
        console.print(f"labeling {address}", markup=False, highlight=False)
        console.print(f"open {door.link(app)}", markup=False, highlight=False)
        console.print("Votes are kept as they come. Ctrl-C ends the server.", highlight=False)
        serve(app, door.host, door.port)
    return 0


def _durability(store: str) -> Durability:
    """What the recipe of a run says; of a store by itself nobody says anything."""
    if not (Path(store) / "run.json").is_file():
        return "normal"
    recipe_path, words = recipe_of(Path(store))
    return load_recipe(recipe_path, parse_overrides(words)).feedback.durability


def ask_for_words(store: Store, arguments: argparse.Namespace, console: Console) -> int:
    """Ask for edits, ratings and answers as the options say; how many questions there are more."""
    total = 0
    for kind, n in (
        ("edit", arguments.edit),
        ("rating", arguments.rate),
        ("demonstration", arguments.write),
    ):
        if n:
            rubric = read_rubric(arguments.rubric, kind) if arguments.rubric else None
            added = ask_more(store, kind, n, rubric=rubric)
            total += added
            console.print(f"{added} more questions of kind {kind}", highlight=False)
    return total


def open_again(store: Store, arguments: argparse.Namespace) -> int:
    """Let answered questions be answered by one more labeler."""
    from concordant.pipeline.selecting import ask_again

    run_folder = Path(arguments.store) if Path(arguments.store).is_dir() else None
    recipe = None
    if run_folder is not None and arguments.select != "random":
        recipe_path, words = recipe_of(run_folder)
        recipe = load_recipe(recipe_path, parse_overrides(words))
    n = arguments.more or AGAIN
    rubric = read_rubric(arguments.rubric) if arguments.rubric else None
    return ask_again(
        store, DEFAULT_PROJECT, n, arguments.select, recipe=recipe, run_folder=run_folder, rubric=rubric
    )
