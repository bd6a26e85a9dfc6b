"""Ballots into the store: their prompts, completions, tasks, labelers and votes, each once however often it comes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, func, select, update

from concordant.data.layouts.account import Problem
from concordant.errors import UserError
from concordant.feedback.answering.labelers import Identity
from concordant.feedback.answering.leasing import recount
from concordant.feedback.answering.writing import written_id, written_row
from concordant.feedback.asking.overlap import settle
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.database.queries import chunks, insert_missing
from concordant.feedback.database.schema import completion, event_table, gold, task, vote
from concordant.feedback.exchange.ballots import BESIDES, Answer, Ballot
from concordant.feedback.ids import content_id, now_ms
from concordant.feedback.store import Store
from concordant.feedback.votes import MEND_VOTE, Payload, check_payload


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of ballots; `problems` names those that were left out and what was left out of one."""

    votes: int  # kept now
    repeated: int  # there before, saying the same
    tasks: int  # added
    problems: tuple[Problem, ...]
    beside: int = 0  # gold answers, decisions and events that were not there before


@dataclass(frozen=True, slots=True)
class _Draft:
    """A ballot with the ids of the store: its task, its completions by name, who said it and for which time."""

    ballot: Ballot
    task: str
    ids: Mapping[str, str]
    labeler: Identity
    turn: int  # the pass of a vote


def keep(store: Store, ballots: Sequence[Ballot]) -> Kept:
    """Keep `ballots` in their order; a vote that is there already adds nothing, a different one is a problem.

    The n-th vote of a labeler on one task is its n-th pass, or, where the labeler is a crowd, that of another
    labeler, called "name (n)".
    """
    with store.reading() as connection:
        newest = connection.scalar(select(func.max(task.c.seq))) or 0
    ids = _keep_answers(store, ballots)
    asked = [n for n, ballot in enumerate(ballots) if ballot.beside != "event"]
    found, added = _create_tasks(store, [ballots[n] for n in asked], [ids[n] for n in asked])
    tasks = dict(zip(asked, found, strict=True))
    problems: list[Problem] = []
    said = [n for n, ballot in enumerate(ballots) if ballot.beside is None]
    drafts = list(
        _drafts([ballots[n] for n in said], [ids[n] for n in said], [tasks[n] for n in said], problems)
    )
    labelers = _labeler_ids(store, [draft.labeler for draft in drafts])
    besides = [(ballot, ids[n], tasks.get(n)) for n, ballot in enumerate(ballots) if ballot.beside]
    # An event comes behind what it supersedes.
    besides.sort(key=lambda one: (one[0].row or {}).get("created") or 0)
    who = _labeler_ids(store, [ballot.labeler for ballot, _, _ in besides if ballot.labeler.name])
    with store.writing() as connection:
        rows = _rows(connection, drafts, labelers, problems)
        fresh = _fresh(connection, rows, problems)
        insert_missing(connection, completion, [_written(*one) for one in fresh if one[0].written])
        insert_missing(connection, vote, [row for _, row in fresh])
        beside = _keep_beside(connection, besides, iter(who), problems)
        asked_here = sorted({row["task"] for _, row in rows} | {key for _, _, key in besides if key})
        recount(connection, asked_here)
        settle(connection, asked_here)
        _withdraw(connection, [tasks[n] for n in asked if ballots[n].question.withdrawn], newest)
    left_out = sum(problem.dropped for problem in problems)
    return Kept(len(fresh), len(said) - len(fresh) - left_out, added, tuple(problems), beside)


def _withdraw(connection: Connection, tasks: Sequence[str | None], newest: int) -> None:
    """Ask these tasks no more, where they came just now: of others, this store knows better."""
    for some in chunks(sorted({key for key in tasks if key is not None})):
        came = task.c.id.in_(some) & (task.c.seq > newest)
        connection.execute(update(task).where(came).values(state="cancelled"))


def _keep_beside(
    connection: Connection,
    besides: Sequence[tuple[Ballot, Mapping[str, str], str | None]],
    labelers: Iterator[str],
    problems: list[Problem],
) -> int:
    """Gold answers, decisions and events as they were; returns how many are new."""
    kept = 0
    for ballot, ids, task_id in besides:
        assert ballot.beside is not None, "votes are kept elsewhere"
        row, table = dict(ballot.row or {}), BESIDES[ballot.beside]
        wrong = _wrong(ballot, ids, task_id)
        if wrong:
            problems.append(Problem(ballot.where, "payload", wrong, dropped=False))
            continue
        row |= {"completion": next(iter(ids.values()))} if table is event_table else {"task": task_id}
        if table is not gold:
            row |= {"labeler": next(labelers) if ballot.labeler.name else None}
        kept += insert_missing(connection, table, [row])
    return kept


def _labeler_ids(store: Store, labelers: Sequence[Identity]) -> list[str]:
    return store.add_labelers([(one.name, one.kind, one.settings) for one in labelers])


