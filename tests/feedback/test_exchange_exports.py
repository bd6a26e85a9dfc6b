"""Views as files that others read, and raw votes that come back as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, func, insert, select, update

from concordant.data.layouts.reading import read_judgements, read_preferences, read_prompts
from concordant.data.types import Completion, Message, Prompt
from concordant.errors import UserError
from concordant.feedback.answering.disputes import adjudicate, disputes
from concordant.feedback.asking.known import add_known, gold_scores, known_answers, withdraw
from concordant.feedback.asking.practice import add_gold, add_practice
from concordant.feedback.asking.rubric import DEFAULT_RUBRIC
from concordant.feedback.database.erasure import erase
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.database.schema import adjudication, event_table, gold, labeler, project, task, vote
from concordant.feedback.exchange import exporting
from concordant.feedback.exchange.exporting import Exported, Settings, export_view
from concordant.feedback.exchange.importing import import_votes
from concordant.feedback.reading.live_votes import digest
from concordant.feedback.reading.views import judgements, preferences, read_live_votes, view_preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Submission, Vote, both_bad, prefer, ranking, rating, skip, tie

ASKED = Prompt((Message("user", "hi"),), family="fact", where="a.jsonl:1", answer="x")
LONG = Prompt(
    (Message("system", "be brief"), Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
    where="a.jsonl:2",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "feedback.sqlite") as opened:
        yield opened


def ask(
    store: Store, texts: Sequence[str], kind: str = "pairwise", prompt: Prompt = ASKED, need: int = 2
) -> list[str]:
    rows = [(prompt, Completion(text, tokens=tuple(text.encode())), {"seed": 1}, True) for text in texts]
    ids = store.add_completions(rows)
    store.create_tasks(kind, [ids], need=need)
    return ids


def say(store: Store, name: str, *payloads: dict[str, Any], kind: str = "human") -> list[str]:
    """The labeler answers its next task, once for each pass; return the ids of its votes."""
    lease = store.lease(store.add_labeler(name, kind, {"team": "t"}))
    assert lease is not None
    comparison = lease.comparison
    votes = [
        Vote(comparison.task_id, said, pass_index=n, active_ms=5, wall_ms=9)
        for n, said in enumerate(payloads)
    ]
    submissions = [Submission(lease.token, f"{lease.token}{one.pass_index}", one) for one in votes]
    return [receipt.vote_id for receipt in store.submit_many(submissions)]


@pytest.fixture
def voted(store: Store) -> Store:
    """A pair with two voters, a ranking, a rated answer, a skip, a tie and a both bad."""
    _, b = ask(store, ["one", "two"])
    say(store, "ada", prefer(b, strength=2))
    say(store, "bob", prefer(b))
    c, d, e = ask(store, ["c", "d", "e"], "ranking", LONG, need=1)
    say(store, "ada", ranking([[d], [c, e]], unacceptable=[e]))
    (f,) = ask(store, ["rated"], "rating", need=1)
    say(store, "judge", rating({f: {"overall": 6}}), rating({f: {"overall": 2}}), kind="judge")
    ask(store, ["x", "y"], prompt=Prompt.user("ho"))
    say(store, "ada", tie())
    say(store, "cid", skip("no idea"))
    say(store, "bob", both_bad())
    return store


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(store: Store, folder: Path, **settings: Any) -> list[dict[str, Any]]:
    out = folder / "out.jsonl"
    out.unlink(missing_ok=True)
    export_view(store, out, "jsonl", Settings(**settings))
    return lines(out)


# Views


def test_preferences_say_who_preferred_what_in_which_order(voted: Store, tmp_path: Path) -> None:
    rows = written(voted, tmp_path)
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [
        ("two", "one"),
        ("two", "one"),
        ("d", "c"),
        ("d", "e"),
    ]
    assert [row["labelers"] for row in rows] == [["ada"], ["bob"], ["ada"], ["ada"]]
    assert [row["margin"] for row in rows] == [pytest.approx(2 / 3), 0, 0, 0]
    assert [row["weight"] for row in rows] == [1, 1, pytest.approx(1 / 3), pytest.approx(1 / 3)]
    assert rows[0]["prompt"] == [{"role": "user", "content": "hi"}]
    assert {row["source"] for row in rows} == {"a.jsonl:1", "a.jsonl:2"}
    with voted.reading() as connection:
        first = connection.execute(select(vote).order_by(vote.c.created, vote.c.id)).first()
    assert first is not None
    best = first.shown[0] == first.payload["winner"]
    assert rows[0]["order"] == ["chosen first" if best else "rejected first"]
    assert rows[0]["task"] == first.task
    assert rows[0]["rubric"] == first.rubric_version


def test_by_majority_a_pair_has_all_its_labelers(voted: Store, tmp_path: Path) -> None:
    rows = written(voted, tmp_path, mode="majority", ties="half")
    assert [(row["labelers"], row["p_chosen"]) for row in rows] == [
        (["ada", "bob"], 1.0),
        (["ada"], 1.0),
        (["ada"], 1.0),
        (["ada"], 0.5),
        (["ada"], 0.5),
    ]
    assert all(len(row["order"]) == len(row["labelers"]) for row in rows)
    assert len(rows) == len(view_preferences(voted, "majority", "half").preferences)


def test_kto_rows_are_the_judgements(voted: Store, tmp_path: Path) -> None:
    out = tmp_path / "kto.jsonl"
    done = export_view(voted, out, "jsonl", Settings(view="kto"))
    expected = [(one.completion.text, one.desirable, pytest.approx(one.weight)) for one in judgements(voted)]
    found = [(row["completion"][0]["content"], row["label"], row["weight"]) for row in lines(out)]
    assert found == expected
    assert done.desirable == sum(one[1] for one in expected)
    assert lines(out)[0]["order"][0] in ("1 of 2", "2 of 2")


def test_sft_rows_lead_their_rivals_and_nobody_refused_them(voted: Store, tmp_path: Path) -> None:
    rows = written(voted, tmp_path, view="sft")
    assert [row["completion"][0]["content"] for row in rows] == ["two", "d"]
    g, _ = ask(voted, ["g", "h"], prompt=Prompt.user("new"), need=3)
    say(voted, "ada", prefer(g))
    say(voted, "bob", prefer(g))
    rows = written(voted, tmp_path, view="sft")
    assert [row["completion"][0]["content"] for row in rows] == ["two", "d", "g"]
    assert rows[-1]["labelers"] == ["ada", "bob"]
    say(voted, "dan", both_bad())
    rows = written(voted, tmp_path, view="sft")
    assert [row["completion"][0]["content"] for row in rows] == ["two", "d"]


def test_of_a_tie_nothing_is_imitated(store: Store, tmp_path: Path) -> None:
    ask(store, ["a", "b"])
    say(store, "ada", tie())
    with pytest.raises(UserError, match="no rows"):
        written(store, tmp_path, view="sft")


def test_a_rating_is_imitated_when_the_votes_like_it(store: Store, tmp_path: Path) -> None:
    (a,) = ask(store, ["good"], "rating", need=2)
    say(store, "ada", rating({a: {"overall": 5}}))
    assert len(written(store, tmp_path, view="sft")) == 1
    assert len(written(store, tmp_path, view="kto", threshold=5.5)) == 1
    with pytest.raises(UserError, match="no rows"):
        written(store, tmp_path, view="sft", threshold=5.5)


def test_prompts_are_all_there_are(voted: Store, tmp_path: Path) -> None:
    voted.add_items([Prompt.user("never voted on")])
    rows = written(voted, tmp_path, view="prompts", turns="strings")
    assert {row["prompt"] for row in rows} == {
        "hi",
        "ho",
        "never voted on",
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
    }
    assert {row["system"] for row in rows} == {None, "be brief"}


# Layouts, as our own readers find them


@pytest.mark.parametrize("turns", ["messages", "strings"])
@pytest.mark.parametrize("layout", ["explicit", "implicit"])
@pytest.mark.parametrize("file", ["jsonl", "parquet", "datasets"])
def test_preferences_come_back_from_every_layout_and_file(
    voted: Store, tmp_path: Path, layout: str, turns: Any, file: Any
) -> None:
    out = tmp_path / {"jsonl": "p.jsonl", "parquet": "p.parquet", "datasets": "p"}[file]
    done = export_view(voted, out, file, Settings(layout=layout, turns=turns, ties="half"))
    read = read_preferences(str(out))
    expected = view_preferences(voted, ties="half").preferences
    assert done.rows == len(read.rows) == len(expected)
    assert [(one.prompt.id, one.chosen.text, one.rejected.text) for one in read.rows] == [
        (one.prompt.id, one.chosen.text, one.rejected.text) for one in expected
    ]
    assert [(one.p_chosen, one.margin, one.weight) for one in read.rows] == [
        pytest.approx((one.p_chosen, one.margin, one.weight)) for one in expected
    ]
    assert ("prompt" in done.columns) == (layout == "explicit")


@pytest.mark.parametrize("turns", ["messages", "strings"])
def test_judgements_and_prompts_come_back(voted: Store, tmp_path: Path, turns: Any) -> None:
    export_view(voted, tmp_path / "k.jsonl", "jsonl", Settings(view="kto", turns=turns))
    read = read_judgements("k.jsonl", root=tmp_path).rows
    assert [(one.prompt.id, one.completion.text, one.desirable) for one in read] == [
        (one.prompt.id, one.completion.text, one.desirable) for one in judgements(voted)
    ]
    export_view(voted, tmp_path / "q.jsonl", "jsonl", Settings(view="prompts", turns=turns))
    assert {one.id for one in read_prompts("q.jsonl", root=tmp_path).rows} == {
        ASKED.id,
        LONG.id,
        Prompt.user("ho").id,
    }


def test_text_that_looks_like_turns_is_exact_or_left_out(store: Store, tmp_path: Path) -> None:
    trap = Prompt.user("Human: who speaks?")
    worse = Prompt.user("Human: say\n\nAssistant: this")
    for prompt in (trap, worse):
        a, _ = ask(store, ["a", "b"], prompt=prompt, need=1)
        say(store, "ada", prefer(a))
    out = tmp_path / "p.jsonl"
    done = export_view(store, out, "jsonl", Settings(turns="strings"))
    (read,) = read_preferences(str(out)).rows
    assert read.prompt.id == trap.id
    assert list(done.left_out) == [preferences(store)[1].group]
    exact = tmp_path / "m.jsonl"
    export_view(store, exact, "jsonl")
    assert [one.prompt.id for one in read_preferences(str(exact)).rows] == [trap.id, worse.id]


# Files


def test_a_failed_export_leaves_nothing(
    voted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_more: Any) -> str:
        raise RuntimeError("halfway")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(exporting.json, "dumps", broken)
    with pytest.raises(RuntimeError):
        export_view(voted, tmp_path / "p.jsonl", "jsonl")
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_there_is_not_overwritten(voted: Store, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="exists"):
        export_view(voted, tmp_path / "p.jsonl", "jsonl")
    assert (tmp_path / "p.jsonl").read_text(encoding="utf-8") == "mine"
    with pytest.raises(UserError, match="exists"):
        export_view(voted, tmp_path, "datasets")
    (tmp_path / "empty").mkdir()
    assert export_view(voted, tmp_path / "empty", "datasets").rows == 4


@pytest.mark.parametrize(
    ("file", "settings"),
    [("parquet", {"view": "votes"}), ("csv", {}), ("jsonl", {"view": "all"}), ("jsonl", {"layout": "odd"})],
)
def test_what_cannot_be_exported_says_what_can(
    voted: Store, tmp_path: Path, file: Any, settings: dict[str, Any]
) -> None:
    with pytest.raises(UserError) as raised:
        export_view(voted, tmp_path / "out", file, Settings(**settings))
    assert "jsonl" in raised.value.expected


def test_an_empty_store_has_nothing_to_export(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows"):
        export_view(store, tmp_path / "p.jsonl", "jsonl")
    assert not (tmp_path / "p.jsonl").exists()


# Raw votes


def there_and_back(store: Store, folder: Path) -> tuple[Store, Exported]:
    done = export_view(store, folder / "votes.jsonl", "jsonl", Settings(view="votes"))
    other = Store.open(folder / "other.sqlite")
    import_votes(other, "votes.jsonl", root=folder)
    return other, done


def columns_of(store: Store) -> list[tuple[Any, ...]]:
    """Every vote as it stands, without nothing left out."""
    with store.reading() as connection:
        rows = connection.execute(select(vote).order_by(vote.c.id)).all()
    return [tuple(row) for row in rows]


def test_raw_votes_make_an_equal_store(voted: Store, tmp_path: Path) -> None:
    other, done = there_and_back(voted, tmp_path)
    with other:
        assert done.rows == 8
        assert digest(other) == digest(voted)
        assert columns_of(other) == columns_of(voted)
        assert read_live_votes(other).members == read_live_votes(voted).members
        same = (
            "votes",
            "live_votes",
            "verdicts",
            "tasks",
            "labelers",
            "tasks_open",
            "tasks_done",
            "completions",
        )
        counts, expected = other.counts(), voted.counts()
        assert {name: counts[name] for name in same} == {name: expected[name] for name in same}
        assert preferences(other) == preferences(voted)
        assert preferences(other)[0].chosen.tokens == tuple(b"two")
        assert preferences(other)[0].prompt.answer == "x"


def test_gold_decisions_events_and_projects_come_back(voted: Store, tmp_path: Path) -> None:
    """What stands beside the votes, as it stood; and votes of an evaluation do not come back as votes to learn from."""
    add_practice(voted)
    ada = voted.add_labeler("ada", "human")
    rows = [(Prompt.user(f"disputed {n}"), Completion(f"{n}{x}"), {}, True) for n in range(2) for x in "ab"]
    ids = voted.add_completions(rows)
    evaluation = voted.add_project("held out", "evaluation")
    (disputed,) = voted.create_tasks("pairwise", [ids[:2]]).ids
    (held,) = voted.create_tasks("pairwise", [ids[2:]], project=evaluation).ids
    assert disputed is not None
    assert held is not None
    (lease,) = voted.lease_many(ada, 1, among=[held])
    voted.submit(lease.token, "held", Vote(held, prefer(ids[2])))
    with voted.writing() as connection:
        connection.execute(update(task).where(task.c.id == disputed).values(state="adjudication"))
    adjudicate(voted, disputed, ada, prefer(ids[1]), "the second cites a source")
    add_gold(voted, disputed, ids[1], "it cites a source")
    events = [
        {"id": "thumb", "completion": ids[0], "labeler": ada, "supersedes": None, "created": 1},
        {"id": "again", "completion": ids[0], "labeler": None, "supersedes": "thumb", "created": 2},
    ]
    shared = {
        "kind": "thumb",
        "value": {"up": True},
        "weight": 0.5,
        "consent": True,
        "thread": "t",
        "turn": 1,
    }
    with voted.writing() as connection:
        connection.execute(insert(event_table), [one | shared for one in events])
    other, done = there_and_back(voted, tmp_path)
    with other:
        assert done.rows == 8 + 1 + 4 + 1 + 2
        for table in (vote, gold, adjudication, event_table, project):
            assert all_of(other, table) == all_of(voted, table)
        assert digest(other) == digest(voted)
        assert preferences(other) == preferences(voted)
        assert read_live_votes(other, evaluation).votes == read_live_votes(voted, evaluation).votes
        again = import_votes(other, "votes.jsonl", root=tmp_path)
        assert (again.votes, again.tasks, again.problems) == (0, 0, ())
        assert len(all_of(other, gold)) == 4
    found = lines(tmp_path / "votes.jsonl")
    for row in found:
        if row["beside"] == "gold":
            row["gold"]["expected"] = {"better": "nobody's"}
        elif row["beside"] == "decision":
            row["decision"]["payload"] = {"type": "pairwise", "verdict": "prefer", "winner": "nobody's"}
    (tmp_path / "torn.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    with Store.open(tmp_path / "torn.sqlite") as other:
        done_again = import_votes(other, "torn.jsonl", root=tmp_path)
        assert (done_again.votes, done_again.counts) == (9, {"payload": 5})
        assert all_of(other, gold) == all_of(other, adjudication) == []
    odd = found[-1] | {"beside": "rumour"}
    (tmp_path / "odd.jsonl").write_text(json.dumps(odd) + "\n")
    with pytest.raises(UserError, match="no usable vote"):
        import_votes(voted, "odd.jsonl", root=tmp_path)


def test_withdrawn_questions_and_disputes_come_back_as_such(store: Store, tmp_path: Path) -> None:
    ids = store.add_completions([(ASKED, Completion(text), {}, True) for text in "abcd"])
    wrong = add_known(store, DEFAULT_PROJECT, ids[:2], ids[0], "a mistake", rubric=DEFAULT_RUBRIC)
    (disputed,) = store.create_tasks("pairwise", [ids[2:]], need=2, policy={"most": 2}).ids
    for name, winner in (("ada", ids[2]), ("ben", ids[3])):
        who = store.add_labeler(name, "human")
        for lease in store.lease_many(who, 2, among=[wrong, str(disputed)]):
            said = prefer(winner if lease.comparison.task_id == disputed else ids[0])
            store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, said))
    withdraw(store, wrong)
    other, _ = there_and_back(store, tmp_path)
    with other:
        assert known_answers(other, DEFAULT_PROJECT) == []
        assert gold_scores(other) == {}
        assert [one.task for one in disputes(other, DEFAULT_PROJECT)] == [disputed]
        add_known(other, DEFAULT_PROJECT, ids[:2], ids[1], "now it is right", rubric=DEFAULT_RUBRIC)
        import_votes(other, "votes.jsonl", root=tmp_path)
        assert [one.better for one in known_answers(other, DEFAULT_PROJECT)] == [ids[1]]


def test_settings_that_cannot_hold_are_refused(store: Store, tmp_path: Path) -> None:
    """They would end every page of their project."""
    project = store.add_project("mine", settings={"known_every": 5})
    ids = store.add_completions([(ASKED, Completion(text), {}, True) for text in "ab"])
    store.create_tasks("pairwise", [ids], project=project, need=2)
    for name in ("ada", "ben"):
        lease = store.lease(store.add_labeler(name, "human"), project=project)
        assert lease is not None
        store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(ids[0])))
    export_view(store, tmp_path / "votes.jsonl", "jsonl", Settings(view="votes"))
    rows = lines(tmp_path / "votes.jsonl")
    rows[1]["task"]["project"]["settings"] = {"known_every": "often"}
    (tmp_path / "torn.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Store.open(tmp_path / "torn.sqlite") as other:
        done = import_votes(other, "torn.jsonl", root=tmp_path)
        assert (done.votes, done.counts) == (1, {"label": 1})


def all_of(store: Store, table: Table) -> list[tuple[Any, ...]]:
    columns = [column for column in table.c if (table.name, column.name) != ("project", "created")]
    with store.reading() as connection:
        return sorted(map(tuple, connection.execute(select(*columns)).all()), key=str)


def test_votes_of_the_first_version_are_read(voted: Store, tmp_path: Path) -> None:
    export_view(voted, tmp_path / "votes.jsonl", "jsonl", Settings(view="votes"))
    rows = [row | {"concordant_votes": 1} for row in lines(tmp_path / "votes.jsonl")]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Store.open(tmp_path / "other.sqlite") as other:
        assert import_votes(other, "old.jsonl", root=tmp_path).votes == 8


def test_what_was_erased_is_left_out_and_counted(store: Store, tmp_path: Path) -> None:
    ada = store.add_labeler("ada", "human")
    (own,) = store.add_completions([(ASKED, Completion("by hand"), {}, True)], source="human", author=ada)
    (other_one,) = store.add_completions([(ASKED, Completion("by a model"), {}, True)])
    store.create_tasks("pairwise", [[own, other_one]])
    say(store, "bob", prefer(own))
    ask(store, ["a", "b"], need=1)
    say(store, "bob", tie())
    erase(store, "ada")
    export_view(store, tmp_path / "votes.jsonl", "jsonl", Settings(view="votes"))
    with Store.open(tmp_path / "other.sqlite") as other:
        done = import_votes(other, "votes.jsonl", root=tmp_path)
        assert (done.votes, done.counts) == (1, {"erased": 1})


def test_corrections_and_retractions_come_back_in_their_chain(store: Store, tmp_path: Path) -> None:
    a, b = ask(store, ["a", "b"], need=1)
    (first,) = say(store, "ada", prefer(a))
    store.retract(first)
    say(store, "ada", prefer(b))
    export_view(store, tmp_path / "votes.jsonl", "jsonl", Settings(view="votes"))
    turned = list(reversed(lines(tmp_path / "votes.jsonl")))
    (tmp_path / "turned.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in turned), encoding="utf-8"
    )
    with Store.open(tmp_path / "other.sqlite") as other:
        assert import_votes(other, "turned.jsonl", root=tmp_path).votes == 3
        assert columns_of(other) == columns_of(store)
        assert digest(other) == digest(store)
        assert other.counts()["live_votes"] == 1
    torn = [row for row in turned if row["vote"]["id"] != first]
    (tmp_path / "torn.jsonl").write_text("".join(json.dumps(row) + "\n" for row in torn), encoding="utf-8")
    with Store.open(tmp_path / "torn.sqlite") as third:
        done = import_votes(third, "torn.jsonl", root=tmp_path)
        assert (done.votes, done.counts) == (0, {"supersedes": 2})
        assert third.counts()["votes"] == 0


def test_votes_come_back_to_their_own_store_as_known(voted: Store, tmp_path: Path) -> None:
    before = digest(voted), voted.counts()
    export_view(voted, tmp_path / "votes.jsonl", "jsonl", Settings(view="votes"))
    again = import_votes(voted, "votes.jsonl", root=tmp_path)
    assert (again.votes, again.repeated, again.tasks, again.problems) == (0, 8, 0, ())
    assert (digest(voted), voted.counts()) == before


def test_the_author_of_a_completion_comes_back(store: Store, tmp_path: Path) -> None:
    writer = store.add_labeler("eve", "human")
    ids = store.add_completions(
        [(ASKED, Completion("by eve"), {}, None)], source="human", author=writer
    ) + store.add_completions([(ASKED, Completion("sampled"), {}, True)])
    store.create_tasks("pairwise", [ids])
    say(store, "ada", prefer(ids[0]))
    other, _ = there_and_back(store, tmp_path)
    with other:
        assert digest(other) == digest(store)
        assert other.lease(writer) is None
        with other.reading() as connection:
            assert connection.scalar(select(func.count()).select_from(labeler)) == 2


def test_votes_that_were_changed_on_the_way_are_refused(voted: Store, tmp_path: Path) -> None:
    export_view(voted, tmp_path / "votes.jsonl", "jsonl", Settings(view="votes"))
    rows = lines(tmp_path / "votes.jsonl")
    rows[0]["completions"][0]["tokens"] = [9]
    rows[1]["concordant_votes"] = 99
    del rows[2]["vote"]["payload"]
    rows[3]["vote"]["payload"]["scores"] = {}
    rows[4]["labeler"]["kind"] = "ghost"
    (tmp_path / "changed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Store.open(tmp_path / "other.sqlite") as other:
        done = import_votes(other, "changed.jsonl", root=tmp_path)
        kinds = {problem.kind: problem.where for problem in done.problems}
        assert kinds == {
            "changed": "changed.jsonl:1",
            "version": "changed.jsonl:2",
            "missing": "changed.jsonl:3",
            "payload": "changed.jsonl:4",
            "label": "changed.jsonl:5",
        }
        assert (done.votes, done.dropped) == (3, 5)
