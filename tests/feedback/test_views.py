"""Views: preferences are derived from live votes only, weighted so that a prompt counts once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from concordant.data.types import Completion, Message, Preference, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.imports import import_preferences
from concordant.feedback.reading.agreement import agreement, implied_accuracy, wilson_interval
from concordant.feedback.reading.views import preferences, view_preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Submission, Vote, both_bad, prefer, ranking, rating, skip, tie, verdicts

PROMPT = Prompt(
    (Message("system", "be brief"), Message("user", "hi")), family="fact", where="a.jsonl:3", answer="x"
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite") as opened:
        yield opened


def ask(store: Store, texts: Sequence[str], kind: str, need: int = 1, prompt: Prompt = PROMPT) -> list[str]:
    """One task; return the ids of its completions."""
    rows = [(prompt, Completion(text, tokens=(5, 6, 7)), {"text": text}, True) for text in texts]
    ids = store.add_completions(rows)
    store.create_tasks(kind, [ids], need=need)
    return ids


def say(store: Store, name: str, *payloads: dict[str, Any]) -> str:
    """The labeler answers its next task, once for each pass; return the id of the last vote."""
    lease = store.lease(store.add_labeler(name, "human"))
    assert lease is not None
    task = lease.comparison.task_id
    votes = [Vote(task, payload, pass_index=index) for index, payload in enumerate(payloads)]
    return store.submit_many([Submission(lease.token, f"{lease.token}{v.pass_index}", v) for v in votes])[
        -1
    ].vote_id


def read(rows: Sequence[Preference]) -> list[tuple[str, str, float, float]]:
    return [(one.chosen.text, one.rejected.text, one.p_chosen, pytest.approx(one.weight)) for one in rows]


def test_a_preference_carries_prompt_ids_tokens_and_margin(store: Store) -> None:
    a, b = ask(store, ["a", "b"], "pairwise")
    say(store, "ada", prefer(b, strength=2))
    (row,) = preferences(store)
    best, worst = Completion("b", (5, 6, 7), b), Completion("a", (5, 6, 7), a)
    assert row == Preference(PROMPT, best, worst, 1.0, 2 / 3, 1.0, row.group)
    assert row.prompt.answer == "x"


def test_rankings_give_pairs_across_tiers(store: Store) -> None:
    a, b, c, d = ask(store, list("abcd"), "ranking")
    say(store, "ada", ranking([[c], [a, d], [b]]))
    rows = preferences(store)
    assert {(one.chosen.text, one.rejected.text) for one in rows} == {
        ("c", "a"),
        ("c", "d"),
        ("c", "b"),
        ("a", "b"),
        ("d", "b"),
    }
    assert {one.weight for one in rows} == {1 / 6}
    assert len({one.group for one in rows}) == 1
    view = view_preferences(store, ties="half")
    assert view.tied_pairs == 1
    assert sum(one.weight for one in view.preferences) == pytest.approx(1)
    (undecided,) = [one for one in view.preferences if one.p_chosen == 0.5]
    assert {undecided.chosen.text, undecided.rejected.text} == {"a", "d"}


def test_ties_and_both_bad(store: Store) -> None:
    ask(store, ["a", "b"], "pairwise", need=3)
    say(store, "ada", tie())
    say(store, "bob", both_bad())
    say(store, "cyd", skip("?"))
    dropped, half = view_preferences(store), view_preferences(store, ties="half")
    assert (dropped.preferences, dropped.votes, dropped.tied_pairs, dropped.both_bad) == ([], 2, 1, 1)
    assert [one.p_chosen for one in half.preferences] == [0.5]


def test_majority(store: Store) -> None:
    a, b = ask(store, ["a", "b"], "pairwise", need=4)
    say(store, "ada", prefer(a, strength=3))
    say(store, "bob", prefer(b))
    assert preferences(store, "majority") == []  # one each: undecided
    assert [one.p_chosen for one in preferences(store, "majority", "half")] == [0.5]
    say(store, "cyd", prefer(a))
    say(store, "dan", tie())
    assert read(preferences(store, "majority")) == [("a", "b", 1.0, 1.0)]
    assert preferences(store, "majority")[0].margin == pytest.approx(0.5)
    assert len(preferences(store, "each")) == 3


def test_majority_of_rankings_is_taken_pair_by_pair(store: Store) -> None:
    a, b, c = ask(store, list("abc"), "ranking", need=3)
    for name, order in (("ada", [[a], [b], [c]]), ("bob", [[a], [c], [b]]), ("cyd", [[b], [a], [c]])):
        say(store, name, ranking(order))
    rows = preferences(store, "majority")
    assert {(one.chosen.text, one.rejected.text) for one in rows} == {("a", "b"), ("a", "c"), ("b", "c")}
    assert sum(one.weight for one in rows) == pytest.approx(1)


def test_superseded_votes_are_not_read(store: Store) -> None:
    a, b = ask(store, ["a", "b"], "pairwise")
    wrong = say(store, "ada", prefer(a))
    store.retract(wrong)
    assert preferences(store) == []
    say(store, "ada", prefer(b))
    assert read(preferences(store)) == [("b", "a", 1.0, 1.0)]


def test_passes_of_one_labeler_share_one_vote(store: Store) -> None:
    a, b = ask(store, ["a", "b"], "pairwise")
    say(store, "judge", prefer(a), prefer(b))
    assert read(preferences(store)) == [("a", "b", 1.0, 0.5), ("b", "a", 1.0, 0.5)]
    assert store.counts()["tasks_done"] == 1


def test_unknown_modes_are_refused(store: Store) -> None:
    with pytest.raises(UserError, match="median"):
        preferences(store, "median")  # type: ignore[arg-type]


# Imports.


def transcripts(n: int) -> list[Preference]:
    """Pairs in the manner of human dialogue data: several turns, no tokens, a line each."""
    rows = []
    for line in range(1, n + 1):
        turns = (Message("user", f"question {line}"), Message("assistant", "yes?"), Message("user", "go on"))
        prompt = Prompt(turns, where=f"pairs.jsonl:{line}")
        rows.append(Preference(prompt, Completion(f"kind {line}"), Completion(f"rude {line}")))
    return rows


def plain(row: Preference) -> tuple[object, ...]:
    return (row.prompt, row.chosen.text, row.rejected.text, row.p_chosen, row.margin, row.weight)


def test_import_round_trip(store: Store) -> None:
    rows = transcripts(300)
    first = rows[0]
    rows[3] = Preference(
        rows[3].prompt, rows[3].chosen, rows[3].rejected, p_chosen=0.8, margin=1.5, weight=0.5
    )
    done = import_preferences(store, rows, "hh")
    assert (done.rows, done.votes, done.repeated, done.alike) == (300, 300, 0, 0)
    assert [plain(one) for one in preferences(store)] == [plain(one) for one in rows]
    again = import_preferences(store, rows, "hh")
    assert (again.votes, again.repeated) == (0, 300)
    assert store.counts()["votes"] == 300
    assert store.counts()["tasks_done"] == 300
    assert preferences(store)[0].prompt.where == first.prompt.where
    assert agreement(store).first_chosen.n == 0  # nobody knows what was shown first


def test_import_of_doubtful_repeated_and_equal_rows(store: Store) -> None:
    a, b, c, d = transcripts(4)
    turned = Preference(a.prompt, a.rejected, a.chosen)
    doubtful = Preference(b.prompt, b.chosen, b.rejected, p_chosen=0.3)
    equal = Preference(c.prompt, c.chosen, c.chosen)
    even = Preference(d.prompt, d.chosen, d.rejected, p_chosen=0.5)
    done = import_preferences(store, [a, turned, a, doubtful, equal, even], "hh")
    assert (done.votes, done.alike) == (5, 1)
    assert store.counts()["labelers"] == 3  # a pair judged three times was judged by three
    rows = preferences(store)
    assert [(one.chosen.text, one.p_chosen) for one in rows] == [
        ("kind 1", 1.0),
        ("rude 1", 1.0),
        ("kind 1", 1.0),
        ("rude 2", 0.7),
    ]
    majority = view_preferences(store, "majority", "half")
    assert [one.chosen.text for one in majority.preferences][:2] == ["kind 1", "rude 2"]
    assert majority.tied_pairs == 1
    assert agreement(store).raw.value == pytest.approx(1 / 3)


def test_import_of_real_pairs(store: Store, shared_data: Path) -> None:
    """Human pairs as published: what has a common prompt comes back as it was."""
    rows = []
    lines = (shared_data / "hh-harmless" / "pairs.jsonl").read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:400], 1):
        pair = json.loads(line)
        heads = [side.rpartition("\n\nAssistant:") for side in (pair["chosen"], pair["rejected"])]
        if heads[0][0] == heads[1][0]:
            prompt = Prompt.user(heads[0][0], where=f"pairs.jsonl:{number}")
            rows.append(Preference(prompt, Completion(heads[0][2]), Completion(heads[1][2])))
    done = import_preferences(store, rows, "hh-harmless")
    assert done.rows > 300
    assert done.votes + done.alike == done.rows
    known = [(r.prompt.id, r.chosen.text, r.rejected.text) for r in rows if r.chosen.text != r.rejected.text]
    read_back = [(r.prompt.id, r.chosen.text, r.rejected.text) for r in preferences(store)]
    assert sorted(read_back) == sorted(known)


# Agreement.


def test_wilson_interval_against_published_values() -> None:
    """Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3: 81/263 and 0/20."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_implied_accuracy() -> None:
    q = 0.8
    assert implied_accuracy(q * q + (1 - q) ** 2) == pytest.approx(q)
    assert implied_accuracy(0.4) == 0.5


