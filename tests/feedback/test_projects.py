"""How far a project is: counted anew where that is cheap, a moment ago where it is not."""

from __future__ import annotations

import pytest
from test_store import Clock, answer, fill

from concordant.errors import UserError
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading import projects as module
from concordant.feedback.reading.projects import Pace, Passed, pace, passed_over, project_of, projects
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, flag, skip


def test_projects_with_few_tasks_are_counted_each_time(store: Store) -> None:
    fill(store, 5)
    ada = store.add_labeler("ada", "human")
    for finished in range(4):
        assert project_of(store, DEFAULT_PROJECT).finished == finished
        assert [one.finished for one in projects(store)] == [finished]
        answer(store, ada)
    assert project_of(store, DEFAULT_PROJECT) == projects(store)[0]
    with pytest.raises(UserError, match="no such project"):
        project_of(store, store.add_project("nobody is asked anything here"))


def test_the_count_of_many_tasks_is_kept_for_a_while(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MANY", 40)
    fill(store, 40)
    ada = store.add_labeler("ada", "human")
    assert project_of(store, DEFAULT_PROJECT).finished == 0
    answer(store, ada)
    clock.now += 40 // module.PER_MS - 1
    assert project_of(store, DEFAULT_PROJECT).finished == 0
    clock.now += 1
    assert project_of(store, DEFAULT_PROJECT).finished == 1


def test_the_pace_is_that_of_live_verdicts(store: Store, clock: Clock) -> None:
    fill(store, 6, need=2)
    ada = store.add_labeler("ada", "human")
    assert pace(store, DEFAULT_PROJECT) == Pace(0, 0)
    answer(store, ada)
    clock.now += module.HOUR_MS
    first, _ = answer(store, ada), answer(store, ada)
    store.retract(first)
    assert pace(store, DEFAULT_PROJECT) == Pace(1, 2)
    clock.now += 24 * module.HOUR_MS
    assert pace(store, DEFAULT_PROJECT) == Pace(0, 0)


def test_a_lead_is_told_of_flags_first_and_of_skips(store: Store) -> None:
    fill(store, 3)
    ada = store.add_labeler("ada", "human")
    for payload in (skip("cannot tell"), flag("this is no question")):
        lease = store.lease(ada, project=DEFAULT_PROJECT)
        assert lease is not None
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, payload))
    answer(store, ada)
    flagged, skipped = passed_over(store, DEFAULT_PROJECT)
    assert (flagged.name, flagged.type, flagged.reason) == ("ada", "flag", "this is no question")
    assert isinstance(skipped, Passed)
    assert skipped.reason == "cannot tell"
    assert skipped.question.startswith("question")
    assert passed_over(store, "elsewhere") == []
