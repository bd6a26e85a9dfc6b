"""A person who asks for it is forgotten: no table holds the name or a word of theirs, and what they decided stays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DatabaseError
from test_store import answer, fill

from concordant.data.types import Completion, Prompt
from concordant.errors import UserError
from concordant.feedback.accounts import (
    accept,
    add_account,
    invite,
    log_in,
    make_token,
    of_session,
    of_token,
    open_session,
)
from concordant.feedback.answering.disputes import adjudicate
from concordant.feedback.asking.known import known_answers, make_known
from concordant.feedback.asking.practice import add_gold
from concordant.feedback.database import erasure, schema
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.ids import content_id
from concordant.feedback.reading.agreement import agreement
from concordant.feedback.reading.views import demonstrations, judgements, view_preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Submission, Vote, prefer, ranking, skip
from tiny_run import concordant

NAME = "Ada Lovelace"
SECRETS = (
    *("Lovelace", "because I know", "skipped as ill", "she wrote this", "decided by taste"),
    *("likes tea", "her phone", "ada-laptop", "her program"),
)


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store.open(address) as opened:
        yield opened


def dump(store: Store) -> str:
    """Every column of every table."""
    with store.reading() as connection:
        return "\n".join(
            json.dumps(dict(row._mapping), ensure_ascii=False, default=str)
            for table in schema.metadata.sorted_tables
            for row in connection.execute(select(table))
        )


def used(store: Store) -> tuple[str, str]:
    """Two people who did everything there is to do; the labeler id of her, and her completion's."""
    ada, bob = add_account(store, NAME, "lead"), add_account(store, "Bob", "labeler")
    accept(store, invite(store, ada), "a long password")
    fill(store, 6, need=2)
    for n in range(6):
        lease = store.lease(ada.labeler)
        assert lease is not None
        said = prefer(lease.comparison.completions[0].id) | {"rationale": "because I know"}
        vote = Vote(
            lease.comparison.task_id, said if n else skip("skipped as ill"), client={"agent": "her phone"}
        )
        store.submit_many([Submission(lease.token, f"ada-laptop {n}", vote)])
    for _ in range(6):
        answer(store, bob.labeler)
    prompt = Prompt.user("write")
    (wrote,) = store.add_completions(
        [(prompt, Completion("she wrote this"), {"imported": NAME}, True)], source="human", author=ada.labeler
    )
    (other,) = store.add_completions([(prompt, Completion("a model wrote this"), {}, True)])
    (third,) = store.add_completions([(prompt, Completion("another model did"), {}, True)])
    task, again = store.create_tasks("pairwise", [[wrote, other], [other, third]], need=1).ids
    (ranked,) = store.create_tasks("ranking", [[wrote, other, third]], need=1).ids
    assert task is not None
    assert again is not None
    assert ranked is not None
    pair = prefer(wrote) | {"rationale": f"as {NAME} says"}
    for wanted, payload in ((task, pair), (ranked, ranking([[wrote], [other], [third]], [third]))):
        (lease,) = store.lease_many(bob.labeler, 1, among=[wanted])
        store.submit(lease.token, f"bob {payload['type']}", Vote(wanted, payload))
    add_gold(store, again, other, f"{NAME.upper()} explained it: likes tea")
    with store.writing() as connection:
        connection.execute(update(schema.task).where(schema.task.c.id == again).values(state="adjudication"))
        project = update(schema.project).where(schema.project.c.id == "default")
        connection.execute(project.values(settings={"instructions": f"Ask {NAME}, please."}))
        event = {"id": "e", "kind": "comment", "completion": other, "labeler": ada.labeler, "created": 0}
        event |= {
            "value": {"text": "likes tea"},
            "client": {"agent": "her phone"},
            "weight": 1.0,
            "consent": True,
        }
        connection.execute(insert(schema.event_table), event)
    adjudicate(store, again, ada.labeler, prefer(other) | {"rationale": "because I know"}, "decided by taste")
    add_gold(store, task, wrote, "the first")
    make_token(store, ada, "her program", ["vote"], 5)
    open_session(store, ada)
    return ada.labeler, wrote


def forgotten(store: Store) -> str:
    """Without the words of others that must stay: the gold explanation keeps what is not the name."""
    return dump(store).replace("explained it: likes tea", "")


