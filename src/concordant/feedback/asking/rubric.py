"""What labelers are asked: a question, and the dimensions in which one answer may be better than another.

A rubric is a small TOML file. The store keeps every version by its content and every task points to the one under
which it is asked, so that an edited rubric makes new questions and leaves the old answers what they were.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from concordant.errors import UserError
from concordant.feedback.database.queries import chunks
from concordant.feedback.database.schema import rubric_version, task
from concordant.feedback.votes import named_in

QUESTIONS: Mapping[str, str] = {  # by kind of task, where a rubric has no question of its own
    "pairwise": "Which answer is better?",
    "ranking": "Which answer is better?",
    "rating": "How good is this answer?",
    "edit": "Make this answer better",
    "demonstration": "Write the answer you would like to get",
}

MEANINGS: Mapping[
    str, str
] = {  # of dimensions that a rubric only names; another wording would change old rubrics
    "helpful": "It does what was asked. Somebody could act on it.",
    "honest": "What it says is true, and it says so where it does not know. It does not agree just to please.",
    "harmless": "Nobody gets hurt by it. Refusing a harmless wish is not harmless.",
    "concise": "It says it in as few words as it takes. Longer is not better.",
    "overall": "All things taken together.",
}

ASKED = ("never", "optional", "always")  # of pairs, whether each dimension is asked about too

DEFAULT_RUBRIC: Mapping[str, Any] = {
    "question": QUESTIONS["pairwise"],
    "dimensions": ["helpful", "honest", "harmless", "concise"],
}

RATING_RUBRIC: Mapping[str, Any] = {"question": QUESTIONS["rating"], "dimensions": ["overall"]}


def default_rubric(kind: str) -> Mapping[str, Any]:
    """The rubric of tasks of this kind where none is given."""
    if kind == "rating":
        return RATING_RUBRIC
    return {**DEFAULT_RUBRIC, "question": QUESTIONS[kind]}


@dataclass(frozen=True, slots=True)
class Dimension:
    """One way in which an answer may be good, and what is meant by it."""

    name: str
    meaning: str


def dimensions_of(rubric: Mapping[str, Any]) -> list[Dimension]:
    """The dimensions of a rubric, in its order."""
    meanings = {**MEANINGS, **rubric.get("meanings", {})}
    return [Dimension(str(name), str(meanings.get(name, ""))) for name in rubric.get("dimensions", ())]


def asked_of(rubric: Mapping[str, Any]) -> str:
    """Whether a pair is asked about by dimension too: one of ASKED."""
    return str(rubric.get("asked", "optional"))


def read_rubric(path: Path, kind: str = "pairwise") -> dict[str, Any]:
    """The rubric of a TOML file, for tasks of a kind.

    Errors: UserError for a file that is not there, is no TOML, or says what a rubric does not know.
    """
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"this rubric cannot be read: {error}",
            where=str(path),
            expected=EXPECTED,
            fix="begin with what `concordant feedback rubric` prints",
        ) from error
    strange = sorted(said.keys() - {"question", "asked", "dimensions"})
    if strange:
        raise UserError(
            f"unknown key {strange[0]!r} in a rubric",
            where=str(path),
            expected=EXPECTED,
            fix="remove it, or write it as one of these",
        )
    question, asked = said.get("question", QUESTIONS[kind]), said.get("asked", "optional")
    meanings = said.get("dimensions", {name: MEANINGS[name] for name in DEFAULT_RUBRIC["dimensions"]})
    _check(isinstance(question, str) and question.strip(), "question", question, "a sentence", path)
    _check(asked in ASKED, "asked", asked, ", ".join(ASKED), path)
    texts = isinstance(meanings, dict) and all(isinstance(one, str) for one in meanings.values())
    _check(texts and meanings, "dimensions", meanings, 'a table of name = "what is meant"', path)
    _check(len(meanings) <= MOST, "dimensions", f"{len(meanings)} of them", f"at most {MOST}", path)
    own = {name: meaning for name, meaning in meanings.items() if MEANINGS.get(name) != meaning}
    body: dict[str, Any] = {"question": question.strip(), "dimensions": list(meanings)}
    # What is as it always is stays unsaid: the same rubric has the same id whoever wrote it down.
    return body | ({"meanings": own} if own else {}) | ({"asked": asked} if asked != "optional" else {})


EXPECTED = (
    "a TOML file with question, asked and a table of dimensions, as `concordant feedback rubric` prints one"
)
MOST = 12  # dimensions; more than a labeler keeps in mind


def _check(right: Any, key: str, found: Any, expected: str, path: Path) -> None:
    if not right:
        raise UserError(
            f"{key} = {found!r} in a rubric",
            where=str(path),
            expected=expected,
            fix=f"change {key}, or leave it out",
        )


def written_out(rubric: Mapping[str, Any]) -> str:
    """A rubric as the file that `read_rubric` reads."""
    lines = [
        f"question = {_quoted(str(rubric['question']))}",
        f"asked = {_quoted(asked_of(rubric))}  # of pairs, by dimension too: {', '.join(ASKED)}",
        "",
        "[dimensions]",
    ]
    lines += [f"{_quoted(one.name)} = {_quoted(one.meaning)}" for one in dimensions_of(rubric)]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def latest_rubric(connection: Connection, project: str) -> Mapping[str, Any]:
    """The rubric under which a project asked last."""
    query = select(rubric_version.c.body).join(task, task.c.rubric_version == rubric_version.c.id)
    newest = query.where(task.c.project == project).order_by(task.c.seq.desc()).limit(1)
    return connection.scalar(newest) or DEFAULT_RUBRIC


def check_dimensions(connection: Connection, votes: Iterable[Mapping[str, Any]]) -> None:
    """Raise UserError for a row of `vote` that speaks of a dimension its rubric does not have."""
    named = [(one, set(named_in(one["payload"]))) for one in votes]
    speaking = [(one, names) for one, names in named if names]
    known: dict[str, set[str]] = {}
    for some in chunks(sorted({one["rubric_version"] for one, _ in speaking})):
        for row in connection.execute(
            select(rubric_version.c.id, rubric_version.c.body).where(rubric_version.c.id.in_(some))
        ):
            known[row.id] = {one.name for one in dimensions_of(row.body)}
    for one, names in speaking:
        strange = sorted(names - known[one["rubric_version"]])
        if strange:
            expected = ", ".join(sorted(known[one["rubric_version"]]))
            raise UserError(
                f"no dimension is called {strange[0]!r}",
                where=f"task {one['task']}",
                expected=expected,
                fix="take a dimension that the task asks for; the vote was not kept",
            )
