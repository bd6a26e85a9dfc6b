"""feedback rubric: what labelers are asked, as a file to be edited."""

from __future__ import annotations

import argparse

from rich.console import Console

from concordant.app.runs import store_at
from concordant.app.terminal import visible
from concordant.feedback.asking.rubric import DEFAULT_RUBRIC, latest_rubric, written_out
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.store import Store


def print_rubric(arguments: argparse.Namespace, console: Console) -> int:
    """Print the rubric under which a store asked last; without a store the one where none is given."""
    rubric = DEFAULT_RUBRIC
    if arguments.store:
        with Store.open(store_at(arguments.store)) as store, store.reading() as connection:
            rubric = latest_rubric(connection, DEFAULT_PROJECT)
    console.print(visible(written_out(rubric)), end="", markup=False, highlight=False)
    return 0
