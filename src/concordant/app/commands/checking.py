"""The data doctor on the terminal."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table
from rich.text import Text

from concordant.app.terminal import visible
from concordant.data.doctor import CheckReport
from concordant.data.doctor import check as examine
from concordant.errors import UserError

SHOWN = 10  # problems with their line


def check(arguments: argparse.Namespace, console: Console) -> int:
    """Look a data set over; status 2 if a run would refuse it."""
    columns = {}
    for word in arguments.columns:
        ours, equals, yours = word.partition("=")
        if not equals:
            raise UserError(
                f"{word!r} is not a mapping",
                where="--columns",
                expected="OURS=YOURS",
                fix="write it like chosen=good",
            )
        columns[ours] = yours
    template = None
    if arguments.tokenizer:
        from concordant.data.template import Template, load_tokenizer

        template = Template(load_tokenizer(arguments.tokenizer))
    report = examine(
        arguments.data,
        None if arguments.kind == "auto" else arguments.kind,
        split=arguments.split,
        columns=columns or None,
        template=template,
    )
    show(report, console)
    return 0 if report.ok else 2


def class_line(good: int, bad: int) -> str:
    """How many judgements are good and bad, and the weight that brings them into the range KTO wants."""
    line = f"{good} desirable, {bad} undesirable"
    if not good or not bad:
        return f"{line}: KTO needs some of each"
    line += f", ratio {good / bad:.2f}"
    if 1 <= good / bad <= 4 / 3:
        return line
    weight = f"desirable_weight={bad / good:.3g}" if good < bad else f"undesirable_weight={good / bad:.3g}"
    return f"{line}; KTO wants 1 to 1.33 once they are weighted, as with policy.{weight}"


def show(report: CheckReport, console: Console) -> None:
    """Layout, counts, lengths, samples with what is learnt from marked, and problems with their line."""
    console.print(Text(f"{report.source}: {report.kind}, layout {report.layout}", style="bold"))
    console.print(
        f"{report.read} rows read, {report.kept} usable, {report.dropped} left out, "
        f"{report.prompts} different prompts",
        highlight=False,
    )
    if report.desirable is not None:
        console.print(class_line(report.desirable, report.kept - report.desirable), highlight=False)
    if report.unused_columns:
        console.print(Text(f"columns not looked at: {', '.join(report.unused_columns)}"))
    table = Table()
    for column in ("length of", "unit", "p5", "median", "p95", "longest"):
        table.add_column(column, justify="left" if column in ("length of", "unit") else "right")
    for unit, lengths in (("characters", report.characters), ("tokens", report.tokens)):
        for name, row in lengths.items():
            table.add_row(name, unit, f"{row.p5}", f"{row.p50}", f"{row.p95}", f"{row.longest}")
    console.print(table)
    for sample in report.samples:
        line = Text(f"{sample.where}  ", style="dim")
        pieces = sample.pieces or ((f"{sample.prompt[-1].content} ", False), (sample.completion, True))
        for piece, counts in pieces:
            line.append(visible(piece), style="green" if counts else "default")
        console.print(line)
        if sample.rejected:
            console.print(Text(f"  rejected: {visible(sample.rejected)}", style="red"))
    for note in report.notes:
        console.print(Text(f"note: {note}"))
    for kind, n in report.counts.items():
        console.print(Text(f"{n} x {kind}", style="yellow"))
    for problem in report.problems[:SHOWN]:
        console.print(Text(visible(f"  {problem}")))
    if len(report.problems) > SHOWN:
        console.print(f"  and {len(report.problems) - SHOWN} more", highlight=False)
    verdict = "a run would take this data as it is" if report.ok else "a run would refuse this data"
    console.print(Text(verdict, style="green" if report.ok else "red"))
