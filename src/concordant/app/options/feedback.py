"""The verbs of `concordant feedback`, and their options."""

from __future__ import annotations

import argparse
from pathlib import Path

from concordant.app.options.entry import Entry, add_entries
from concordant.app.options.shared import rubric

STORE = "a run directory, an SQLite file, or an address"


def feedback(command: argparse.ArgumentParser) -> None:
    """What is done with votes and questions."""
    add_entries(command, VERBS, dest="verb")


def _store(verb: argparse.ArgumentParser) -> None:
    """The store of which a verb speaks."""
    verb.add_argument("store", metavar="STORE", help=STORE)


def _any_store(verb: argparse.ArgumentParser) -> None:
    """A store, where the verb has something to say without one."""
    verb.add_argument("store", metavar="STORE", help=STORE, nargs="?")


def _of_project(verb: argparse.ArgumentParser) -> None:
    """One project."""
    verb.add_argument(
        "--project", default=None, metavar="NAME", help="of this project alone (default: of all)"
    )


def _agreement(verb: argparse.ArgumentParser) -> None:
    """How the board is made."""
    verb.add_argument(
        "--most",
        type=int,
        default=None,
        metavar="N",
        help="of the board: a labeler's votes weigh at most as N",
    )


def _votes_in(verb: argparse.ArgumentParser) -> None:
    """Votes of others."""
    verb.add_argument("file", metavar="FILE", help="JSONL, JSON, CSV, Parquet, or a folder of these")
    verb.add_argument(
        "--format",
        default=None,
        metavar="NAME",
        help="a format of docs/feedback-formats.md (default: recognised from the columns)",
    )


def _questions_in(verb: argparse.ArgumentParser) -> None:
    """Questions of a file."""
    verb.add_argument(
        "file",
        metavar="FILE",
        help="JSONL, JSON, CSV, Parquet, or a folder of these: a prompt and its answers",
    )
    verb.add_argument("--project", required=True, metavar="NAME", help="the project in which they are asked")
    verb.add_argument(
        "--purpose",
        choices=("training", "evaluation"),
        default="training",
        help="what the votes are for; a run never learns from those of an evaluation",
    )
    verb.add_argument(
        "--kind",
        choices=("pairwise", "ranking", "rating", "edit", "demonstration"),
        default=None,
        help="what is asked (default: two answers pairwise, three to nine as a ranking, one as a rating); edit: make "
        "the one answer better; demonstration: write an answer to a prompt that has none",
    )
    rubric(verb)
    verb.add_argument(
        "--votes",
        type=int,
        default=None,
        metavar="N",
        help="labelers for each question (default: the project's, or 1)",
    )
    verb.add_argument(
        "--most-votes",
        type=int,
        default=None,
        metavar="N",
        help="where they disagree two more are asked, up to this many; then a lead decides (default: never)",
    )


def _votes_out(verb: argparse.ArgumentParser) -> None:
    """What is taken out of a store, and how it is written."""
    verb.add_argument("out", type=Path, metavar="OUT", help="a new file, or folder for datasets")
    verb.add_argument(
        "--view",
        choices=("preferences", "kto", "sft", "prompts", "votes"),
        default="preferences",
        help="pairs; good and bad answers; answers to imitate; prompts; or the raw votes, to be imported again",
    )
    verb.add_argument(
        "--format", choices=("jsonl", "parquet", "datasets"), default="jsonl", help="kind of file"
    )
    verb.add_argument(
        "--layout",
        choices=("explicit", "implicit"),
        default="explicit",
        help="of preferences: prompt, chosen, rejected; or chosen and rejected as whole conversations",
    )
    verb.add_argument(
        "--turns", choices=("messages", "strings"), default="messages", help="how conversations are written"
    )
    verb.add_argument(
        "--mode",
        choices=("each", "majority", "posterior"),
        default="each",
        help="of preferences: per vote; per pair, by the majority or as training reads it",
    )
    verb.add_argument(
        "--ties", choices=("drop", "half"), default="drop", help="of preferences: left out, or p_chosen 0.5"
    )
    verb.add_argument(
        "--dimension",
        default="",
        metavar="NAME",
        help="of preferences and kto: what votes say of this dimension of the rubric, not of the whole",
    )
    verb.add_argument(
        "--threshold", type=float, default=4.0, help="ratings (1 to 7) from here on are good: kto and sft"
    )
    verb.add_argument(
        "--project",
        default=None,
        metavar="NAME",
        help="of this project alone (default: all that is for training)",
    )


VERBS = (
    Entry("ask", "ask people the questions of a file", "exchanging:ask_file", (_store, _questions_in)),
    Entry("import", "keep the votes of a file in a store", "exchanging:import_file", (_store, _votes_in)),
    Entry(
        "export",
        "write what the votes of a store say to a file",
        "exchanging:export_file",
        (_store, _votes_out),
    ),
    Entry("result", "say which of two stages people prefer", "judging:say_results", (_store, _of_project)),
    Entry("agreement", "say how far the labelers of a store agree", "agreeing:agree", (_store, _agreement)),
    Entry(
        "rubric", "print what labelers are asked, as a file to edit", "rubrics:print_rubric", (_any_store,)
    ),
)