def _keep_answers(store: Store, ballots: Sequence[Ballot]) -> list[dict[str, str]]:
    """The completion ids of each ballot by name, those with the text of an earlier one left out."""
    found: list[dict[str, str]] = [{} for _ in ballots]
    by_origin: dict[tuple[str, str | None], list[tuple[int, Answer]]] = defaultdict(list)
    authors = [one.author for ballot in ballots for one in ballot.answers if one.author is not None]
    author_ids = iter(_labeler_ids(store, authors))
    for n, ballot in enumerate(ballots):
        texts: set[str] = set()
        for one in ballot.answers:
            author = None if one.author is None else next(author_ids)
            if one.completion.text not in texts:
                by_origin[one.source, author].append((n, one))
                texts.add(one.completion.text)
    for (source, author), answers in by_origin.items():
        sampled = [(ballots[n].prompt, one.completion, one.producer, one.ended) for n, one in answers]
        kept = store.add_completions(sampled, source=source, author=author)
        for (n, one), key in zip(answers, kept, strict=True):
            found[n][one.name] = key
    # The order of the answers is that of the file, whatever their origin.
    return [
        {one.name: by_name[one.name] for one in ballot.answers if one.name in by_name}
        for ballot, by_name in zip(ballots, found, strict=True)
    ]


def _create_tasks(
    store: Store, ballots: Sequence[Ballot], ids: Sequence[Mapping[str, str]]
) -> tuple[list[str | None], int]:
    """A task for each ballot, None where its answers have one text; and how many tasks are new."""
    tasks: list[str | None] = []
    added = 0
    pairs = zip(ballots, ids, strict=True)
    for question, run in groupby(pairs, key=lambda pair: pair[0].question):
        alike = list(run)
        settings: dict[str, Any] = {
            "need": question.need,
            "policy": question.policy,
            "rubric": question.rubric,
            "priority": question.priority,
            "project": store.add_project(*question.project) if question.project else DEFAULT_PROJECT,
        }
        if question.kind == "demonstration":
            created = store.create_demonstration_tasks([ballot.prompt for ballot, _ in alike], **settings)
        else:
            groups = [list(by_name.values()) for _, by_name in alike]
            created = store.create_tasks(question.kind, groups, **settings)
        tasks += created.ids
        added += created.added
    return tasks, added


def _drafts(
    ballots: Sequence[Ballot],
    ids: Sequence[Mapping[str, str]],
    tasks: Sequence[str | None],
    problems: list[Problem],
) -> Iterator[_Draft]:
    turns: Counter[tuple[str, str, str]] = Counter()
    for ballot, by_name, task_id in zip(ballots, ids, tasks, strict=True):
        if task_id is None:
            detail = "the answers are the same text: nothing to prefer"
            problems.append(Problem(ballot.where, "identical", detail))
            continue
        if len(by_name) < len(ballot.answers):
            left_out = len(ballot.answers) - len(by_name)
            detail = f"{left_out} of {len(ballot.answers)} answers have the text of another and are left out"
            problems.append(Problem(ballot.where, "alike", detail, dropped=False))
        labeler, turn = ballot.labeler, 0
        if ballot.row is None:
            said = task_id, labeler.kind, labeler.name
            turns[said] += 1
            turn = turns[said] - 1
            if ballot.crowd and turn:
                labeler, turn = replace(labeler, name=f"{labeler.name} ({turn + 1})"), 0
        yield _Draft(ballot, task_id, by_name, labeler, turn)


def _wrong(ballot: Ballot, ids: Mapping[str, str], task_id: str | None) -> str:
    """Why a row beside the votes cannot be kept; empty where it can."""
    row, members = ballot.row or {}, list(ids.values())
    if ballot.beside == "event":
        return ""
    if task_id is None:
        return "the answers are the same text: nothing to prefer"
    if ballot.beside == "gold":
        known = isinstance(row["expected"], Mapping) and row["expected"].get("better") in members
        return "" if known else "the known answer is none of those of its task"
    try:
        check_payload(row["payload"], ballot.question.kind, members, ballot.where)
    except UserError as error:
        return f"{error.what}, expected {error.expected}"
    return ""


Row = tuple[Ballot, dict[str, Any]]


def _rows(
    connection: Connection, drafts: Sequence[_Draft], labelers: Sequence[str], problems: list[Problem]
) -> list[Row]:
    """The drafts as rows of `vote`; what does not answer its task is a problem."""
    rubrics: dict[str, str] = {}
    for some in chunks(sorted({draft.task for draft in drafts})):
        query = select(task.c.id, task.c.rubric_version).where(task.c.id.in_(some))
        rubrics |= {row.id: row.rubric_version for row in connection.execute(query)}
    now = now_ms()
    rows = []
    for draft, labeler in zip(drafts, labelers, strict=True):
        try:
            payload = _payload(draft, labeler)
        except UserError as error:
            problems.append(
                Problem(draft.ballot.where, "payload", f"{error.what}, expected {error.expected}")
            )
            continue
        rows.append((draft.ballot, _row(draft, labeler, payload, rubrics[draft.task], now)))
    return rows