def test_no_table_holds_the_name_or_a_word_of_the_erased(store: Store) -> None:
    ada, wrote = used(store)
    before = dump(store)
    assert all(secret in before for secret in SECRETS)
    found = erasure.erase(store, NAME, by=store.add_labeler("Bob", "human"))
    assert (found.votes, found.completions, len(found.accounts)) == (6, 1, 1)
    after = forgotten(store)
    for secret in (*SECRETS, NAME.upper(), ada, wrote):
        assert secret not in after
    assert "erased explained it: likes tea" in dump(store)
    assert "Ask erased, please." in after
    assert "as erased says" in after


def test_what_was_decided_stays(store: Store) -> None:
    used(store)
    before, figures = store.counts(), agreement(store)
    pairs = view_preferences(store)
    erasure.erase(store, NAME)
    assert store.counts() == before
    after = agreement(store)
    assert (after.raw, after.first_chosen) == (figures.raw, figures.first_chosen)
    assert after.longer_chosen.n < figures.longer_chosen.n  # what has no text any more has no length
    left = view_preferences(store)
    assert left.erased == 3  # of her text: the pair, and two of the ranking
    assert len(left.preferences) == len(pairs.preferences) - 3
    assert [one.text for one in {row.chosen for row in left.preferences} if not one.text] == []
    assert all(row.completion.text for row in judgements(store))
    with store.reading() as connection:
        reasons = connection.scalars(select(schema.adjudication.c.reason)).all()
        winner = connection.scalar(
            select(schema.gold.c.expected).where(schema.gold.c.explanation == "the first")
        )
        blank = connection.scalars(select(schema.completion.c.id).where(schema.completion.c.text == "")).all()
        trail = connection.execute(select(schema.audit).where(schema.audit.c.verb == "erase")).one()
    assert reasons == [""]
    assert [winner["better"]] == blank
    assert trail.detail == {"votes": 6, "completions": 1, "accounts": 1}


def test_demonstrations_of_the_erased_are_left_out_and_counted(store: Store) -> None:
    used(store)
    assert "she wrote this" in [one.completion.text for one in demonstrations(store).demonstrations]
    erasure.erase(store, NAME)
    view = demonstrations(store)
    assert all(one.completion.text for one in view.demonstrations)
    assert (view.written, view.erased) == (0, 1)


def test_a_name_cannot_be_guessed_back_from_the_ids(store: Store) -> None:
    """Ids made from name and text are recomputed as an attacker would, with both at hand."""
    ada, wrote = used(store)
    assert ada == content_id("labeler", "human", NAME, {})
    assert wrote == content_id(
        "completion", Prompt.user("write").id, "she wrote this", {"imported": NAME}, ada
    )
    with store.reading() as connection:
        member = schema.task_completion.c
        tasks = connection.scalars(select(member.task).where(member.completion == wrote)).all()
    assert len(tasks) == 2
    erasure.erase(store, NAME)
    after = dump(store)
    assert not [key for key in (ada, wrote, *tasks) if key in after]


def test_nobody_comes_in_any_more(store: Store) -> None:
    used(store)
    ada = add_account(store, NAME, "lead")
    session, (_, token) = open_session(store, ada), make_token(store, ada, "p", ["read"], 5)
    link = invite(store, ada)
    erasure.erase(store, NAME)
    assert log_in(store, NAME, "a long password") is None
    assert (of_session(store, session), of_token(store, token)) == (None, None)
    with pytest.raises(UserError, match="has been used"):
        accept(store, link, "another password")
    again = add_account(store, NAME, "labeler")
    assert (again.role, agreement(store, again.labeler).first_chosen.n) == ("labeler", 0)


def refused(store: Store) -> None:
    """Every rule is in force: rows of the five tables can be neither changed nor removed."""
    for table in schema.APPEND_ONLY:
        with store.reading() as connection:
            if connection.execute(select(table).limit(1)).first() is None:
                continue
        column = next(iter(table.primary_key.columns)).name
        for statement in (f"UPDATE {table.name} SET {column} = {column}", f"DELETE FROM {table.name}"):
            with pytest.raises(DatabaseError, match="kept for ever"), store.writing() as connection:
                connection.execute(text(statement))