def test_agreement_by_hand(store: Store) -> None:
    """Two of three doubly labelled pairs agree; the tie takes no side."""
    for i, verdict in enumerate(("same", "same", "other", "tie")):
        a, b = ask(store, ["long answer", "short"], "pairwise", 2, Prompt.user(f"question {i}"))
        say(store, "ada", prefer(a))
        say(store, "bob", {"same": prefer(a), "other": prefer(b), "tie": tie()}[verdict])
    found = agreement(store)
    assert (found.raw.value, found.raw.n) == (pytest.approx(2 / 3), 3)
    assert (found.raw.low, found.raw.high) == wilson_interval(2, 3)
    assert found.accuracy.value == pytest.approx((1 + (1 / 3) ** 0.5) / 2)
    assert (found.longer_chosen.value, found.longer_chosen.n) == (pytest.approx(6 / 7), 7)
    assert found.first_chosen.n == 7
    bob = store.add_labeler("bob", "human")
    assert agreement(store, bob).longer_chosen.n == 3


def test_first_chosen_counts_what_was_shown(store: Store) -> None:
    """Three labelers take the first of three, whatever it is: each vote counts once."""
    ask(store, list("abc"), "ranking", need=3)
    for name in ("ada", "bob", "cyd"):
        lease = store.lease(store.add_labeler(name, "human"))
        assert lease is not None
        say(store, name, ranking([[one.id] for one in lease.comparison.completions]))
    assert (agreement(store).first_chosen.value, agreement(store).first_chosen.n) == (1.0, 3)


def test_a_rating_of_several_completions_ranks_them() -> None:
    said = rating({"a": {"overall": 2}, "b": {"overall": 6, "honest": 1}, "c": {"helpful": 1, "honest": 3}})
    found = {
        (one.better, one.worse): (one.p, one.weight) for one in verdicts(said | {"weight": 0.5}, list("abc"))
    }
    assert found == {
        ("b", "a"): (1.0, pytest.approx(1 / 6)),
        ("b", "c"): (1.0, pytest.approx(1 / 6)),
        ("a", "c"): (0.5, pytest.approx(1 / 6)),
    }
    assert list(verdicts(rating({"a": {"overall": 2}}), ["a"])) == []
