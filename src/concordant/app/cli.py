"""The command line. Each command is one function; heavy imports happen inside it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from concordant import __version__
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


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each option that has one, line breaks as written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.default is None or action.default == [] or "default" in (action.help or "")
        return action.help if said else super()._get_help_string(action)


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(
        prog="concordant",
        description="Reinforcement learning from human feedback, the whole loop.",
        epilog=EPILOG,
        formatter_class=_Help,
    )
    top.add_argument("--version", action="version", version=f"concordant {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help_text: str, run: str, *options: Callable[[argparse.ArgumentParser], None]) -> None:
        command = commands.add_parser(
            name,
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            formatter_class=_Help,
        )
        command.set_defaults(module=run)
        for option in options:
            option(command)

    add("demo", "run the whole loop on the embedded world", "running:demo", _seed, _where, _overrides)
    add("run", "run or resume all stages of a recipe", "running:run", _recipe, _where, _overrides)
    add(
        "plan",
        "say what a run would do and need, without doing it",
        "planning:plan_only",
        _recipe,
        _where,
        _plan,
        _overrides,
    )
    add("check", "look a data set over before anything is trained on it", "checking:check", _data)
    add(
        "compare",
        "run several algorithms over several seeds, and put them into one table",
        "comparing:compare",
        _recipe,
        _compare,
        _overrides,
    )
    add("evaluate", "measure the models of a run again", "running:evaluate", _run, _overrides)
    add(
        "redteam",
        "attack the models of a run, and say how often it works",
        "redteaming:redteam",
        _run,
        _redteam,
    )
    add("wins", "say which stages of a run, or of several, beat which others", "gating:wins", _run_folders)
    add(
        "gate",
        "say whether the policy of a run may be released (status 0: yes, 1: no, 3: too few data)",
        "gating:gate",
        _run,
    )
    add("report", "write the report of a run", "reporting:report", _run, _against)
    add("chat", "talk to a stage of a run, or to two side by side", "chatting:chat", _run, _chat)
    add(
        "export",
        "copy a model of a run to a folder of its own, with a card",
        "exporting:export",
        _run,
        _export,
    )
    add("label", "let people compare answers in the browser", "labeling:label", _label)
    add(
        "db",
        "back up a feedback store, copy it, bring it up to date, erase a person from it, write it anew",
        "storing:keep",
        _db,
    )
    add(
        "feedback",
        "ask questions of a file, bring votes into a store, take what they say out of it",
        "",
        _feedback,
    )
    add("doctor", "check this machine", "doctoring:doctor")
    return top


def _recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe file (TOML)")


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_folder", type=Path, metavar="RUN", help="a run directory, such as runs/demo")


def _run_folders(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "run_folders", type=Path, nargs="+", metavar="RUN", help="run directories, such as runs/demo"
    )


def _seed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, help="fixes world, weights, data order and samples")


def _where(command: argparse.ArgumentParser) -> None:
    command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all run directories")
    command.add_argument(
        "--run",
        type=Path,
        default=None,
        metavar="DIR",
        help="this run's directory (default: the recipe's name and its overrides, below --runs)",
    )


def _plan(command: argparse.ArgumentParser) -> None:
    command.add_argument("--values", action="store_true", help="every value in force, defaults among them")
    command.add_argument(
        "--probe",
        action="store_true",
        help="measure some steps of every stage (ten seconds, and the start of torch)",
    )
    command.add_argument("--json", action="store_true", help="everything as one JSON object, for scripts")


def _compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all run directories")
    command.add_argument("--seeds", type=_numbers, default="0,1,2", help="seeds, as in 0,1,2")
    command.add_argument(
        "--only", type=_names, default=[], metavar="NAMES", help="sections of [compare], as in dpo,ppo (all)"
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return text.split(",")


def _overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="values that replace those of the recipe, dotted"
    )


def _data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data",
        metavar="DATA",
        help="a file, a folder written by datasets, a hub name; or a recipe (.toml), for all files it names",
    )
    command.add_argument(
        "--kind",
        choices=("auto", "demonstrations", "preferences", "judgements", "prompts"),
        default="auto",
        help="what the rows are; auto = recognise it from the columns",
    )
    command.add_argument(
        "--columns",
        nargs="*",
        default=[],
        metavar="OURS=YOURS",
        help="names of your columns, e.g. chosen=good (default: as they are)",
    )
    command.add_argument(
        "--split", default=None, help="split of a data set with several (default: train, or the only one)"
    )
    command.add_argument(
        "--tokenizer", default=None, metavar="MODEL", help="count tokens with this tokenizer"
    )
    command.add_argument(
        "--max-length",
        type=int,
        default=None,
        metavar="N",
        help="tokens that a prompt and its answer may have",
    )
    command.add_argument(
        "--overlong",
        choices=("trim_prompt_left", "drop", "error"),
        default="trim_prompt_left",
        help="what becomes of longer rows, as data.overlong in a recipe",
    )
    command.add_argument(
        "--against",
        default=None,
        metavar="HELD_OUT",
        help="data that is held out: rows of DATA with one of its prompts are leaks",
    )
    command.add_argument("--samples", type=int, default=3, metavar="N", help="rows to show")
    command.add_argument(
        "--format",
        choices=("full", "lines"),
        default="full",
        help="lines: nothing but path:line:column: what, for editors",
    )
    command.add_argument(
        "--report",
        type=Path,
        default=None,
        metavar="FILE",
        help="write every problem to this file, as JSON lines",
    )
    command.add_argument(
        "--fix", type=Path, default=None, metavar="OUT", help="write a cleaned copy to this new file (.jsonl)"
    )


def _against(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--against",
        type=Path,
        default=None,
        metavar="RUN",
        help="another run to compare with (default: the run of the same recipe without overrides, if any)",
    )


def _chat(command: argparse.ArgumentParser) -> None:
    stages = ("base", "sft", "policy")
    command.add_argument("--stage", choices=stages, default="policy", help="whom to talk to")
    command.add_argument(
        "--compare", choices=stages, default=None, help="a second one, side by side (default: nobody)"
    )
    command.add_argument(
        "--temperature", type=float, default=1.0, help="sampling temperature; 0 = most likely"
    )
    command.add_argument("--tokens", type=int, default=128, help="most tokens of an answer")
    command.add_argument("--seed", type=int, default=0, help="fixes the answers")


def _redteam(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--stages",
        type=_names,
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
        type=_names,
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
        "--chain", type=_names, default=[], metavar="NAMES", help="one more family: these converters in a row"
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


def _export(command: argparse.ArgumentParser) -> None:
    command.add_argument("destination", type=Path, metavar="FOLDER", help="a new folder")
    command.add_argument(
        "--stage", choices=("base", "sft", "reward", "policy"), default="policy", help="which model"
    )


def _label(command: argparse.ArgumentParser) -> None:
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
    _rubric(command)
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
    command.add_argument("--port", type=int, default=0, help="port to listen on; 0 = a free one")
    command.add_argument(
        "--share",
        action="store_true",
        help="listen on all addresses, for people with a password (default: on this machine alone)",
    )
    command.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="with --share: a name this server answers to (all)",
    )


def _rubric(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--rubric",
        type=Path,
        default=None,
        metavar="FILE",
        help="ask what this file says (default: as `concordant feedback rubric` prints)",
    )


def _db(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "action",
        choices=("backup", "copy", "upgrade", "erase", "compact"),
        help="backup: one SQLite file, while others go on; copy: to a new store, SQLite or PostgreSQL; "
        "upgrade: to the layout of this version, after a backup; erase: forget a person, their votes stay "
        "without a name; compact: write the file anew, without what was erased or taken back",
    )
    command.add_argument(
        "--labeler", default="", metavar="NAME", help="erase: whom, by the name that the pages show"
    )
    command.add_argument("--yes", action="store_true", help="erase: for good; without it nothing is done")
    command.add_argument("store", metavar="STORE", help="a run directory, an SQLite file, or an address")
    command.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="backup, copy: a new file; copy: or an empty database",
    )


def _feedback(command: argparse.ArgumentParser) -> None:
    verbs = command.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, help_text, run, option in (
        ("ask", "ask people the questions of a file", "exchanging:ask_file", _questions_in),
        ("import", "keep the votes of a file in a store", "exchanging:import_file", _votes_in),
        ("export", "write what the votes of a store say to a file", "exchanging:export_file", _votes_out),
        ("result", "say which of two stages people prefer", "judging:say_results", _of_project),
        ("agreement", "say how far the labelers of a store agree", "agreeing:agree", _agreement),
        ("rubric", "print what labelers are asked, as a file to edit", "rubrics:print_rubric", _nothing_more),
    ):
        said = help_text[0].upper() + help_text[1:] + "."
        verb = verbs.add_parser(name, help=help_text, description=said, formatter_class=_Help)
        verb.set_defaults(module=run)
        store_help = "a run directory, an SQLite file, or an address"
        verb.add_argument("store", metavar="STORE", help=store_help, nargs="?" if name == "rubric" else None)
        option(verb)


def _of_project(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--project", default=None, metavar="NAME", help="of this project alone (default: of all)"
    )


def _nothing_more(_verb: argparse.ArgumentParser) -> None:
    """No options."""


def _agreement(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--most",
        type=int,
        default=None,
        metavar="N",
        help="of the board: a labeler's votes weigh at most as N",
    )


def _votes_in(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", metavar="FILE", help="JSONL, JSON, CSV, Parquet, or a folder of these")
    verb.add_argument(
        "--format",
        default=None,
        metavar="NAME",
        help="a format of docs/feedback-formats.md (default: recognised from the columns)",
    )


def _questions_in(verb: argparse.ArgumentParser) -> None:
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
    _rubric(verb)
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