def test_votes_cannot_be_changed_afterwards(store: Store) -> None:
    used(store)
    refused(store)
    erasure.erase(store, NAME)
    refused(store)


def test_a_failure_in_the_middle_changes_nothing_and_leaves_the_rules(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    used(store)
    before = dump(store)
    for part in ("_forget_votes", "_end_accounts", "_rewrite", "audit"):
        with monkeypatch.context() as patched:

            def fails(*_: object, **__: object) -> None:
                raise OSError("the disk went away")

            patched.setattr(erasure, part, fails)
            with pytest.raises(OSError, match="went away"):
                erasure.erase(store, NAME)
        assert dump(store) == before
        refused(store)


def test_corrections_and_imported_votes_keep_their_chains(store: Store) -> None:
    """A vote taken back and given anew: the newest one is still the live one, behind those it corrects."""
    fill(store, 2)
    ada = store.add_labeler(NAME, "human")
    first = answer(store, ada)
    store.retract(first)
    answer(store, ada)
    before = view_preferences(store)
    erasure.erase(store, NAME)
    after = view_preferences(store)
    assert [(row.chosen.text, row.weight) for row in after.preferences] == [
        (row.chosen.text, row.weight) for row in before.preferences
    ]
    with store.reading() as connection:
        rows = connection.execute(select(schema.vote.c.supersedes, schema.vote.c.id, schema.vote.c.type))
        after_it = {row.supersedes: row for row in rows}
    chain, key = [], None
    while key in after_it:
        chain.append(after_it[key].type)
        key = after_it[key].id
    assert chain == ["pairwise", "retract", "pairwise"]


def test_short_names_do_not_tear_holes_in_sentences(store: Store) -> None:
    store.add_labeler("a", "human")
    fill(store, 1)
    with store.writing() as connection:
        settings = {"instructions": "Is this a good answer?", "owner": "a"}
        connection.execute(update(schema.project).values(settings=settings))
    erasure.erase(store, "a")
    with store.reading() as connection:
        kept = connection.scalar(select(schema.project.c.settings))
    assert kept == {"instructions": "Is this a good answer?", "owner": "erased"}


def test_only_people_are_erased(store: Store) -> None:
    store.add_labeler("careful", "simulated")
    for name in ("careful", "nobody"):
        with pytest.raises(UserError, match="no person"):
            erasure.erase(store, name)


def test_the_file_itself_forgets(tmp_path: Path) -> None:
    """Not one byte of the name or a text is left in file, log or free pages; the command says what it will do first."""
    path = tmp_path / "feedback.sqlite"
    with Store.open(path) as store:
        used(store)
    refusal = concordant("db", "erase", path, "--labeler", NAME)
    assert refusal.status == 2
    assert "cannot be undone" in refusal.err
    assert "6 votes, 1 texts" in refusal.err
    raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"Lovelace" in raw
    done = concordant("db", "erase", path, "--labeler", NAME, "--yes")
    assert done.status == 0, done.err
    assert os.listdir(tmp_path)
    raw = b"".join(file.read_bytes() for file in tmp_path.iterdir()).replace(b"explained it: likes tea", b"")
    assert not [secret for secret in SECRETS if secret.encode() in raw]
    assert "no person" in concordant("db", "erase", path, "--labeler", NAME, "--yes").err
    assert "nobody is named" in concordant("db", "erase", path, "--yes").err
    assert "written anew" in concordant("db", "compact", path).out


def test_why_an_answer_is_known_goes_with_the_lead_who_said_so(store: Store) -> None:
    fill(store, 2, need=1)
    worker = store.add_labeler("Bob", "human")
    tasks = [store.task_of(answer(store, worker)) for _ in range(2)]
    for task, last in zip(tasks, (NAME, "Eve"), strict=True):
        for lead in (NAME, last):
            who = store.add_labeler(lead, "human")
            with store.reading() as connection:
                member = schema.task_completion.c
                best = connection.scalar(select(member.completion).where(member.task == task))
            make_known(store, task, who, prefer(str(best)), f"as {lead.split()[0]} thinks")
    erasure.erase(store, NAME)
    assert {one.why for one in known_answers(store, DEFAULT_PROJECT)} == {"", "as Eve thinks"}
    assert "as Ada thinks" not in dump(store)
