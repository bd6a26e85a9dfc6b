"""Questions and votes into a feedback store, and what they say out of it."""

from __future__ import annotations

import argparse
from functools import partial

from rich.console import Console
from rich.text import Text

from concordant.app.commands.checking import SHOWN, class_line
from concordant.app.runs import store_at
from concordant.app.terminal import quiet_libraries, visible
from concordant.feedback.asking.rubric import read_rubric
from concordant.feedback.exchange.asking import Asked, Request, ask_questions
from concordant.feedback.exchange.exporting import Settings, export_view
from concordant.feedback.exchange.importing import ImportedVotes, keep_votes, read_votes
from concordant.feedback.exchange.questions import read_questions
from concordant.feedback.reading.projects import project_named
from concordant.feedback.store import Store

STORE = "feedback.sqlite"


def import_file(arguments: argparse.Namespace, console: Console) -> int:
    """Keep the votes of a file, and say what was found and what was not kept."""
    address = store_at(arguments.store, new=True)
    read = read_votes(
        arguments.file, arguments.format
    )  # first: a file that is no such file leaves no store behind
    with Store.open(address) as store:
        done = keep_votes(store, read)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(done.by_type.items()))
    console.print(Text(f"{visible(arguments.file)}: format {done.format}, {done.rows} rows", style="bold"))
    console.print(f"{kinds} by {done.labelers} labelers", highlight=False)
    console.print(
        f"{done.votes} votes kept, {done.repeated} were here before, {done.tasks} tasks added, "
        f"{done.dropped} left out",
        highlight=False,
    )
    _say_problems(console, done)
    return 0


def ask_file(arguments: argparse.Namespace, console: Console) -> int:
    """Make tasks of the questions of a file, and say what was found and what was no question."""
    address = store_at(arguments.store, new=True)
    read = read_questions(arguments.file)
    wanted = Request(
        arguments.project,
        arguments.purpose,
        arguments.kind,
        read_rubric(arguments.rubric, arguments.kind or "pairwise") if arguments.rubric else None,
        arguments.votes,
        arguments.most_votes,
    )
    with Store.open(address) as store:
        done = ask_questions(store, read, wanted)
    console.print(Text(f"{visible(arguments.file)}: {read.rows} rows", style="bold"))
    console.print(
        f"{done.tasks} questions asked, {done.repeated} were asked before, {done.known} with a known answer, "
        f"{done.dropped} rows left out",
        highlight=False,
    )
    if read.unused:
        console.print(Text(visible(f"columns that are not used: {', '.join(read.unused)}"), style="yellow"))
    _say_problems(console, done)
    console.print(Text(visible(f"concordant label {arguments.store} shows them to people")))
    return 0


def _say_problems(console: Console, done: ImportedVotes | Asked) -> None:
    for kind, n in done.counts.items():
        console.print(Text(f"{n} x {kind}", style="yellow"))
    for problem in done.problems[:SHOWN]:
        console.print(Text(visible(f"  {problem}")))
    if len(done.problems) > SHOWN:
        console.print(f"  and {len(done.problems) - SHOWN} more", highlight=False)


def export_file(arguments: argparse.Namespace, console: Console) -> int:
    """Write a view of the votes, and say how many rows of which columns it has."""
    quiet_libraries()
    settings = partial(
        Settings,
        view=arguments.view,
        layout=arguments.layout,
        turns=arguments.turns,
        mode=arguments.mode,
        ties=arguments.ties,
        threshold=arguments.threshold,
        dimension=arguments.dimension,
    )
    with Store.open(store_at(arguments.store)) as store:
        project = project_named(store, arguments.project).id if arguments.project else None
        done = export_view(store, arguments.out, arguments.format, settings(project=project))
    console.print(
        Text(f"{arguments.out}: {done.rows} rows of {arguments.view}: {', '.join(done.columns)}"),
        highlight=False,
    )
    if done.desirable is not None:
        console.print(class_line(done.desirable, done.rows - done.desirable), highlight=False)
    if done.left_out:
        console.print(
            Text(f"{len(done.left_out)} left out: their text would be read as other turns", style="yellow")
        )
        for key in done.left_out[:SHOWN]:
            console.print(Text(f"  {key}"))
    return 0
