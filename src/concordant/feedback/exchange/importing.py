"""A file of votes into a store, with an account of what was found in it and what was not kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from concordant.data.layouts.account import Problem
from concordant.data.sources import RawRow, read_rows
from concordant.errors import UserError
from concordant.feedback.exchange.ballots import Ballot
from concordant.feedback.exchange.formats import format_of
from concordant.feedback.exchange.keeping import keep
from concordant.feedback.store import Store


@dataclass(frozen=True, slots=True)
class ImportedVotes:
    """What a file held: `votes` + `repeated` + what `problems` says was left out is all that it said."""

    format: str
    rows: int
    votes: int  # kept now
    repeated: int  # kept by an earlier import
    tasks: int  # added
    by_type: dict[str, int]  # the votes read, by pairwise, ranking, rating, skip, ...
    labelers: int  # different ones among the votes read
    problems: tuple[Problem, ...]

    @property
    def dropped(self) -> int:
        """Rows, or parts of one, that were left out."""
        return sum(problem.dropped for problem in self.problems)

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of problem occurs."""
        return dict(Counter(problem.kind for problem in self.problems))


@dataclass(frozen=True)
class VotesRead:
    """The votes of a file, before they are kept."""

    format: str
    rows: int
    ballots: tuple[Ballot, ...]
    problems: tuple[Problem, ...]


def import_votes(
    store: Store, source: str, format: str | None = None, *, root: Path | None = None
) -> ImportedVotes:
    """Keep the votes of `source` in `store`: `read_votes`, then `keep_votes`."""
    return keep_votes(store, read_votes(source, format, root=root))


def read_votes(source: str, format: str | None = None, *, root: Path | None = None) -> VotesRead:
    """The votes of any file or folder that `read_rows` takes.

    `format` is a name out of `formats.FORMATS`; without one the columns of the first row decide. Rows that cannot
    be used are problems with their line.

    Errors: UserError for a file that is missing, broken or in no such format, and for one without a usable vote.
    """
    problems: list[Problem] = []
    rows = 0

    def broken(error: UserError) -> None:
        problems.append(Problem(error.where, "broken line", error.what))

    def counted(raw: Iterator[RawRow]) -> Iterator[RawRow]:
        nonlocal rows
        for row in raw:
            rows += 1
            yield row

    raw = counted(read_rows(source, root=root, on_broken=broken))
    first = next(raw, None)
    if first is None:
        raise _nothing(source, problems)
    chosen = format_of(first.value, source, format)
    ballots = tuple(chosen.read(chain((first,), raw), problems.append))
    if not ballots:
        raise _nothing(source, problems)
    rows += sum(problem.kind == "broken line" for problem in problems)
    return VotesRead(chosen.name, rows, ballots, tuple(problems))


def keep_votes(store: Store, read: VotesRead) -> ImportedVotes:
    """Keep votes that were read. Those that are here already add nothing."""
    kept = keep(store, read.ballots)
    return ImportedVotes(
        format=read.format,
        rows=read.rows,
        votes=kept.votes,
        repeated=kept.repeated,
        tasks=kept.tasks,
        by_type=dict(Counter(str(one.payload["type"]) for one in read.ballots)),
        labelers=len({(one.labeler.kind, one.labeler.name) for one in read.ballots if one.labeler.name}),
        problems=(*read.problems, *kept.problems),
    )


def _nothing(source: str, problems: list[Problem]) -> UserError:
    counts = Counter(problem.kind for problem in problems)
    reasons = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    return UserError(
        f"{source}: no usable vote" + (f" ({reasons})" if reasons else ""),
        where=problems[0].where if problems else source,
        expected="at least one vote",
        fix=problems[0].detail if problems else "check that the file is complete",
    )
