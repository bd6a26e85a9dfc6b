"""A command or verb, as a line of a table: its name, what it does, the function that does it, its options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Option = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True)
class Entry:
    """One line of a table of commands."""

    name: str
    help: str
    run: str  # MODULE:FUNCTION of app/commands; empty where verbs say it
    options: tuple[Option, ...] = ()


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each option that has one, line breaks as written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.default is None or action.default == [] or "default" in (action.help or "")
        return action.help if said else super()._get_help_string(action)


def add_entries(command: argparse.ArgumentParser, entries: Iterable[Entry], *, dest: str) -> None:
    """Give a command these sub-commands; the one chosen is kept under `dest`, its function under `module`."""
    choices = command.add_subparsers(dest=dest, required=True, metavar=dest.upper())
    for entry in entries:
        said = entry.help[0].upper() + entry.help[1:] + "."
        chosen = choices.add_parser(entry.name, help=entry.help, description=said, formatter_class=Help)
        chosen.set_defaults(module=entry.run)
        for option in entry.options:
            option(chosen)
