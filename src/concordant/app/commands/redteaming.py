"""The red team of a run on the terminal: how often each family of attacks succeeds, stage beside stage."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from concordant.app.commands.attacking import let_people_attack
from concordant.app.runs import recipe_of
from concordant.app.terminal import Terminal, quiet_libraries
from concordant.errors import UserError
from concordant.evaluation.config import EvaluateConfig
from concordant.evaluation.redteam.attacks import Effort
from concordant.evaluation.redteam.figures import ALL, Family, Share
from concordant.evaluation.redteam.judges import LEAST_INFORMATION, Errors
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.lock import locked
from concordant.pipeline.recipe import load_recipe, parse_overrides

if TYPE_CHECKING:
    from concordant.evaluation.intervals import Mean
    from concordant.pipeline.redteam import Findings

OF_PEOPLE = ("train", "port", "share", "name")  # options of the page on which people attack
OF_PROGRAMS = ("families", "file", "chain", "requests", "judge", "finds")  # and of attacks by the program
NOTABLE = 3.0  # standard errors by which a family has to be worse to be named


def redteam(arguments: argparse.Namespace, console: Console) -> int:
    """Attack the stages of a run and print the table of families."""
    _check(arguments)
    recipe_path, words = recipe_of(arguments.run_folder)
    recipe = load_recipe(recipe_path, parse_overrides(words))
    quiet_libraries()
    if arguments.people:
        return let_people_attack(recipe, arguments, console)
    from concordant.pipeline.redteam import FOLDER, attack_set, attack_stages, found_by_people

    finds = found_by_people(recipe, arguments.run_folder) if arguments.finds else ()
    chosen = attack_set(recipe, arguments.set, arguments.file, finds)
    if arguments.families:
        chosen = chosen.only(arguments.families)
    if arguments.chain:
        chosen = chosen.with_chain(arguments.chain)
    effort = Effort(
        attempts=arguments.attempts,
        most=arguments.requests,
        completion=arguments.tokens or (recipe.evaluate or EvaluateConfig()).completion,
        temperature=arguments.temperature,
        seed=arguments.seed,
    )
    folder = arguments.run_folder / FOLDER
    terminal = Terminal(console)
    try:
        with locked(folder, terminal.say), StopRequest().listening() as stop:
            findings = attack_stages(
                recipe, arguments.run_folder, arguments.stages, chosen, effort, terminal,
                judge=arguments.judge, stop=stop,
            )  # fmt: skip
    except Interrupted:
        terminal.say("stopped; the same command goes on from here")
        return 0
    console.print(table(findings))
    for line in remarks(findings):
        terminal.say(line)
    terminal.say(f"records: {folder}/*/samples.jsonl, figures: {folder / 'results.json'}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse numbers that ask for nothing, and options that would do nothing."""
    for option in ("attempts", "requests", "tokens"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise _refused(f"--{option} {value}", "1 or more", f"leave --{option} out")
    if not arguments.temperature > 0:
        raise _refused(f"--temperature {arguments.temperature}", "more than 0", "leave --temperature out")
    for option in OF_PROGRAMS if arguments.people else ():
        if getattr(arguments, option):
            raise _refused(f"--{option} with --people", "attacks of people alone", f"leave --{option} out")
    for option in () if arguments.people else OF_PEOPLE:
        if getattr(arguments, option):
            raise _refused(f"--{option} without --people", "a page for people", f"leave --{option} out")


def _refused(what: str, expected: str, fix: str) -> UserError:
    return UserError(what, where="the command line", expected=expected, fix=fix)


def table(findings: Findings) -> Table:
    """One line for each family: attacks that succeed and look-alikes failed, of every stage, in per cent."""
    stages, changes = findings.families, findings.changes
    drawn = Table(
        title="red team: % of attacks that succeed [95 % interval]", title_justify="left", box=SIMPLE
    )
    drawn.add_column("family")
    for stage in stages:
        drawn.add_column(stage, justify="right")
        drawn.add_column("look-alikes failed", justify="right", style="dim")
    drawn.add_column("n, requests", justify="right")
    if changes:
        drawn.add_column("change", justify="right")
    for name in dict.fromkeys(name for families in stages.values() for name in families):
        rows = [families[name] for families in stages.values()]
        cells = [cell for row in rows for cell in (_attacks(row), in_words(row.lookalikes))]
        counted = f"{rows[0].attacks.n}, {rows[0].attacks.requests}"
        drawn.add_row(name, *cells, counted, *([_change(changes.get(name))] if changes else []))
    drawn.caption = (
        "look-alikes fail by being refused or denied; (≤ b): none failed, rates above b are ruled out at 95 %"
    )
    return drawn


def _attacks(family: Family) -> str:
    """Its attacks, and behind an arrow what is left of them where the errors of a judge are corrected for."""
    found = family.corrected
    return in_words(family.attacks) + (f" → {_percent(found.mean)} ± {_percent(found.half)}" if found else "")


def in_words(share: Share) -> str:
    """A share in per cent and its interval; where nothing failed, how much it is at most."""
    if not share.n:
        return "–"
    if share.none_failed:
        return f"0 (≤ {_percent(share.high)})"
    undecided = f" + {share.open} open" if share.open else ""
    rate = _percent(share.rate) if share.n > share.open else "?"
    return f"{rate}{undecided} [{_percent(share.low)}, {_percent(share.high)}]"


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 else 1}f}"


def _change(change: Mean | None) -> str:
    """A difference in points; without its half-width where all were alike and nothing is known of the spread."""
    if change is None:
        return ""
    half = f" ± {100 * change.half:.0f}" if change.se else ""
    return f"{100 * change.mean:+z.0f}{half}"


def remarks(findings: Findings) -> list[str]:
    """What the table does not show."""
    lines = []
    for name, change in findings.changes.items():
        if change.mean > 0 and change.mean > NOTABLE * change.se:
            last = list(findings.records)[-1]
            lines.append(
                f"{last} is worse at {name}: {100 * change.mean:+.1f} points, more than {NOTABLE:g} se"
            )
    for stage, records in findings.records.items():
        lines += _of_stage(stage, findings.families[stage], [r.verdict.by for r in records if r.answers])
    return lines + ([_of_judge(findings.errors)] if findings.errors else [])


def _of_judge(errors: Errors) -> str:
    """How far the judge is to be trusted."""
    s, t = errors.sensitivity, errors.specificity
    if not s.n or not t.n:
        return f"the judge cannot be measured: it read {s.n:.0f} exact successes and {t.n:.0f} other exact outcomes"
    known = f"the judge sees {s.rate:.1%} of {s.n:.0f} exact successes and clears {t.rate:.1%} of {t.n:.0f} others"
    if errors.information < LEAST_INFORMATION:
        return f"{known}: its verdicts say next to nothing"
    return f"{known}; behind the arrows are rates corrected for that"


def _of_stage(stage: str, families: Mapping[str, Family], decided: list[str]) -> list[str]:
    counts = ", ".join(f"{decided.count(by):,} by {by or 'nobody yet'}" for by in dict.fromkeys(decided))
    left_out = sum(row.left_out for name, row in families.items() if name != ALL)
    lines = [f"{stage}: verdicts {counts}"] if decided else []
    if left_out:
        lines.append(f"{stage}: {left_out} conversations are longer than its context and were left out")
    return lines
