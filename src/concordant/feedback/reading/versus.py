"""Two models side by side, blind: labelers compare their answers to the same prompts and are not told whose is whose.

Who made an answer stands in its producer and nowhere that a labeler looks. Answers that are the same text are not
asked about: they are ties, and are kept as such with the project.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.statements import LIVE
from concordant.feedback.database import schema
from concordant.feedback.database.queries import audit
from concordant.feedback.reading.agreement import Rate, rate
from concordant.feedback.reading.live_votes import LiveVotes, read_live_votes
from concordant.feedback.store import Store
from concordant.feedback.votes import Payload

KEY = "versus"  # of the settings of a project that compares two models


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its name, and what tells it from an earlier model of that name."""

    name: str
    model: str


@dataclass(frozen=True, slots=True)
class Pair:
    """What both said to a prompt; `ended` says whether a model finished, None where nobody knows."""

    prompt: Prompt
    texts: tuple[str, str]
    ended: tuple[bool | None, bool | None] = (None, None)


@dataclass(frozen=True, slots=True)
class Asked:
    """The project, and what became of the pairs given."""

    project: str
    name: str
    added: int  # questions that were not there before
    repeated: int  # that were
    alike: int  # prompts to which both say the same


def ask_versus(store: Store, sides: tuple[Side, Side], pairs: Sequence[Pair], *, votes: int = 1) -> Asked:
    """Ask `votes` labelers about each of `pairs`, in a project for evaluation; pairs that are there add nothing.

    Another model of the same name gets another project: votes of two models are not counted together.
    """
    project, name = _project(store, sides)
    different = [one for one in pairs if one.texts[0] != one.texts[1]]
    rows = [
        (one.prompt, Completion(text), {"stage": side.name, "model": side.model}, ended)
        for one in different
        for text, ended, side in zip(one.texts, one.ended, sides, strict=True)
    ]
    ids = store.add_completions(rows)
    groups = list(zip(ids[::2], ids[1::2], strict=True))
    added = store.create_tasks("pairwise", groups, need=votes, project=project).added
    alike = sorted({one.prompt.id for one in pairs if one.texts[0] == one.texts[1]})
    _remember(store, project, alike)
    return Asked(project, name, added, len(groups) - added, len(alike))


def _project(store: Store, sides: tuple[Side, Side]) -> tuple[str, str]:
    """The project in which these two are compared, made if it is not there; its id and its name."""
    wanted = {"stages": [one.name for one in sides], "models": [one.model for one in sides]}
    title = " or ".join(one.name for one in sides)
    table = schema.project.c
    with store.reading() as connection:
        there = connection.execute(select(table.id, table.name, table.settings)).all()
    for row in there:
        known = (row.settings or {}).get(KEY, {})
        if {name: known.get(name) for name in wanted} == wanted:
            return row.id, row.name
    taken = {row.name for row in there}
    number = next(n for n in range(1, len(there) + 2) if _numbered(title, n) not in taken)
    name = _numbered(title, number)
    return store.add_project(name, "evaluation", {KEY: {**wanted, "alike": []}}), name


def _numbered(title: str, number: int) -> str:
    return title if number == 1 else f"{title} ({number})"