def _payload(draft: _Draft, labeler: str) -> Payload:
    """What a draft says, with ids of the store. Errors: UserError where that does not answer its task."""
    ballot, ids = draft.ballot, dict(draft.ids)
    if (text := ballot.written) is not None:
        ids[text.name] = written_id(ballot.prompt.id, text.completion.text, labeler, draft.task)
    try:
        payload = with_ids(ballot.payload, ids)
    except (TypeError, AttributeError) as error:  # a list where a name was expected, and the like
        raise UserError(
            f"a vote of a strange form ({error})",
            where=ballot.where,
            expected="names of its answers",
            fix=MEND_VOTE,
        ) from None
    if payload["type"] != "retract":
        check_payload(payload, ballot.question.kind, list(draft.ids.values()), ballot.where)
    _check_written(ballot, payload, ids)
    return payload


def _check_written(ballot: Ballot, payload: Payload, ids: Mapping[str, str]) -> None:
    """Raise UserError unless an edit names the text that comes with it, and nothing else brings one."""
    named = payload.get("completion") if payload["type"] == "edit" else None
    without = payload["type"] == "edit" and not payload.get("accept") and named is None
    if without or named != (None if ballot.written is None else ids[ballot.written.name]):
        raise UserError(
            "what was written does not stand beside its vote",
            where=ballot.where,
            expected="the text it names",
            fix=MEND_VOTE,
        )


def _row(draft: _Draft, labeler: str, payload: Payload, rubric: str, now: int) -> dict[str, Any]:
    ballot = draft.ballot
    again = (draft.turn,) if draft.turn else ()
    key = content_id("import", draft.task, labeler, *again)
    shown = None if ballot.shown is None else [draft.ids[name] for name in ballot.shown if name in draft.ids]
    client = dict(ballot.client) | ({"where": ballot.where} if ballot.where else {})
    row = {
        "id": key,
        "pass": draft.turn,
        "client": client or None,
        "idempotency_key": key,
        "supersedes": None,
        "extra": False,
        "created": now,
    }
    return {
        **row,
        **(ballot.row or {}),
        "task": draft.task,
        "labeler": labeler,
        "rubric_version": rubric,
        "type": payload["type"],
        "shown": shown,
        "payload": dict(payload),
        "active_ms": ballot.active_ms,
        "wall_ms": ballot.wall_ms,
    }


def _written(ballot: Ballot, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the labeler of a vote wrote, as a row of `completion`."""
    assert ballot.written is not None
    text, parent = ballot.written.completion.text, row["payload"]["parent"]
    return written_row(ballot.prompt.id, text, parent, row["labeler"], row["task"], row["created"])


def with_ids(payload: Payload, ids: Mapping[str, str]) -> dict[str, Any]:
    """The payload with the ids of completions in place of names; names without one are left out of it."""
    said = dict(payload)
    if said.get("winner") is not None:
        said["winner"] = ids.get(said["winner"], said["winner"])
    if "tiers" in said:
        tiers = [[ids[name] for name in tier if name in ids] for tier in said["tiers"]]
        said["tiers"] = [tier for tier in tiers if tier]
    if "unacceptable" in said:
        said["unacceptable"] = [ids[name] for name in said["unacceptable"] if name in ids]
    said |= {key: ids.get(said[key], said[key]) for key in ("parent", "completion") if said.get(key)}
    if "scores" in said:
        said["scores"] = {ids[name]: given for name, given in said["scores"].items() if name in ids}
    return said


def _fresh(connection: Connection, rows: Sequence[Row], problems: list[Problem]) -> list[Row]:
    """The rows that are not there yet, each behind the vote it supersedes."""
    there: dict[str, Payload] = {}
    firsts: dict[tuple[str, str, int], str] = {}
    columns = (vote.c.id, vote.c.task, vote.c.labeler, vote.c["pass"], vote.c.payload, vote.c.supersedes)
    for some in chunks(sorted({row["task"] for _, row in rows})):
        for one in connection.execute(select(*columns).where(vote.c.task.in_(some))):
            there[one.id] = one.payload
            if one.supersedes is None:
                firsts[one.task, one.labeler, one[3]] = one.id
    fresh = []
    for ballot, row in _chained(rows):
        chain = row["task"], row["labeler"], row["pass"]
        same = row["id"] if row["id"] in there or row["supersedes"] else firsts.get(chain, row["id"])
        if same in there:
            if there[same] != row["payload"]:
                detail = "its labeler has said something else about this; the vote kept first stands"
                problems.append(Problem(ballot.where, "contradiction", detail))
        elif row["supersedes"] and row["supersedes"] not in there:
            detail = f"it corrects the vote {row['supersedes']}, which is not here"
            problems.append(Problem(ballot.where, "supersedes", detail))
        else:
            fresh.append((ballot, row))
            there[row["id"]] = row["payload"]
            firsts.setdefault(chain, row["id"])
    return fresh


def _chained(rows: Sequence[Row]) -> list[Row]:
    """The rows with every vote behind the one it supersedes, else in their order."""
    before = {row["id"]: row["supersedes"] for _, row in rows}

    def depth(key: str) -> int:
        steps, seen = 0, {key}
        while (key := before.get(key) or "") and key not in seen:
            seen.add(key)
            steps += 1
        return steps

    return sorted(rows, key=lambda pair: depth(pair[1]["id"]))
