"""Judgements: kept as ratings, and derived from all that the votes say about single completions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from concordant.data.layouts.reading import read_judgements
from concordant.data.types import Completion, Judgement, Preference, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.imports import import_judgements, import_preferences
from concordant.feedback.reading.summary import summarise
from concordant.feedback.reading.views import judgements, preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Payload, Submission, Vote, both_bad, prefer, ranking, rating, skip, tie


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite") as opened:
        yield opened


def judged(n: int, answer: str, desirable: bool, weight: float = 1.0) -> Judgement:
    prompt = Prompt.user(f"question {n}", where=f"judged.jsonl:{n}")
    return Judgement(prompt, Completion(answer), desirable, weight)


def ask(store: Store, texts: Sequence[str], kind: str) -> list[str]:
    """One task; return the ids of its completions."""
    ids = store.add_completions([(Prompt.user("hi"), Completion(one), {"text": one}, True) for one in texts])
    rubric = {"question": "How good is it?", "dimensions": ["helpful", "honest"]}
    assert store.create_tasks(kind, [ids], need=9, rubric=rubric).added == 1
    return ids


def say(store: Store, *payloads: Payload, name: str = "ada") -> list[str]:
    """The labeler answers its next task, once for each pass; return the ids of the votes."""
    lease = store.lease(store.add_labeler(name, "human"))
    assert lease is not None
    votes = [Vote(lease.comparison.task_id, one, pass_index=n) for n, one in enumerate(payloads)]
    handed_in = [Submission(lease.token, f"{lease.token}{vote.pass_index}", vote) for vote in votes]
    return [receipt.vote_id for receipt in store.submit_many(handed_in)]


def read(rows: Sequence[Judgement]) -> list[tuple[str, bool, float]]:
    return [(one.completion.text, one.desirable, pytest.approx(one.weight)) for one in rows]


def plain(row: Judgement) -> tuple[object, ...]:
    return row.prompt, row.prompt.where, row.completion.text, row.desirable, row.weight


# Imports


def test_import_round_trip(store: Store) -> None:
    rows = [judged(n, f"answer {n}", n % 3 > 0) for n in range(300)]
    rows[7] = judged(7, "answer 7", True, weight=0.25)
    done = import_judgements(store, rows, "file")
    assert (done.rows, done.votes, done.repeated, done.alike) == (300, 300, 0, 0)
    assert [plain(one) for one in judgements(store)] == [plain(one) for one in rows]
    again = import_judgements(store, rows, "file")
    assert (again.votes, again.repeated) == (0, 300)
    counts = store.counts()
    assert (counts["votes"], counts["verdicts"], counts["tasks_done"], counts["labelers"]) == (
        300,
        300,
        300,
        1,
    )
    assert preferences(store) == []
    found = summarise(store)
    assert (found["agreement"], found["alpha"], found["swap_consistent"]) == (None, None, None)


def test_imported_votes_are_ratings_on_a_scale_of_seven(store: Store) -> None:
    import_judgements(store, [judged(1, "a", True), judged(2, "b", False, weight=2.0)], "file")
    with store.reading() as connection:
        said = connection.execute(text("SELECT type, payload FROM vote ORDER BY rowid")).all()
        (rubric,) = connection.scalars(text("SELECT body FROM rubric_version"))
    assert [row.type for row in said] == ["rating", "rating"]
    good, bad = (json.loads(row.payload) for row in said)
    assert (list(good), list(good["scores"].values())) == (["type", "scores"], [{"overall": 7}])
    assert (bad["weight"], list(bad["scores"].values())) == (2, [{"overall": 1}])
    assert "How good" in rubric


def test_what_stands_in_a_file_again_was_judged_by_somebody_else(store: Store) -> None:
    done = import_judgements(store, [judged(1, "a", good) for good in (True, False, True)], "file")
    assert (done.votes, done.repeated) == (3, 0)
    assert store.counts()["labelers"] == 3
    assert read(judgements(store)) == [("a", True, 1), ("a", False, 1), ("a", True, 1)]


def test_pairs_and_judgements_of_one_prompt_live_side_by_side(store: Store) -> None:
    prompt = judged(1, "", True).prompt
    import_preferences(store, [Preference(prompt, Completion("a"), Completion("b"))], "file")
    import_judgements(store, [judged(1, "b", True)], "file")
    assert read(judgements(store)) == [("a", True, 1), ("b", False, 1), ("b", True, 1)]
    assert len(preferences(store)) == 1
    assert store.counts()["completions"] == 3 - 1  # "b" of one prompt is one completion
    assert store.counts()["labelers"] == 1


def test_tasks_that_cannot_be(store: Store) -> None:
    ids = store.add_completions([(Prompt.user(q), Completion("x"), {}, True) for q in ("a", "b")])
    with pytest.raises(UserError, match="2 prompts"):
        store.create_tasks("rating", [ids])
    with pytest.raises(UserError, match="pairwise, ranking, rating, edit"):
        store.create_tasks("demonstration", [ids[:1]])
    assert store.counts()["tasks_open"] == 0


# What the votes say about single completions


def test_ratings_and_their_threshold(store: Store) -> None:
    a, b, c = ask(store, ["a", "b", "c"], "rating")
    say(store, rating({a: {"overall": 4}, b: {"overall": 3, "helpful": 7}, c: {"helpful": 7, "honest": 2}}))
    assert read(judgements(store)) == [("a", True, 1), ("b", False, 1), ("c", True, 1)]
    assert [one.desirable for one in judgements(store, threshold=4.5)] == [False, False, True]
    assert [one.desirable for one in judgements(store, threshold=3)] == [True, True, True]


def test_passes_share_the_weight_of_a_vote(store: Store) -> None:
    (a,) = ask(store, ["a"], "rating")
    say(store, rating({a: {"overall": 7}}), rating({a: {"overall": 1}}))
    assert read(judgements(store)) == [("a", True, 0.5), ("a", False, 0.5)]


@pytest.mark.parametrize(
    "scores",
    [
        {},
        {"a": {}},
        {"a": {"overall": 0}},
        {"a": {"overall": 8}},
        {"a": {"overall": True}},
        {"a": {"overall": "5"}},
        {"a": {"overall": float("nan")}},
        {"a": {"overall": 5}, "strange": {"overall": 5}},
    ],
)
def test_ratings_that_are_none(store: Store, scores: dict[str, dict[str, Any]]) -> None:
    (a,) = ask(store, ["a"], "rating")
    with pytest.raises(UserError):
        say(store, rating({a if key == "a" else key: given for key, given in scores.items()}))
    assert store.counts()["votes"] == 0


def test_pairs(store: Store) -> None:
    _, b = ask(store, ["a", "b"], "pairwise")
    for name, payload in (("ada", prefer(b)), ("bob", tie()), ("cyd", both_bad()), ("dan", skip("?"))):
        say(store, payload, name=name)
    assert read(judgements(store)) == [("b", True, 1), ("a", False, 1), ("a", False, 1), ("b", False, 1)]


def test_rankings_weigh_each_completion_by_its_pairs(store: Store) -> None:
    a, b, c = ask(store, ["a", "b", "c"], "ranking")
    say(store, ranking([[b], [a], [c]]))
    rows = [(text, good, pytest.approx(weight)) for text, good, weight in read(judgements(store))]
    assert rows == [("b", True, 2 / 3), ("c", False, 2 / 3)], "one win and one defeat say nothing of a"


def test_what_is_unacceptable_is_bad_however_it_was_ranked(store: Store) -> None:
    a, b, c = ask(store, ["a", "b", "c"], "ranking")
    say(store, ranking([[b], [a], [c]], unacceptable=[a, c]))
    rows = read(judgements(store))
    assert rows == [("a", False, 2 / 3), ("c", False, 2 / 3), ("b", True, pytest.approx(2 / 3))]
    say(store, ranking([[a, b, c]], unacceptable=[a, b, c]), name="bob")
    assert read(judgements(store))[3:] == [("a", False, 2 / 3), ("b", False, 2 / 3), ("c", False, 2 / 3)]


def test_what_was_taken_back_is_not_read(store: Store) -> None:
    a, b = ask(store, ["a", "b"], "pairwise")
    (wrong,) = say(store, prefer(a))
    store.retract(wrong)
    assert judgements(store) == []
    say(store, prefer(b))
    assert read(judgements(store)) == [("b", True, 1), ("a", False, 1)]


def test_order_is_that_of_the_tasks(store: Store) -> None:
    tasks = [ask(store, [f"{n}", f"not {n}"], "pairwise") for n in range(6)]
    while (lease := store.lease(store.add_labeler("ada", "human"))) is not None:
        best = max(lease.comparison.completions, key=lambda one: one.text)
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(best.id)))
    found = [one.completion.id for one in judgements(store) if not one.desirable]
    assert found == [first for first, _ in tasks]


def test_real_judgements_come_back_as_they_were(store: Store, shared_data: Path) -> None:
    rows = read_judgements("llamafactory-demo/kto_en_demo.json", root=shared_data).rows
    done = import_judgements(store, rows, "file")
    assert (done.votes, done.repeated) == (300, 0)
    found = judgements(store)
    assert sorted(map(said_of, found)) == sorted(map(said_of, rows))
    assert sum(one.desirable for one in found) == 150


def said_of(row: Judgement) -> tuple[str, str, bool, float]:
    return row.prompt.id, row.completion.text, row.desirable, row.weight
