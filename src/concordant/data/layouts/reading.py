"""Reading a data set, from a file, a folder or the hub: one function for each kind of row.

The first row shows the layout, and all rows are read by it. What is left out or mended is a `Problem`;
where reading is strict, mistakes in the data are one `UserError` that names the first of them. `Reading` is the
same a row at a time, for files that are larger than memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

from concordant.data.layouts.account import MISTAKES, MOST_IDENTICAL, BadRow, Loaded, Place, Problem, Row
from concordant.data.layouts.demonstrations import DEMONSTRATIONS
from concordant.data.layouts.documents import DOCUMENTS
from concordant.data.layouts.judgements import JUDGEMENTS
from concordant.data.layouts.layout import Layout, check_columns, recognise, renamed, unknown_layout
from concordant.data.layouts.preferences import PREFERENCES
from concordant.data.layouts.prompts import PROMPTS
from concordant.data.sources import RawRow, read_rows
from concordant.data.types import Demonstration, Document, Judgement, Preference, Prompt
from concordant.errors import UserError


def read_demonstrations(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Loaded[Demonstration]:
    """Read prompts with an answer to imitate; of preference pairs the chosen side.

    Of a conversation the last assistant turn is the completion and all turns before it are the prompt.
    `columns` maps our names to those of the source. Mistakes in the data raise UserError when `strict`,
    and are counted otherwise; no usable row at all is always an error.
    """
    return _read(source, root, split, columns, strict, DEMONSTRATIONS)


def read_judgements(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Loaded[Judgement]:
    """Read answers with a label that calls them good or bad. The rest as in `read_demonstrations`."""
    return _read(source, root, split, columns, strict, JUDGEMENTS)


def read_preferences(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Loaded[Preference]:
    """Read pairs of answers to the same prompt.

    Pairs whose sides are equal are dropped and counted, and an error above 5 % when `strict`. The rest as
    in `read_demonstrations`.
    """
    loaded: Loaded[Preference] = _read(source, root, split, columns, strict, PREFERENCES)
    identical = loaded.counts.get("identical", 0)
    if strict and identical > MOST_IDENTICAL * loaded.read:
        first = next(problem.where for problem in loaded.problems if problem.kind == "identical")
        raise UserError(
            f"chosen equals rejected in {identical} of {loaded.read} pairs",
            where=f"{source} (first at {first})",
            expected=f"at most {MOST_IDENTICAL:.0%}: such a pair teaches nothing",
            fix="check which columns hold the two answers",
        )
    return loaded


def read_prompts(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Loaded[Prompt]:
    """Read what a model is to be asked; a reference answer is kept where the source has one."""
    return _read(source, root, split, columns, strict, PROMPTS)


def read_documents(
    source: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    strict: bool = True,
) -> Loaded[Document]:
    """Read plain text. The rest as in `read_demonstrations`."""
    return _read(source, root, split, columns, strict, DOCUMENTS)


class Reading(Generic[Row]):
    """One pass over a source, a row at a time: what is wrong goes to `note`, what is usable is yielded.

    Each row of the source comes with the rows of ours that it holds. `read` counts the rows of the source so
    far, broken lines among them: it is those yielded and those that `note` heard were dropped, no others.
    """

    def __init__(
        self,
        source: str,
        layouts: Sequence[Layout[Row]],
        note: Callable[[Problem], None],
        *,
        root: Path | None = None,
        split: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self.source, self.layouts, self.note = source, layouts, note
        self.columns = columns or {}
        self.layout: Layout[Row] | None = None  # that of the first row that could be read
        self.unused: tuple[str, ...] = ()  # columns of the first row that the layout does not look at
        self.read = 0
        self._raw = read_rows(source, root=root, split=split, on_broken=self._broken)

    def __iter__(self) -> Iterator[tuple[RawRow, list[Row]]]:
        for raw in self._raw:
            self.read += 1
            layout = self.layout or self._recognise(raw.value)
            try:
                rows = layout.read(renamed(raw.value, self.columns), Place(raw.where, self.note))
            except BadRow as bad:
                self.note(Problem(raw.where, bad.kind, bad.detail))
                continue
            yield raw, rows

    def _broken(self, error: UserError) -> None:
        self.read += 1
        detail = error.what.removeprefix("broken JSON").lstrip(" :")
        self.note(Problem(error.where, "broken line", detail))

    def _recognise(self, first: dict[str, Any]) -> Layout[Row]:
        check_columns(first, self.columns, self.source)
        present = list(renamed(first, self.columns))
        layout = recognise(present, self.layouts)
        if layout is None:
            raise unknown_layout(present, self.layouts, self.source)
        self.layout = layout
        self.unused = tuple(name for name in present if name not in layout.needs + layout.uses)
        return layout


def _read(
    source: str,
    root: Path | None,
    split: str | None,
    columns: Mapping[str, str] | None,
    strict: bool,
    layouts: Sequence[Layout[Row]],
) -> Loaded[Row]:
    problems: list[Problem] = []
    reading = Reading(source, layouts, problems.append, root=root, split=split, columns=columns)
    rows = tuple(row for _, held in reading for row in held)
    name = reading.layout.name if reading.layout else ""
    loaded = Loaded(rows, name, reading.read, tuple(problems), reading.unused)
    if strict:
        _refuse_mistakes(loaded, source)
    if not loaded.rows:
        reasons = ", ".join(f"{n} {kind}" for kind, n in loaded.counts.items())
        raise UserError(
            f"{source}: no usable row" + (f" among {loaded.read} ({reasons})" if loaded.problems else ""),
            where=loaded.problems[0].where if loaded.problems else source,
            expected="at least one row",
            fix=loaded.problems[0].detail if loaded.problems else "check that the file is complete",
        )
    return loaded


def _refuse_mistakes(loaded: Loaded[Any], source: str) -> None:
    """Raise one error for all mistakes: how many, the first five, and what to do."""
    mistakes = [problem for problem in loaded.problems if problem.kind in MISTAKES]
    if not mistakes:
        return
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(m.kind for m in mistakes).items())
    shown = "\n".join(f"    {mistake}" for mistake in mistakes[:5])
    more = f"\n    and {len(mistakes) - 5} more" if len(mistakes) > 5 else ""
    raise UserError(
        f"{source}: {len(mistakes)} of {loaded.read} rows cannot be used ({kinds})\n{shown}{more}",
        where=mistakes[0].where,
        expected="text in every cell that is needed, turns of known roles, labels that are true or false",
        fix="mend these rows, or set data.skip_bad_rows = true to leave them out and have them counted",
    )
