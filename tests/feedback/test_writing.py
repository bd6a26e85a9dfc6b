"""What people write, what a rubric asks by dimension, and what training reads of both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.asking.questions import ask_more
from concordant.feedback.asking.rubric import (
    DEFAULT_RUBRIC,
    asked_of,
    dimensions_of,
    latest_rubric,
    read_rubric,
    written_out,
)
from concordant.feedback.database import schema
from concordant.feedback.database.erasure import erase
from concordant.feedback.exchange.exporting import Settings, export_view
from concordant.feedback.exchange.importing import ImportedVotes, keep_votes, read_votes
from concordant.feedback.reading.agreement import agreement
from concordant.feedback.reading.live_votes import digest, of_dimension, read_live_votes
from concordant.feedback.reading.standing import standing
from concordant.feedback.reading.views import demonstrations, judgements, preferences, view_preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Payload, Receipt, Vote, accept, edit, prefer, ranking, rating, tie
from telling import tells

PROMPT = Prompt.user("Where is the mill?")


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store.open(address) as opened:
        yield opened


def answer(store: Store, text: str = "By the river, I think.") -> str:
    tokens = tuple(map(ord, text))
    return store.add_completions([(PROMPT, Completion(text, tokens), {"stage": "sft"}, True)])[0]


def say(store: Store, payload: Payload, name: str = "ada") -> Receipt:
    """The labeler answers its next task."""
    who = store.add_labeler(name, "human")
    lease = store.lease(who)
    assert lease is not None
    return store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, payload), labeler=who)


def test_an_edit_is_a_pair_a_demonstration_and_two_judgements(store: Store) -> None:
    parent = answer(store)
    store.create_tasks("edit", [[parent]])
    say(store, edit(parent, "By the river."))
    (pair,) = preferences(store)
    assert (pair.chosen.text, pair.rejected.text, pair.p_chosen) == (
        "By the river.",
        "By the river, I think.",
        1.0,
    )
    assert pair.rejected.tokens == tuple(map(ord, "By the river, I think."))
    assert [(d.prompt, d.completion.text) for d in demonstrations(store).demonstrations] == [
        (PROMPT, "By the river.")
    ]
    assert demonstrations(store).written == 1
    assert [(j.completion.text, j.desirable) for j in judgements(store)] == [
        ("By the river.", True),
        ("By the river, I think.", False),
    ]
    with store.reading() as connection:
        kept = connection.execute(select(schema.completion).where(schema.completion.c.source == "edit")).one()
        payload = connection.scalar(select(schema.vote.c.payload))
    assert (kept.parent, kept.text, kept.tokens) == (parent, "By the river.", None)
    assert payload == {"type": "edit", "parent": parent, "accept": False, "completion": kept.id}


def test_an_edit_is_nobodys_comparison(store: Store) -> None:
    """Who edits likes the result better: agreement and what was shown first are not about that."""
    store.create_tasks("edit", [[parent := answer(store)]], need=2)
    for name, text in (("ada", "By the old river."), ("ben", "North.")):
        say(store, edit(parent, text), name)
    figures = agreement(store)
    assert (figures.raw.n, figures.first_chosen.n, figures.longer_chosen.n) == (0, 0, 0)
    assert [(p.chosen.text, p.weight) for p in preferences(store, mode="posterior")] == [
        ("By the old river.", 1.0),
        ("North.", 1.0),
    ]


def test_edits_are_exported_with_who_made_them(store: Store, tmp_path: Path) -> None:
    store.create_tasks("edit", [[parent := answer(store)]])
    say(store, edit(parent, "By the river."))
    store.create_demonstration_tasks([PROMPT])
    say(store, edit(None, "There."), "ben")
    for view, answers in (("preferences", ["By the river."]), ("sft", ["By the river.", "There."])):
        export_view(store, tmp_path / view, "jsonl", Settings(view=view))  # type: ignore[arg-type]
        rows = [json.loads(line) for line in (tmp_path / view).read_text().splitlines()]
        column = "chosen" if view == "preferences" else "completion"
        assert [row[column][0]["content"] for row in rows] == answers
        assert [row["labelers"] for row in rows] == [["ada"], ["ben"]][: len(rows)]
        assert all(row["rubric"] and row["task"] for row in rows)


def test_an_answer_left_as_it_is(store: Store) -> None:
    store.create_tasks("edit", [[parent := answer(store)]])
    say(store, accept(parent))
    assert preferences(store) == []
    view = demonstrations(store)
    assert [d.completion.text for d in view.demonstrations] == ["By the river, I think."]
    assert view.written == 0
    assert [(j.completion.id, j.desirable) for j in judgements(store)] == [(parent, True)]


def test_an_answer_of_ones_own(store: Store) -> None:
    other = Prompt.user("And the well?")
    created = store.create_demonstration_tasks([PROMPT, other], need=1)
    assert created.added == 2
    assert store.create_demonstration_tasks([PROMPT]).added == 0
    who = store.add_labeler("ada", "human")
    lease = store.lease(who)
    assert lease is not None
    assert (lease.comparison.kind, lease.comparison.completions) == ("demonstration", ())
    assert lease.rubric["question"] == "Write the answer you would like to get"
    store.submit(lease.token, "k", Vote(lease.comparison.task_id, edit(None, "There.")))
    assert store.submit(lease.token, "k", Vote(lease.comparison.task_id, edit(None, "There."))).repeated
    view = demonstrations(store)
    assert [(d.prompt, d.completion.text) for d in view.demonstrations] == [
        (lease.comparison.prompt, "There.")
    ]
    assert view.written == 1
    assert preferences(store) == []
    assert store.counts()["completions"] == 1


def test_what_was_taken_back_is_no_demonstration(store: Store) -> None:
    store.create_demonstration_tasks([PROMPT])
    receipt = say(store, edit(None, "There."))
    store.retract(receipt.vote_id)
    assert demonstrations(store).demonstrations == []
    say(store, edit(None, "Over there."))
    assert [d.completion.text for d in demonstrations(store).demonstrations] == ["Over there."]


def test_a_written_answer_that_others_call_unacceptable_is_left_out(store: Store) -> None:
    store.create_tasks("edit", [[parent := answer(store)]])
    say(store, edit(parent, "Nowhere."))
    live = read_live_votes(store)
    (written,) = [key for key, one in live.completions.items() if one.text == "Nowhere."]
    store.create_tasks("ranking", [[parent, written]])
    assert store.lease(store.add_labeler("ada", "human")) is None  # nobody judges what they wrote
    say(store, ranking([[parent], [written]], unacceptable=[written]), "ben")
    view = demonstrations(store)
    assert ([d.completion.id for d in view.demonstrations], view.unacceptable) == ([parent], 1)


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ({"type": "edit", "parent": "PARENT", "text": "  "}, "without a text"),
        ({"type": "edit", "parent": "PARENT", "text": 3}, "without a text"),
        ({"type": "edit", "parent": "PARENT"}, "without a text"),
        ({"type": "edit", "parent": "PARENT", "text": "x", "completion": "y"}, "without a text"),
        (
            {"type": "edit", "parent": "PARENT", "text": "x", "accept": True},
            "keeps the answer and has a text",
        ),
        ({"type": "edit", "parent": None, "text": "x"}, "an edit of None"),
        ({"type": "edit", "parent": "other", "text": "x"}, "an edit of 'other'"),
        ({"type": "edit", "parent": "PARENT", "text": "By the river, I think."}, "changes nothing"),
        ({"type": "pairwise", "verdict": "tie", "winner": None}, "a vote of type 'pairwise'"),
    ],
)
def test_edits_that_are_none(store: Store, payload: dict[str, object], complaint: str) -> None:
    store.create_tasks("edit", [[parent := answer(store)]])
    if payload.get("parent") == "PARENT":
        payload = payload | {"parent": parent}
    with pytest.raises(UserError, match=complaint):
        say(store, payload)
    assert store.counts()["votes"] == 0
    assert store.counts()["completions"] == 1


def test_an_own_answer_has_no_parent(store: Store) -> None:
    store.create_demonstration_tasks([PROMPT])
    for payload in (edit("x", "There."), accept("x"), {"type": "edit", "parent": None, "accept": True}):
        with pytest.raises(UserError, match="an edit of"):
            say(store, payload)


# Dimensions


def test_a_pair_by_dimension(store: Store) -> None:
    """`dims` lean to the completion with the smaller id, whatever was shown first."""
    pair = [answer(store, "By the river."), answer(store, "No idea, go away.")]
    first, second = sorted(pair)
    store.create_tasks("pairwise", [pair], need=2)
    said = prefer(second) | {"dims": {"helpful": 2, "honest": -3, "concise": 0}}
    say(store, said)
    say(store, tie(), "ben")
    assert [p.chosen.id for p in preferences(store)] == [second]
    for dimension, chosen, margin in (("helpful", first, 2 / 3), ("honest", second, 1.0)):
        (row,) = view_preferences(store, dimension=dimension).preferences
        assert (row.chosen.id, row.margin) == (chosen, pytest.approx(margin))
    view = view_preferences(store, dimension="concise")
    assert (view.preferences, view.tied_pairs) == ([], 1)
    assert view_preferences(store, dimension="harmless").preferences == []
    assert len(of_dimension(read_live_votes(store), "helpful").votes) == 1


def test_ratings_by_dimension(store: Store) -> None:
    pair = [answer(store, "By the river."), answer(store, "No idea.")]
    store.create_tasks("rating", [pair], rubric=DEFAULT_RUBRIC)
    say(store, rating({pair[0]: {"helpful": 7, "honest": 2}, pair[1]: {"helpful": 1, "honest": 7}}))
    assert [p.chosen.id for p in view_preferences(store, dimension="helpful").preferences] == [pair[0]]
    assert [p.chosen.id for p in view_preferences(store, dimension="honest").preferences] == [pair[1]]


def test_dimensions_that_the_rubric_does_not_have(store: Store) -> None:
    pair = [answer(store, "By the river."), answer(store, "No idea.")]
    store.create_tasks("pairwise", [pair])
    for dims, complaint in (
        ({"funny": 1}, "no dimension is called 'funny'"),
        ({"helpful": 4}, "4 for helpful"),
    ):
        with pytest.raises(UserError, match=complaint):
            say(store, prefer(pair[0]) | {"dims": dims})
    assert store.counts()["votes"] == 0


# Rubric files


def write(folder: Path, text: str) -> Path:
    file = folder / "rubric.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_default_rubric_is_the_same_as_a_file(tmp_path: Path) -> None:
    text = written_out(DEFAULT_RUBRIC)
    assert "It does what was asked." in text
    assert read_rubric(write(tmp_path, text)) == DEFAULT_RUBRIC


def test_a_rubric_file_and_back(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'question = "Which reply \\"fits\\"?"\nasked = "always"\n[dimensions]\n'
        'helpful = "Does it help?"\n"to the point" = "A\\tB \\\\ é"\n',
    )
    body = read_rubric(file)
    assert body["question"] == 'Which reply "fits"?'
    assert [(one.name, one.meaning) for one in dimensions_of(body)] == [
        ("helpful", "Does it help?"),
        ("to the point", "A\tB \\ é"),
    ]
    assert asked_of(body) == "always"
    assert read_rubric(write(tmp_path, written_out(body))) == body


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("question = 3", "question = 3"),
        ('question = "  "', "question = '  '"),
        ('asked = "maybe"', "asked = 'maybe'"),
        ("dimensions = ['helpful']", "dimensions = "),
        ("[dimensions]\nhelpful = 3", "dimensions = "),
        ("[dimensions]", "dimensions = "),
        ("colour = 3", "unknown key 'colour'"),
        ("question", "cannot be read"),
        ("[dimensions]\n" + "\n".join(f'd{n} = ""' for n in range(13)), "13 of them"),
    ],
)
def test_rubrics_that_are_none(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        read_rubric(write(tmp_path, text))
    with pytest.raises(UserError, match="cannot be read"):
        read_rubric(tmp_path / "elsewhere.toml")


def test_an_edited_rubric_asks_anew_and_old_votes_keep_theirs(store: Store, tmp_path: Path) -> None:
    pair = [answer(store, "By the river."), answer(store, "No idea.")]
    store.create_tasks("pairwise", [pair])
    say(store, prefer(pair[0]))
    mine = read_rubric(write(tmp_path, 'question = "Which is true?"'))
    assert store.create_tasks("pairwise", [pair], rubric=mine).added == 1
    say(store, prefer(pair[1]))
    with store.reading() as connection:
        rubrics = select(schema.rubric_version.c.body).join(
            schema.vote, schema.vote.c.rubric_version == schema.rubric_version.c.id
        )
        asked = [body["question"] for body in connection.scalars(rubrics.order_by(schema.vote.c.id))]
        project = connection.scalar(select(schema.task.c.project).limit(1))
        assert project is not None
        assert latest_rubric(connection, project) == mine
        assert latest_rubric(connection, "elsewhere") == DEFAULT_RUBRIC
    assert asked == ["Which answer is better?", "Which is true?"]


def test_only_people_are_asked_to_write(store: Store) -> None:
    store.create_tasks("edit", [[parent := answer(store)]])
    store.create_demonstration_tasks([PROMPT])
    pair = [parent, answer(store, "No idea.")]
    (compared,) = store.create_tasks("pairwise", [pair]).ids
    assert [one.task_id for one in store.unfinished()] == [compared]


def test_what_was_written_travels_with_its_votes(store: Store, tmp_path: Path) -> None:
    store.create_tasks("edit", [[parent := answer(store)]], need=2)
    say(store, edit(parent, "By the river."))
    say(store, accept(parent), "ben")
    store.create_demonstration_tasks([PROMPT])
    taken_back = say(store, edit(None, "Ther."))
    store.retract(taken_back.vote_id)
    say(store, edit(None, "There."))
    export_view(store, tmp_path / "votes.jsonl", "jsonl", Settings(view="votes"))
    with Store.open(tmp_path / "other.sqlite") as other:
        read = read_votes(str(tmp_path / "votes.jsonl"))
        assert read.format == "votes"
        done = keep_votes(other, read)
        assert (done.votes, done.dropped) == (5, 0), done.problems
        assert digest(other) == digest(store)
        assert demonstrations(other) == demonstrations(store)
        assert preferences(other) == preferences(store)
        assert keep_votes(other, read).votes == 0
        for each in (store, other):
            with each.reading() as connection:
                written = schema.completion.c.source.in_(("edit", "human"))
                rows = connection.execute(select(schema.completion).where(written).order_by("id")).all()
            assert [(one.text, one.parent) for one in sorted(rows, key=lambda one: one.text)] == [
                ("By the river.", parent),
                ("Ther.", None),
                ("There.", None),
            ]


def test_what_an_erased_person_wrote_teaches_nobody(store: Store) -> None:
    store.create_tasks("edit", [[parent := answer(store)]], need=2)
    say(store, edit(parent, "By the river."))
    say(store, accept(parent), "ben")
    erase(store, "ada")
    assert preferences(store) == []
    view = demonstrations(store)
    assert ([one.completion.text for one in view.demonstrations], view.erased) == (
        ["By the river, I think."],
        1,
    )
    assert [one.completion.id for one in judgements(store)] == [parent, parent]


def raw(store: Store, folder: Path) -> list[dict[str, Any]]:
    export_view(store, folder / "votes.jsonl", "jsonl", Settings(view="votes"))
    return [json.loads(line) for line in (folder / "votes.jsonl").read_text(encoding="utf-8").splitlines()]


def keep_rows(store: Store, folder: Path, rows: list[dict[str, Any]]) -> ImportedVotes:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return keep_votes(store, read_votes("rows.jsonl", root=folder))


def test_a_text_that_was_erased_does_not_come_back_as_an_empty_one(store: Store, tmp_path: Path) -> None:
    store.create_tasks("edit", [[parent := answer(store)]], need=2)
    say(store, edit(parent, "By the river."))
    say(store, accept(parent), "ben")
    erase(store, "ada")
    rows = raw(store, tmp_path)
    with Store.open(tmp_path / "other.sqlite") as other:
        done = keep_rows(other, tmp_path, rows)
        assert (done.votes, done.counts) == (1, {"erased": 1})
        assert preferences(other) == []
        assert [one.completion.id for one in demonstrations(other).demonstrations] == [parent]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("payload", {"written": None}),
        ("payload", {"payload": {"completion": "nobody's"}}),
        ("payload", {"payload": {"completion": None, "text": "smuggled in"}}),
        ("payload", {"payload": {"completion": None, "accept": True}}),
        ("payload", {"payload": {"parent": ["a list"]}}),
        ("payload", {"payload": {"type": None}}),
        ("changed", {"written": {"text": "something else"}}),
    ],
)
def test_an_edit_that_was_changed_on_the_way_is_refused(
    store: Store, tmp_path: Path, kind: str, change: dict[str, Any]
) -> None:
    """Every view reads the text that an edit names: one that names nothing would end them all."""
    store.create_tasks("edit", [[parent := answer(store)]], need=2)
    say(store, accept(parent), "ben")
    say(store, edit(parent, "By the river."))
    kept, changed = sorted(raw(store, tmp_path), key=lambda row: bool(row["written"]))
    changed["vote"]["payload"] |= change.get("payload", {})
    if "written" in change:
        changed["written"] = change["written"] and {**changed["written"], **change["written"]}
    with Store.open(tmp_path / "other.sqlite") as other:
        done = keep_rows(other, tmp_path, [kept, changed])
        assert (done.votes, done.counts) == (1, {kind: 1})
        assert preferences(other) == []
        assert len(judgements(other)) == len(demonstrations(other).demonstrations) == 1


@pytest.mark.parametrize(
    "change", [{"dims": [1]}, {"p": "sure"}, {"winner": [1]}, {"weight": "much"}, {"margin": float("inf")}]
)
def test_a_vote_of_a_strange_form_is_a_problem_of_its_row(
    store: Store, tmp_path: Path, change: dict[str, Any]
) -> None:
    pair = [answer(store), answer(store, "No idea.")]
    store.create_tasks("pairwise", [pair], need=2)
    say(store, tie(), "ben")
    say(store, prefer(pair[0]))
    kept, changed = sorted(raw(store, tmp_path), key=lambda row: bool(row["vote"]["payload"]["winner"]))
    changed["vote"]["payload"] |= change
    with Store.open(tmp_path / "other.sqlite") as other:
        done = keep_rows(other, tmp_path, [kept, changed])
        assert (done.votes, done.counts) == (1, {"payload": 1})


def test_the_store_makes_the_completion_of_an_edit(store: Store) -> None:
    store.create_tasks("edit", [[parent := answer(store)]])
    with pytest.raises(UserError, match="without a text"):
        say(store, {"type": "edit", "parent": parent, "completion": parent})


def test_agreement_is_told_by_dimension(store: Store) -> None:
    for n in range(6):
        pair = [answer(store, f"{n} by the river."), answer(store, f"{n}, no idea.")]
        store.create_tasks("pairwise", [pair], need=2)
    for name in ("ada", "ben"):
        who = store.add_labeler(name, "human")
        for lease in store.lease_many(who, 6):
            n = int(lease.comparison.completions[0].text[0])
            harmless = 1 if name == "ada" else -1
            said = prefer(lease.comparison.completions[0].id) | {
                "dims": {"helpful": 1 if n % 2 else -1, "harmless": harmless}
            }
            store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, said))
    harmless, helpful = standing(store).by_dimension
    assert (harmless[0], harmless[1].value, harmless[1].n) == ("harmless", 0.0, 6)
    assert (helpful[0], helpful[1].value, helpful[2].value) == ("helpful", 1.0, 1.0)


def test_a_rubric_with_characters_that_do_not_show_is_read_as_written(tmp_path: Path) -> None:
    rubric = {
        "question": "Which\U000e0001 is\u200b better?",
        "dimensions": ["true"],
        "meanings": {"true": "It is."},
    }
    (tmp_path / "rubric.toml").write_text(written_out(rubric), encoding="utf-8")
    assert read_rubric(tmp_path / "rubric.toml") == rubric


def test_people_are_not_asked_for_more_of_what_only_groups_are_asked(tmp_path: Path) -> None:
    with (
        Store.open(tmp_path / "feedback.sqlite") as store,
        tells("kind 'pairwise'", where="ask_more", expected="edit, rating", fix="create_tasks"),
    ):
        ask_more(store, "pairwise", 1)
