"""redteam --people: people attack two models of a run in the browser, blind."""

from __future__ import annotations

import argparse

from rich.console import Console

from concordant.app.terminal import Terminal
from concordant.evaluation.config import EvaluateConfig
from concordant.feedback.reading.finds import summary
from concordant.feedback.store import Store
from concordant.pipeline.context import store_address
from concordant.pipeline.recipe import Recipe


def let_people_attack(recipe: Recipe, arguments: argparse.Namespace, console: Console) -> int:
    """Serve the page until Ctrl-C, and say what was found so far."""
    from concordant.app.commands.serving import door_of
    from concordant.app.redteam.server import create_app
    from concordant.app.web.server import serve
    from concordant.pipeline.redteam import attack_set
    from concordant.pipeline.two_models import USUAL, TwoModels

    terminal = Terminal(console)
    with Store.open(
        store_address(recipe, arguments.run_folder), durability=recipe.feedback.durability
    ) as store:
        door = door_of(store, arguments, arguments.run_folder)
        models = TwoModels(
            recipe,
            arguments.run_folder,
            arguments.stages or USUAL,
            terminal,
            completion=arguments.tokens or (recipe.evaluate or EvaluateConfig()).completion,
            temperature=arguments.temperature,
        )
        families = attack_set(recipe, arguments.set).families
        app = create_app(
            store, models, train=arguments.train, families=families, owner=door.owner, hosts=door.hosts
        )
        terminal.say(f"two models of {arguments.run_folder}; {_learning(arguments.train)}")
        terminal.say(f"open {door.link(app)}")
        terminal.say("What is reported is kept as it comes. Ctrl-C ends the server.")
        try:
            serve(app, door.host, door.port)
        finally:
            app.state.desk.close()
        terminal.say(_in_words(store))
    return 0


def _learning(train: bool) -> str:
    if train:
        return "the next `concordant run` learns from what is reported"
    return "nothing is learnt from what is reported (--train changes that)"


def _in_words(store: Store) -> str:
    """How much was found, by everybody so far."""
    found = summary(store)
    if found is None:
        return "nobody has said anything"
    counts = f"{found['finds']:,} finds, {found['unique']:,} of them different"
    return f"{counts}, in {found['conversations']:,} conversations"
