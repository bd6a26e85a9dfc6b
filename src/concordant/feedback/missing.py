"""The messages for what is asked for by its name or id and is not there."""

from __future__ import annotations

from collections.abc import Sequence

from concordant.errors import UserError


def no_labeler(key: str) -> UserError:
    """No labeler of the store has this id."""
    return UserError(
        f"no labeler has the id {key!r}",
        where="the labelers of this store",
        expected="an id that add_labeler gave",
        fix="register it with add_labeler first",
    )


def no_project(key: str) -> UserError:
    """No project of the store has this id, or nothing is asked in it."""
    return UserError(
        "there is no such project",
        where=key,
        expected="the id of a project with questions",
        fix="go to the first page, which lists them",
    )


def not_an_answer(key: str, answers: Sequence[str], where: str) -> UserError:
    """What is called the better answer is none of those to the question."""
    return UserError(
        f"{key} is not among the answers",
        where=where,
        expected=", ".join(answers) or "a question with answers",
        fix="take the id of the better answer",
    )
