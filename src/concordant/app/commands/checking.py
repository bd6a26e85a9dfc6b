"""The data doctor on the terminal."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from concordant.app.terminal import visible
from concordant.data.doctor.advice import advice_on
from concordant.data.doctor.checkup import CheckReport, Kind, Limit, Origin, Sample, examine
from concordant.data.doctor.cure import Cure, refuse_taken, write_clean
from concordant.data.layouts.account import Problem, place_of
from concordant.data.template import Template, load_tokenizer
from concordant.errors import UserError
from concordant.files import fresh_file

SHOWN = 10  # problems with their line
REPORT = ("path", "line", "column", "kind", "what", "expected", "fix", "left_out")


def check(arguments: argparse.Namespace, console: Console) -> int:
    """Look a data set over, or all those of a recipe; status 2 if a run would refuse one of them."""
    if arguments.fix:
        refuse_taken(arguments.fix)
    if arguments.report:
        _refuse_no_report(arguments.report)
    if arguments.data.endswith(".toml"):
        origins, template, limit = _of_recipe(arguments)
    else:
        origins, template, limit = [_origin(arguments)], *_measure(arguments)
    against = Origin(arguments.against) if arguments.against else None
    fit = True
    reported: list[Path] = []
    for number, origin in enumerate(origins, 1):
        with examine(
            origin, template=template, limit=limit, against=against, samples=arguments.samples
        ) as examination:
            fit &= examination.report.ok
            if arguments.format == "lines":
                for problem in examination.problems():
                    console.print(visible(as_line(problem)), markup=False, highlight=False)
            else:
                show(examination.report, console)
            if arguments.report:
                name = arguments.report if len(origins) == 1 else _numbered(arguments.report, number)
                write_report(name, examination.problems())
                reported.append(name)
            if arguments.fix:
                show_cure(write_clean(examination, arguments.fix), arguments.fix, console)
    if arguments.format != "lines":
        for name in reported:
            console.print(f"every problem with its line: {name}", markup=False, highlight=False)
    return 0 if fit else 2


def _origin(arguments: argparse.Namespace) -> Origin:
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
    kind = None if arguments.kind == "auto" else arguments.kind
    return Origin(arguments.data, kind, split=arguments.split, columns=columns or None)


def _measure(arguments: argparse.Namespace) -> tuple[Template | None, Limit | None]:
    """What tokens are counted with, and how many may be."""
    if arguments.max_length is not None and not arguments.tokenizer:
        raise UserError(
            "a length is counted in tokens, and no tokenizer is given",
            where="--max-length",
            expected="--tokenizer beside it",
            fix="add --tokenizer with the folder or hub name of the model",
        )
    if arguments.max_length is not None and arguments.max_length < 1:
        raise UserError(
            f"{arguments.max_length} tokens are no limit",
            where="--max-length",
            expected="at least 1",
            fix="leave it out where nothing is too long",
        )
    template = Template(load_tokenizer(arguments.tokenizer)) if arguments.tokenizer else None
    limit = Limit(arguments.max_length, arguments.overlong) if arguments.max_length else None
    return template, limit


def _of_recipe(arguments: argparse.Namespace) -> tuple[list[Origin], Template | None, Limit | None]:
    """All files that a recipe names, with its columns, its tokenizer and its limit."""
    from concordant.models.load import context_length_at
    from concordant.pipeline.context import base_path, template_of
    from concordant.pipeline.recipe import load_recipe

    recipe = load_recipe(Path(arguments.data), {})
    root = Path(recipe.data_root)
    origins = [
        Origin(
            str(root / source.path) if (root / source.path).expanduser().exists() else source.path,
            cast(Kind, kind),
            split=source.split,
            columns=source.columns or None,
        )
        for kind, sources in recipe.data.sources.items()
        for source in sources
    ]
    if not origins or (arguments.fix and len(origins) > 1):
        raise UserError(
            f"this recipe names {len(origins)} files",
            where=arguments.data,
            expected="one to write a cleaned copy of" if origins else "files below [data]",
            fix="give the file itself instead of the recipe",
        )
    if not recipe.model.path:
        return origins, None, None
    path = base_path(recipe)
    length = min(recipe.model.length or 2**31, context_length_at(path))
    return origins, template_of(recipe, path), Limit(length, recipe.data.overlong)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _refuse_no_report(path: Path) -> None:
    """Raise UserError where something else than an earlier report would be replaced."""
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        earlier = not first or tuple(json.loads(first)) == REPORT
    except (OSError, ValueError, TypeError):
        earlier = False
    if not earlier:
        raise UserError(
            f"{path} is there already, and it is no report",
            where="--report",
            expected="a new file, or an earlier report to replace",
            fix="choose another name",
        )


def as_record(problem: Problem) -> dict[str, object]:
    """A problem as a line of the report has it."""
    path, _, line, column = place_of(problem.where)
    expected, fix = advice_on(problem.kind)
    values = (
        path,
        max(1, line),
        max(1, column),
        problem.kind,
        problem.detail,
        expected,
        fix,
        problem.dropped,
    )
    return dict(zip(REPORT, values, strict=True))


def as_line(problem: Problem) -> str:
    """A problem as compilers print it, so that editors jump to it."""
    path, _, line, column = place_of(problem.where)
    detail = problem.detail.replace("\n", " ")
    return f"{path}:{max(1, line)}:{max(1, column)}: {problem.kind}: {detail}"


def write_report(path: Path, problems: Iterable[Problem]) -> None:
    """Write all problems as JSON lines."""
    with fresh_file(path) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for problem in problems:
            file.write(json.dumps(as_record(problem), ensure_ascii=False) + "\n")


def show_cure(cure: Cure, out: Path, console: Console) -> None:
    """What became of the rows, in counts that add up."""
    lines = [
        f"{cure.read} rows read: {cure.used} usable, {cure.unusable.total()} not{_listed(cure.unusable)}",
        f"{cure.rows} rows in them: {cure.written} written to {out}, "
        f"{cure.left_out.total()} left out{_listed(cure.left_out)}",
    ]
    if cure.merged:
        lines.append(f"{cure.merged} of those written stand for several that contradicted each other")
    if cure.mended:
        lines.append(f"mended{_listed(cure.mended)}")
    if cure.columns:
        names = ", ".join(sorted(cure.columns))
        lines.append(
            f"columns not looked at, and left out since they would be in the layout written: {names}"
        )
    for line in lines:
        console.print(visible(line), markup=False, highlight=False)


def _listed(counts: Counter[str]) -> str:
    return f" ({', '.join(f'{n} {kind}' for kind, n in counts.items())})" if counts else ""


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
    if report.limit:
        over = {kind: report.counts.get(kind, 0) for kind in ("trimmed", "too long")}
        console.print(
            f"of {report.kept} rows, {sum(over.values())} are longer than {report.limit.length:,} tokens: "
            f"{over['trimmed']} lose the beginning of their prompt, {over['too long']} do not fit",
            highlight=False,
        )
    if report.samples:
        console.print("samples; what is trained on stands ⟦so⟧, in green", highlight=False)
    for sample in report.samples:
        console.print(_marked(sample))
        if sample.rejected:
            console.print(Text(f"  rejected: {visible(sample.rejected)}", style="red"))
    for note in report.notes:
        console.print(Text(f"note: {note}"))
    for kind, n in report.counts.items():
        console.print(Text(f"{n} x {kind}", style="yellow"))
    for problem in report.problems[:SHOWN]:
        console.print(Text(visible(f"  {problem}")))
    more = sum(report.counts.values()) - len(report.problems[:SHOWN])
    if more > 0:
        console.print(f"  and {more} more (--report FILE has all of them)", highlight=False)
    for reason in report.refusals:
        console.print(Text(reason, style="red"))
    verdict = "a run would take this data as it is" if report.ok else "a run would refuse this data"
    console.print(Text(verdict, style="green" if report.ok else "red"))


def _marked(sample: Sample) -> Text:
    """The tokens of a sample, what is trained on marked by colour and, for those who see none, by brackets."""
    line = Text(f"{sample.where}  ", style="dim")
    pieces = sample.pieces or (
        (f"{sample.prompt[-1].content} ", False),
        (sample.completion, bool(sample.completion)),
    )
    inside = False
    for piece, counts in (*pieces, ("", False)):
        if counts != inside:
            line.append("⟦" if counts else "⟧", style="bold green")
        line.append(visible(piece), style="green" if counts else "default")
        inside = counts
    return line
