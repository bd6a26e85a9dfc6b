"""Files of questions without votes: what is understood, what is said of the rest, and what is asked then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from concordant.errors import UserError
from concordant.feedback.asking.known import known_answers
from concordant.feedback.asking.project_settings import read_config
from concordant.feedback.database import schema
from concordant.feedback.exchange import questions as module
from concordant.feedback.exchange.asking import Asked, Request, ask_questions
from concordant.feedback.exchange.questions import OpenQuestion, read_questions
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.projects import project_named, project_of
from concordant.feedback.reading.views import demonstrations, judgements, preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, prefer


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store.open(address) as opened:
        yield opened


def write(folder: Path, rows: list[Any], name: str = "q.jsonl") -> str:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def one(folder: Path, row: dict[str, Any]) -> OpenQuestion:
    (found,) = read_questions(write(folder, [row])).questions
    return found


USER = [{"role": "user", "content": "hi"}]
SAID = {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ({"prompt": "hi", "completions": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"prompt": USER, "responses": ["a", "b"]}, ("a", "b")),
        ({"messages": USER, "answers": [{"role": "assistant", "content": "a"}, [SAID]]}, ("a", "b")),
        ({"prompt": "hi", "response_a": "a", "response_b": "b"}, ("a", "b")),
        ({"instruction": "hi", "answer1": "a", "answer2": "b", "answer3": ""}, ("a", "b")),
        ({"prompt": "hi", "Completion_A": "a", "Completion_B": "b"}, ("a", "b")),
        ({"prompt": "hi", "completion": "a"}, ("a",)),
        ({"prompt": "hi", "answer": "a"}, ("a",)),
        ({"messages": [*USER, SAID]}, ("b",)),
        ({"prompt": json.dumps(USER), "completions": '["a", "b"]'}, ("a", "b")),
    ],
)
def test_forms_of_a_question(tmp_path: Path, row: dict[str, Any], answers: tuple[str, ...]) -> None:
    found = one(tmp_path, row)
    assert found.answers == answers
    assert [(m.role, m.content) for m in found.prompt.messages] == [("user", "hi")]
    assert found.prompt.answer == ""


@pytest.mark.parametrize(
    ("better", "at"),
    [("b", 1), ("B", 1), (2, 1), ("2", 1), ("response_a", 0), ("the second", 1), ("", None), (None, None)],
)
def test_names_of_the_better_answer(tmp_path: Path, better: Any, at: int | None) -> None:
    row = {"prompt": "hi", "response_a": "the first", "response_b": "the second", "better": better}
    assert one(tmp_path, row).better == at
    listed = {"prompt": "hi", "completions": ["response_a", "the second"], "expected": better, "why": "so"}
    assert one(tmp_path, listed).better == at
    assert one(tmp_path, listed).why == "so"


def test_numbers_are_those_of_the_columns_where_they_have_some(tmp_path: Path) -> None:
    row = {"prompt": "hi", "answer_0": "x", "answer_1": "y", "better": 1}
    assert one(tmp_path, row).better == 1
    with pytest.raises(UserError, match="no question"):
        one(tmp_path, row | {"better": "neither"})


def test_rows_of_one_prompt_make_one_question(tmp_path: Path) -> None:
    rows = [{"prompt": p, "completion": c, "better": c == "b"} for c in "abc" for p in ("hi", "ho")]
    lines = [f"{row['prompt']},{row['completion']},{'true' if row['better'] else ''}\n" for row in rows]
    (tmp_path / "q.csv").write_text("prompt,completion,better\n" + "".join(lines), encoding="utf-8")
    for source in (write(tmp_path, rows), str(tmp_path / "q.csv")):
        read = read_questions(source)
        assert [(q.prompt.text, q.answers, q.better) for q in read.questions] == [
            ("hi", ("a", "b", "c"), 1),
            ("ho", ("a", "b", "c"), 1),
        ]
        assert read.rows == 6


def test_what_is_no_question_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1000)
    deep: Any = "x"
    for _ in range(20):
        deep = [deep]
    rows = [
        {"prompt": "hi", "completions": ["a", "b"], "note": 1},
        "{broken",
        {"completions": ["a", "b"]},
        {"prompts": "hi"},
        {"prompt": "hi", "completions": []},
        {"prompt": "hi", "completions": "a and b"},
        {"prompt": "hi", "completions": ["a", 5]},
        {"prompt": "", "completions": ["a", "b"]},
        {"prompt": "hi", "completions": ["a\x00", "b"]},
        {"prompt": "hi", "completions": ["a" * 1001, "b"]},
        {"prompt": "hi", "completions": ["a", "b"], "deep": deep},
        {"prompt": "hi", "completions": ["a", "b"], "better": "z"},
        {"prompt": "hi", "completions": ["a", "\ud800"]},
        "[" * 100_000,
    ]
    read = read_questions(write(tmp_path, rows))
    assert len(read.questions) == 1
    assert [int(p.where.split(":")[1]) for p in read.problems] == list(range(2, 15))
    assert all(problem.dropped for problem in read.problems)
    assert (read.rows, read.unused) == (14, ("note",))


def test_files_too_long_and_files_without_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no question among 1 rows"):
        read_questions(write(tmp_path, [{"prompts": "hi"}]))
    with pytest.raises(UserError, match="no question"):
        read_questions(write(tmp_path, []))
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    with pytest.raises(UserError, match="more than 2 rows"):
        read_questions(write(tmp_path, [{"prompt": "hi", "completions": ["a", "b"]}] * 3))


ROWS = [
    {"prompt": "two", "completions": ["a", "b"]},
    {"prompt": "three", "completions": ["a", "b", "c"]},
    {"prompt": "one", "completion": "a"},
    {"prompt": "same", "completions": ["a", "a"]},
    {"prompt": "nearly", "completions": ["a", "a", "b"]},
    {"prompt": "known", "completions": ["a", "b"], "better": "b", "why": "it is b"},
    {"prompt": "many", "completions": list("abcdefghij")},
    {"prompt": "two", "completions": ["b", "a"]},
]


def ask(store: Store, folder: Path, rows: list[Any] = ROWS, **more: Any) -> Asked:
    return ask_questions(store, read_questions(write(folder, rows)), Request("mine", **more))


def test_questions_become_tasks_of_a_project(store: Store, tmp_path: Path) -> None:
    asked = ask(store, tmp_path, votes=2, most_votes=4)
    assert (asked.tasks, asked.repeated, asked.known, asked.dropped) == (4, 1, 1, 2)
    assert [(one.where[-1], one.kind) for one in asked.problems] == [
        ("4", "identical"),
        ("5", "alike"),
        ("7", "number"),
    ]
    with store.reading() as connection:
        rows = connection.execute(select(schema.task).where(schema.task.c.project == asked.project)).all()
    assert sorted(row.kind for row in rows) == ["pairwise", "ranking", "ranking", "rating"]
    assert {(row.need, row.policy["most"]) for row in rows} == {(2, 4)}
    project = project_named(store, "mine")
    assert (project.id, project.purpose, project.tasks) == (asked.project, "training", 4)
    assert read_config(store, asked.project).votes == 2
    (known,) = known_answers(store, asked.project)
    assert (known.why, [one.text for one in known.question.completions if one.id == known.better]) == (
        "it is b",
        ["b"],
    )
    again = ask(store, tmp_path)
    assert (again.tasks, again.repeated, again.known) == (0, 5, 1)
    assert len(known_answers(store, asked.project)) == 1


def test_a_kind_may_be_asked_for(store: Store, tmp_path: Path) -> None:
    asked = ask(store, tmp_path, [ROWS[0], ROWS[1], ROWS[2]], kind="rating")
    assert (asked.tasks, asked.dropped) == (3, 0)
    asked = ask(store, tmp_path, [ROWS[0], ROWS[1], ROWS[5]], kind="pairwise")
    assert (asked.tasks, asked.known, asked.counts) == (1, 1, {"number": 1})
    with pytest.raises(UserError, match="can be asked so"):
        ask(store, tmp_path, [ROWS[2]], kind="ranking")


def test_people_may_be_asked_to_write(store: Store, tmp_path: Path) -> None:
    """One answer can be made better; where there is none, people write one, and nothing else can be asked."""
    rows = [{"prompt": "p"}, {"prompt": "q", "completion": "a"}, {"prompt": "r"}]
    rubric = {"question": "Say it in one line", "dimensions": ["concise"]}
    asked = ask(store, tmp_path, rows, kind="demonstration", rubric=rubric)
    assert (asked.tasks, asked.dropped, asked.counts) == (2, 1, {"number": 1})
    asked = ask(store, tmp_path, rows, kind="edit")
    assert (asked.tasks, asked.dropped, asked.counts) == (1, 2, {"missing": 2})
    leases = store.lease_many(store.add_labeler("ada", "human"), 9, project=asked.project)
    kinds = [(one.comparison.kind, one.rubric["question"]) for one in leases]
    assert sorted(kinds) == [
        ("demonstration", "Say it in one line"),
        ("demonstration", "Say it in one line"),
        ("edit", "Make this answer better"),
    ]
    assert ask(store, tmp_path, rows).counts == {"missing": 2}


def test_projects_that_are_there_for_something_else_are_left_alone(store: Store, tmp_path: Path) -> None:
    ask(store, tmp_path)
    read = read_questions(write(tmp_path, ROWS))
    for request in (
        Request("mine", "evaluation"),
        Request("default"),
        Request("  "),
        Request("x" * 81),
        Request("other", "loop"),
        Request("other", votes=0),
        Request("other", votes=3, most_votes=2),
    ):
        with pytest.raises(UserError):
            ask_questions(store, read, request)
    with pytest.raises(UserError, match="no projects are called"):
        project_named(store, "other")


def test_votes_of_an_evaluation_never_train(store: Store, tmp_path: Path) -> None:
    nothing = digest(store)
    asked = ask(store, tmp_path, purpose="evaluation", kind="pairwise")
    ada = store.add_labeler("ada", "human")
    for lease in store.lease_many(ada, 5, project=asked.project):
        winner = lease.comparison.completions[0].id
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(winner)))
    assert project_of(store, asked.project).verdicts == 1
    assert preferences(store) == []
    assert judgements(store) == []
    assert demonstrations(store).demonstrations == []
    assert digest(store) == nothing
