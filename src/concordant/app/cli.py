"""The command line. Each command is one function; heavy imports happen inside it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from concordant import __version__
from concordant.app.options.attacks import redteam
from concordant.app.options.data import data
from concordant.app.options.entry import Entry, Help, add_entries
from concordant.app.options.feedback import feedback
from concordant.app.options.labeling import label
from concordant.app.options.models import card, chat, destination, report_form
from concordant.app.options.running import compare, plan
from concordant.app.options.shared import overrides, recipe, run, run_folders, seed, where
from concordant.app.options.storing import db
from concordant.app.options.tax import inspect, tax
from concordant.app.options.tracking import track
from concordant.app.terminal import Steadfast, visible
from concordant.errors import UserError

Command = Callable[[argparse.Namespace, Console], int]

EPILOG = """\
examples:
  concordant demo                                    the whole loop on the embedded world
  concordant run recipes/demo.toml seed=1            the same with another seed
  concordant run my.toml policy.kl_coef=0.1          your recipe, one value changed
  concordant chat runs/demo --compare base           the policy beside the base model
"""


COMMANDS = (
    Entry("demo", "run the whole loop on the embedded world", "running:demo", (seed, where, overrides)),
    Entry("run", "run or resume all stages of a recipe", "running:run", (recipe, where, overrides)),
    Entry(
        "plan",
        "say what a run would do and need, without doing it",
        "planning:plan_only",
        (recipe, where, plan, overrides),
    ),
    Entry("check", "look a data set over before anything is trained on it", "checking:check", (data,)),
    Entry(
        "compare",
        "run several algorithms over several seeds, and put them into one table",
        "comparing:compare",
        (recipe, compare, overrides),
    ),
    Entry("evaluate", "measure the models of a run again", "running:evaluate", (run, overrides)),
    Entry(
        "redteam",
        "attack the models of a run, and say how often it works",
        "redteaming:redteam",
        (run, redteam),
    ),
    Entry(
        "tax",
        "ask the stages of a run tasks of lm-evaluation-harness, and say what got worse",
        "taxing:tax",
        (run, tax),
    ),
    Entry(
        "inspect",
        "write what the models of a run said as logs for the viewer of inspect",
        "inspecting:inspect",
        (run, inspect),
    ),
    Entry(
        "wins", "say which stages of a run, or of several, beat which others", "gating:wins", (run_folders,)
    ),
    Entry(
        "gate",
        "say whether the policy of a run may be released (status 0: yes, 1: no, 3: too few data)",
        "gating:gate",
        (run,),
    ),
    Entry(
        "report",
        "write the report of a run, or one page about several",
        "reporting:report",
        (run_folders, report_form),
    ),
    Entry(
        "track",
        "tell trackers of a run (tensorboard, wandb, mlflow, trackio) what they do not know yet",
        "tracking:track",
        (run, track),
    ),
    Entry("chat", "talk to a stage of a run, or to two side by side", "chatting:chat", (run, chat)),
    Entry(
        "export",
        "copy a model of a run to a folder of its own, with a card",
        "exporting:export",
        (run, destination, card),
    ),
    Entry("card", "write the card of a model of a run, for the hub", "exporting:card", (run, card)),
    Entry("label", "let people compare answers in the browser", "labeling:label", (label,)),
    Entry(
        "db",
        "back up a feedback store, copy it, bring it up to date, erase a person from it, write it anew",
        "storing:keep",
        (db,),
    ),
    Entry(
        "feedback",
        "ask questions of a file, bring votes into a store, take what they say out of it",
        "",
        (feedback,),
    ),
    Entry("doctor", "check this machine", "doctoring:doctor"),
)


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(
        prog="concordant",
        description="Reinforcement learning from human feedback, the whole loop.",
        epilog=EPILOG,
        formatter_class=Help,
    )
    top.add_argument("--version", action="version", version=f"concordant {__version__}")
    add_entries(top, COMMANDS, dest="command")
    return top


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; overrides may stand behind options, where argparse by itself does not look for them."""
    top = parser()
    arguments, rest = top.parse_known_args(argv)
    if rest and (not hasattr(arguments, "overrides") or any(word.startswith("-") for word in rest)):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 2 for a mistake the user can mend; `gate` has others of its own."""
    arguments = parse(argv)
    # Threads that spin long before they sleep are many times slower beside another process; those that sleep
    # at once are slower on an idle machine (benchmarks/threads.py). Read when torch is first imported: not yet.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    console = Steadfast(soft_wrap=True)
    try:
        return _command(arguments.module)(arguments, console)
    except UserError as error:
        Steadfast(stderr=True, soft_wrap=True).print(
            visible(f"error: {error}"), markup=False, highlight=False
        )
        return 2
    except KeyboardInterrupt:
        return 130


def _command(name: str) -> Command:
    from importlib import import_module

    module, function = name.split(":")
    command: Any = getattr(import_module(f"concordant.app.commands.{module}"), function)
    return command  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