def _remember(store: Store, project: str, alike: Sequence[str]) -> None:
    """Keep the prompts (ids) to which both say the same, beside those that are kept."""
    table = schema.project
    with store.writing() as connection:
        query = select(table.c.settings).where(table.c.id == project).with_for_update()
        settings = connection.execute(query).scalar_one()
        known = settings[KEY]
        both = sorted({*known["alike"], *alike})
        if both == known["alike"]:
            return
        merged = {**settings, KEY: {**known, "alike": both}}
        connection.execute(update(table).where(table.c.id == project).values(settings=merged))
        audit(connection, "ask", "versus", {"project": project, "alike": len(both)}, store.now())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was said of a prompt (id): `share` of the second model, and by how many characters its answer is longer."""

    prompt: str
    share: float
    longer: int


@dataclass(frozen=True, slots=True)
class Result:
    """How the second of two models does against the first."""

    first: str
    second: str
    models: tuple[str, str]  # what tells them from earlier ones of their names
    outcomes: tuple[Outcome, ...]  # what `rate` is the mean of
    rate: Rate  # of the second: one value for each prompt, the mean of its votes; what takes no side is half
    first_better: int  # votes, or a lead's decisions in their place
    second_better: int
    ties: int
    neither: int  # will do
    alike: int  # prompts to which both say the same: ties that nobody was asked about
    unanswered: int  # questions without a verdict
    passed: int  # those of them that people have skipped or flagged: nobody may come who answers them

    @property
    def sure(self) -> str | None:
        """Who is better, where the whole 95 % interval lies on one side of one half."""
        if self.rate.n and self.rate.low > 0.5:
            return self.second
        return self.first if self.rate.n and self.rate.high < 0.5 else None


def is_versus(settings: Mapping[str, Any]) -> bool:
    """Whether a project with these settings compares two models."""
    return KEY in settings


def result(store: Store, project: str) -> Result:
    """Who wins in a project (id) made by `ask_versus`, so far.

    Votes on one prompt are not independent: a prompt is one observation. While questions are unanswered, prompts
    with the same answers count in the share in which the others have been answered, so that an unfinished
    comparison does not lean towards one half. Whatever else is asked in the project counts for nothing. Errors:
    UserError for a project of another kind.
    """
    with store.reading() as connection:
        settings = connection.scalar(select(schema.project.c.settings).where(schema.project.c.id == project))
        if not is_versus(settings or {}):
            raise UserError(
                "this project compares no two models",
                where=project,
                expected="a project made by concordant label RUN --compare",
                fix="concordant label RUN --compare sft policy",
            )
        assert settings is not None
        tasks, maker = _compared(connection, project, settings[KEY])
        vote, task = schema.vote, schema.task
        spoke = select(vote.c.task).join(task, task.c.id == vote.c.task)
        spoke = spoke.where(task.c.project == project, vote.c.type.in_(("skip", "flag")), LIVE)
        passed = set(connection.scalars(spoke))
    first, second = settings[KEY]["stages"]
    alike = settings[KEY]["alike"]
    live = read_live_votes(store, project).deciding
    said = Counter[str]()
    values: dict[str, list[float]] = defaultdict(list)
    longer: dict[str, int] = {}
    votes = [one for one in live.votes if one.task_id in tasks]
    for one in votes:
        verdict = _verdict(one.payload, maker)
        said[verdict] += 1
        prompt = live.prompts[one.task_id].id
        values[prompt].append({first: 0.0, second: 1.0}.get(verdict, 0.5))
        longer[prompt] = _longer(live, one.task_id, maker, second)
    judged = {one.task_id for one in votes}
    answered = len(judged)
    counted = round(len(alike) * answered / len(tasks)) if tasks else len(alike)
    outcomes = [Outcome(prompt, sum(of) / len(of), longer[prompt]) for prompt, of in values.items()]
    outcomes += [Outcome(prompt, 0.5, 0) for prompt in alike[:counted]]
    return Result(
        first,
        second,
        tuple(settings[KEY]["models"]),
        tuple(outcomes),
        rate([one.share for one in outcomes]),
        said[first],
        said[second],
        said["tie"],
        said["both_bad"],
        len(alike),
        len(tasks) - answered,
        len((passed & set(tasks)) - judged),
    )


def _compared(
    connection: Connection, project: str, known: Mapping[str, Any]
) -> tuple[set[str], dict[str, str]]:
    """The tasks of a project in which both models stand, and who made the completions (ids) there."""
    task, member, completion = schema.task.c, schema.task_completion.c, schema.completion.c
    sides = set(zip(known["stages"], known["models"], strict=True))
    made = select(member.task, completion.id, completion.producer)
    made = made.join(schema.completion, completion.id == member.completion)
    made = made.join(schema.task, task.id == member.task)
    of_task: dict[str, set[tuple[str, str]]] = defaultdict(set)
    maker: dict[str, str] = {}
    for row in connection.execute(made.where(task.project == project, task.kind == "pairwise")):
        side = (row.producer.get("stage"), row.producer.get("model"))
        of_task[row.task].add(side)
        maker[row.id] = str(side[0])
    return {key for key, found in of_task.items() if found == sides}, maker


def _longer(live: LiveVotes, task: str, maker: Mapping[str, str], second: str) -> int:
    """By how many characters the answer of the second model is longer."""
    return sum(
        len(live.completions[key].text) * (1 if maker[key] == second else -1) for key in live.members[task]
    )


def _verdict(payload: Payload, maker: Mapping[str, str]) -> str:
    """The model that a vote prefers, or "tie", or "both_bad"."""
    return maker[payload["winner"]] if payload["verdict"] == "prefer" else str(payload["verdict"])
