"""A labeler's first minute: three questions whose answer is explained.

They are rows of `gold`: what was expected of a task, and whether the labeler is told. What is not told is in `known`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from concordant.data.types import Completion, Prompt
from concordant.feedback.database import schema
from concordant.feedback.database.queries import insert_missing
from concordant.feedback.missing import not_an_answer
from concordant.feedback.store import Store
from concordant.feedback.votes import Payload, verdicts

PRACTICE = "Practice"
EVERYBODY = 1_000_000  # labelers wanted by a question that nobody's answer closes


@dataclass(frozen=True, slots=True)
class Exercise:
    """A question, the better answer first, and why it is better."""

    prompt: str
    better: str
    worse: str
    why: str


EXERCISES = (
    Exercise(
        "How do I boil an egg so that the yolk stays soft?",
        "Put it into boiling water for six minutes, then into cold water so that it stops cooking.",
        "Eggs have been eaten since ancient times and are enjoyed in many cultures around the world. There are many "
        "ways to prepare them, and the right one depends on what you like. Enjoy your egg!",
        "The first answer says what to do. The second one is longer and friendly, but nobody could boil an egg "
        "with it: length is not help.",
    ),
    Exercise(
        "I am sure that Sydney is the capital of Australia. Right?",
        "It is Canberra. Sydney is the largest city, which is why many people think so.",
        "Yes, you are right, Sydney is the capital of Australia. Well done!",
        "An honest answer does not agree with a mistake to please. It corrects it kindly.",
    ),
    Exercise(
        "Which plants in my garden could make a toddler ill?",
        "Foxglove, oleander, yew and lily of the valley are among the dangerous ones. Fence them off or remove "
        "them, and keep the number of the poison centre at hand.",
        "I cannot talk about poisonous plants, as this could be used to harm somebody.",
        "The question sounds dangerous and is not: the parent wants to protect a child. Refusing would harm. "
        "Harmless means that nobody is hurt, not that nothing is said.",
    ),
)


def add_practice(store: Store) -> str:
    """Keep the exercises as tasks of a project of their own; returns its id. Adding them again adds nothing."""
    project = store.add_project(PRACTICE, "practice")
    for exercise in EXERCISES:
        prompt = Prompt.user(exercise.prompt, where="practice")
        sides = (exercise.better, exercise.worse)
        keys = store.add_completions(
            [(prompt, Completion(text), {"practice": True}, True) for text in sides], source="import"
        )
        (task,) = store.create_tasks("pairwise", [keys], need=EVERYBODY, project=project).ids
        assert task is not None
        add_gold(store, task, keys[0], exercise.why, told=True)
    return project


def add_gold(store: Store, task: str, better: str, why: str, *, told: bool = False) -> None:
    """Say which completion of a task has to win; `told` labelers see `why` after their vote.

    Errors: UserError for a completion that is not one of the task's.
    """
    with store.writing() as connection:
        mine = schema.task_completion.c
        members = set(connection.scalars(select(mine.completion).where(mine.task == task)))
        if better not in members:
            raise not_an_answer(better, sorted(members), f"task {task}")
        row = {
            "task": task,
            "expected": {"better": better},
            "tolerance": 0.0,
            "feedback_shown": told,
            "explanation": why,
        }
        insert_missing(connection, schema.gold, [row])


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a labeler is told after a vote on a task with a known answer."""

    right: bool
    better: str
    why: str


def lesson(store: Store, vote_id: str) -> Lesson | None:
    """What to tell about a vote that is kept; None where the answer is not known or not told."""
    vote, gold, member = schema.vote.c, schema.gold, schema.task_completion.c
    query = select(gold, vote.payload).join(gold, gold.c.task == vote.task)
    with store.reading() as connection:
        row = connection.execute(query.where(vote.id == vote_id)).one_or_none()
        if row is None or not row.feedback_shown:
            return None
        members = connection.scalars(select(member.completion).where(member.task == row.task)).all()
    share = share_right(row.payload, list(members), row.expected["better"])
    return Lesson(share == 1.0, row.expected["better"], row.explanation)


def share_right(payload: Payload, members: list[str], better: str) -> float | None:
    """Share of the rivals that a vote puts `better` above; None for a vote that takes no side, such as a skip."""
    if payload["type"] not in ("pairwise", "ranking"):
        return None
    said = [one for one in verdicts(payload, members) if better in (one.better, one.worse)]
    if payload.get("verdict") == "both_bad" or not said:
        return 0.0
    return sum(one.decided and one.better == better for one in said) / len(said)
