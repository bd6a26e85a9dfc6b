"""Questions of a file into a project: what there is to compare, and what has a known answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import select

from concordant.data.layouts.account import BadRow, Problem
from concordant.data.types import Completion
from concordant.errors import UserError
from concordant.feedback.asking.known import add_known
from concordant.feedback.asking.project_settings import checked, read_config
from concordant.feedback.asking.rubric import default_rubric
from concordant.feedback.config import ProjectConfig
from concordant.feedback.database import schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.database.queries import chunks
from concordant.feedback.exchange.questions import OpenQuestion, QuestionsRead
from concordant.feedback.names import checked_name
from concordant.feedback.store import Store

PURPOSES = ("training", "evaluation")  # what people may be asked for
CHUNK = 1_000  # questions of one transaction: votes that come meanwhile need not wait for a whole file


@dataclass(frozen=True, slots=True)
class Request:
    """Of whom, and for what, questions are asked."""

    project: str  # its name
    purpose: str = "training"
    kind: str | None = None  # one of FITS; None: by the number of answers
    rubric: Mapping[str, Any] | None = None  # None: that of the kind
    votes: int | None = None  # labelers for each; None: as the project says, else one
    most_votes: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of the questions of a file: `tasks` + `repeated` + `known` + what `problems` says was left out."""

    project: str  # id
    tasks: int  # added
    repeated: int  # asked before, or twice in the file
    known: int  # with a known answer
    problems: tuple[Problem, ...]

    @property
    def dropped(self) -> int:
        """Rows that were left out."""
        return sum(problem.dropped for problem in self.problems)

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of problem occurs."""
        return dict(Counter(problem.kind for problem in self.problems))


def ask_questions(store: Store, read: QuestionsRead, request: Request, labeler: str | None = None) -> Asked:
    """Ask the questions of a file in a project, which is made if it is not there; `labeler` (id) is who asks.

    Asked again they add nothing. Errors: UserError for a project that is there for something else, and where no
    question is left to ask.
    """
    problems = list(read.problems)
    by_kind = _by_kind(read, request.kind, problems)
    if not by_kind:
        raise UserError(
            f"{read.source}: no question that can be asked so",
            where=problems[-1].where,
            expected=f"answers for questions of kind {request.kind}" if request.kind else "different answers",
            fix=problems[-1].detail,
        )
    project, config = _project(store, request)
    tasks = known = 0
    for kind, questions in by_kind.items():
        for some in chunks(questions, CHUNK):
            groups = list(zip(some, _keep(store, some), strict=True))
            plain = [pair for pair in groups if pair[0].better is None]
            rubric = request.rubric or default_rubric(kind)
            tasks += _ask(store, project, kind, config, rubric, plain)
            for one, group in groups:
                if one.better is not None:
                    better = group[one.better]
                    add_known(store, project, group, better, one.why, rubric=rubric, labeler=labeler)
                    known += 1
    repeated = sum(map(len, by_kind.values())) - tasks - known
    problems.sort(key=lambda one: [int(n) for n in re.findall(r"\d+", one.where.removeprefix(read.source))])
    return Asked(project, tasks, repeated, known, tuple(problems))


def _by_kind(
    read: QuestionsRead, wanted: str | None, problems: list[Problem]
) -> dict[str, list[OpenQuestion]]:
    """The questions by what is asked of them; what cannot be asked so is a problem."""
    by_kind: dict[str, list[OpenQuestion]] = {}
    for one in read.questions:
        try:
            kind = one.kind(wanted)
        except BadRow as bad:
            problems.append(Problem(one.where, bad.kind, bad.detail))
            continue
        if (alike := _alike(one)) is not None:
            problems.append(alike)
        if alike is None or not alike.dropped:
            by_kind.setdefault(kind, []).append(one)
    return by_kind


def _alike(one: OpenQuestion) -> Problem | None:
    """What is to be said of answers that are the same text."""
    different, k = len(set(one.answers)), len(one.answers)
    if different == k:
        return None
    if different == 1:
        return Problem(one.where, "identical", "the answers are the same text: nothing to compare")
    detail = f"{k - different} of {k} answers have the text of another and are left out"
    return Problem(one.where, "alike", detail, dropped=False)


def _project(store: Store, request: Request) -> tuple[str, ProjectConfig]:
    """The project asked for, and what holds for these questions."""
    table, name = schema.project.c, checked_name(request.project, "a project")
    if request.purpose not in PURPOSES:
        raise UserError(
            f"questions for {request.purpose!r}",
            where="the project",
            expected=" or ".join(PURPOSES),
            fix="take training where a run is to learn from the votes, else evaluation",
        )
    wanted = {"votes": request.votes, "most_votes": request.most_votes}
    given = {key: value for key, value in wanted.items() if value is not None}
    checked(given)
    with store.reading() as connection:
        query = select(table.purpose).where(table.name == name)
        others = set(connection.scalars(query)) - {request.purpose}
    if others or name == DEFAULT_PROJECT:
        raise UserError(
            f"there is a project {name!r} already, for {', '.join(others) or 'the answers of the run'}",
            where="the project",
            expected=f"one for {request.purpose}",
            fix="choose another name",
        )
    project = store.add_project(name, request.purpose, given)
    return project, read_config(store, project).model_copy(update=given)


def _ask(
    store: Store,
    project: str,
    kind: str,
    config: ProjectConfig,
    rubric: Mapping[str, Any],
    asked: Sequence[tuple[OpenQuestion, list[str]]],
) -> int:
    """Make tasks of questions with their completions (ids); how many are new."""
    need, most = config.votes or 1, config.most_votes or 0
    policy = {"selector": "import"} | ({"most": most} if most > need else {})
    shared: dict[str, Any] = {"need": need, "policy": policy, "rubric": rubric, "project": project}
    if kind == "demonstration":
        return store.create_demonstration_tasks([one.prompt for one, _ in asked], **shared).added
    return store.create_tasks(kind, [group for _, group in asked], **shared).added


def _keep(store: Store, questions: Sequence[OpenQuestion]) -> list[list[str]]:
    """The completion ids of each question."""
    made = {"imported": "questions"}
    rows = [(one.prompt, Completion(text), made, None) for one in questions for text in one.answers]
    ids = iter(store.add_completions(rows, source="import"))
    return [list(islice(ids, len(one.answers))) for one in questions]
