"""Options of `concordant redteam`."""

from __future__ import annotations

import argparse

from concordant.app.options.shared import door, names


def redteam(command: argparse.ArgumentParser) -> None:
    """Whom to attack, with what, and who judges."""
    command.add_argument(
        "--stages",
        type=names,
        default=[],
        metavar="NAMES",
        help="whom to attack, as in base,policy (default: sft and policy as far as they are finished, else base)",
    )
    command.add_argument(
        "--set",
        choices=("town", "english"),
        default="",
        help="which attacks (default: the town's for a run of the town, else english)",
    )
    command.add_argument(
        "--families",
        type=names,
        default=[],
        metavar="NAMES",
        help="some of its families, as in direct,prefill (all)",
    )
    command.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="FILE",
        help="attack with the requests of this file (HarmBench, XSTest, StrongREJECT, Do-Not-Answer) in English",
    )
    command.add_argument(
        "--chain", type=names, default=[], metavar="NAMES", help="one more family: these converters in a row"
    )
    command.add_argument("--attempts", type=int, default=4, metavar="N", help="conversations of each attack")
    command.add_argument(
        "--requests", type=int, default=None, metavar="N", help="requests of each way to put them (all)"
    )
    command.add_argument(
        "--tokens",
        type=int,
        default=None,
        metavar="N",
        help="most tokens of an answer (default: as evaluate has it)",
    )
    command.add_argument("--temperature", type=float, default=1.0, help="sampling temperature")
    command.add_argument("--seed", type=int, default=0, help="fixes the answers")
    command.add_argument(
        "--judge",
        default="",
        metavar="MODEL",
        help="a model that reads the answers on which rules are silent (default: nobody)",
    )
    command.add_argument(
        "--finds", action="store_true", help="attack with what people have found in this run (--people)"
    )
    command.add_argument(
        "--people",
        action="store_true",
        help="let people attack two models in the browser, blind, and report what fails",
    )
    command.add_argument(
        "--train",
        action="store_true",
        help="with --people: the next `concordant run` learns from what they report (default: nothing does)",
    )
    door(command)
