"""Options of `concordant label`."""

from __future__ import annotations

import argparse

from concordant.app.options.shared import door, rubric


def label(command: argparse.ArgumentParser) -> None:
    """What is asked, of whom, and on which port."""
    command.add_argument("store", metavar="RUN", help="a run directory, an SQLite file, or an address")
    command.add_argument(
        "--more",
        type=int,
        default=0,
        metavar="N",
        help="ask one more labeler for N answered questions (default: 200 where none is open)",
    )
    command.add_argument(
        "--select",
        choices=("random", "uncertainty", "disagreement", "fisher", "coreset", "gap"),
        default="random",
        help="which of them: at random; where the run's reward model is least sure; where a committee of its last "
        "layers contradicts itself; where an answer says most about it; questions as unlike one another as can be; "
        "where it sees the largest difference. A share is always drawn at random",
    )
    for name, what in (
        ("--edit", "ask for better versions of N answers, those that the votes like best"),
        (
            "--rate",
            "ask for ratings of the answers to N prompts, all in all or by the dimensions of --rubric",
        ),
        ("--write", "ask for people's own answers to N prompts"),
    ):
        command.add_argument(name, type=int, default=0, metavar="N", help=what)
    rubric(command)
    command.add_argument(
        "--compare",
        nargs=2,
        default=None,
        metavar="STAGE",
        help="let people compare the answers of two stages, blind, as in --compare sft policy",
    )
    command.add_argument(
        "--prompts",
        type=int,
        default=None,
        metavar="N",
        help="with --compare: prompts kept out of training (default: those of the evaluate stage)",
    )
    command.add_argument(
        "--votes",
        type=int,
        default=None,
        metavar="N",
        help="with --compare: labelers for each pair (default: 1)",
    )
    command.add_argument(
        "--durability",
        choices=("normal", "full"),
        default=None,
        help="votes survive a killed server, or a power cut too (default: as the run's recipe says, or normal)",
    )
    door(command)
