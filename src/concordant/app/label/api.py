"""The REST API: all that the pages do, and what programs may do with a token."""

from __future__ import annotations

import math
from functools import lru_cache

from fastapi import APIRouter, HTTPException, Request

from concordant.app.label import forms
from concordant.app.web.safe_html import safe_html
from concordant.app.web.security import Admin, Key, Labeler, Lead, Reader, may, store_of
from concordant.data.types import Completion
from concordant.feedback.accounts import (
    Account,
    accounts,
    add_account,
    invite,
    make_token,
    revoke,
    save_settings,
    set_disabled,
)
from concordant.feedback.aggregation.fits import latest_fit
from concordant.feedback.answering.disputes import adjudicate
from concordant.feedback.asking.known import asked_for, below_others, gold_scores, holds_known, next_leases
from concordant.feedback.asking.practice import lesson
from concordant.feedback.asking.project_settings import config_of
from concordant.feedback.asking.rubric import asked_of, dimensions_of
from concordant.feedback.database.erasure import erase
from concordant.feedback.reading.agreement import Rate, agreement_of
from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.reading.projects import Project, done_by, project_of, projects, shares
from concordant.feedback.reading.standing import fit_project
from concordant.feedback.store import Store
from concordant.feedback.votes import Lease, Vote

router = APIRouter(prefix="/api", tags=["labeling"])


rendered = lru_cache(maxsize=4096)(safe_html)


@router.get("/me")
def me(account: Reader) -> forms.Me:
    """Who is asking."""
    return forms.Me(name=account.name, role=account.role, settings=dict(account.settings))


@router.put("/me/settings")
def set_mine(request: Request, account: Reader, settings: forms.Settings) -> forms.Me:
    """Remember keys, and that practice is done."""
    changed = settings.model_dump(exclude_none=True)
    save_settings(store_of(request), account, changed)
    return forms.Me(name=account.name, role=account.role, settings={**account.settings, **changed})


@router.post("/leases")
def leases(request: Request, account: Labeler, asked: forms.LeasesAsked) -> forms.Questions:
    """Questions to answer: those held already, then new ones. Each is held for 15 minutes."""
    store = store_of(request)
    project = project_of(store, asked_for(store, asked.project))
    # Near the end nobody sits on questions that others could answer.
    n = min(asked.n, max(2, (project.tasks - project.finished) // 20))
    found = next_leases(store, account.labeler, n, project.id, config_of(project.settings).known_every)
    return forms.Questions(
        questions=[question_of(one) for one in found], progress=progress_of(store, project, account)
    )


@router.post("/leases/{token}/heartbeat")
def heartbeat(request: Request, account: Labeler, token: Key) -> forms.Held:
    """Hold a question for another 15 minutes."""
    expires = store_of(request).extend(token, account.labeler)
    if expires is None:
        raise HTTPException(404, "this question is not held any more")
    return forms.Held(expires=expires)


@router.post("/votes")
def vote(request: Request, account: Labeler, given: forms.VoteGiven) -> forms.Kept:
    """Keep an answer. Sending it again with the same key gives the same receipt and adds nothing."""
    store = store_of(request)
    payload = given.payload.model_dump()
    cast = Vote(given.task, payload, active_ms=min(given.active_ms, given.wall_ms), wall_ms=given.wall_ms)
    receipt = store.submit(given.token, f"{account.labeler}:{given.key}", cast, labeler=account.labeler)
    told = lesson(store, receipt.vote_id)
    shown = None if told is None else forms.Lesson(right=told.right, better=told.better, why=told.why)
    return forms.Kept(vote=receipt.vote_id, repeated=receipt.repeated, extra=receipt.extra, lesson=shown)


@router.post("/votes/{vote_id}/retract")
def retract(request: Request, account: Labeler, vote_id: Key) -> forms.Questions:
    """Take an own vote back; the question comes again."""
    store = store_of(request)
    task = store.task_of(vote_id)
    store.retract(vote_id, labeler=account.labeler)
    again = store.lease_many(account.labeler, 1, among=[task])
    project = project_of(store, asked_for(store, store.project_of_task(task)))
    return forms.Questions(
        questions=[question_of(one) for one in again], progress=progress_of(store, project, account)
    )


@router.get("/projects")
def list_projects(request: Request, account: Reader) -> list[forms.ProjectRow]:
    """Projects with their progress; those of known answers are told to leads alone."""
    leads = account.may("lead", "read")
    return [project_row(one) for one in projects(store_of(request)) if leads or not holds_known(one.settings)]


@router.get("/projects/{project}/labelers", dependencies=[may("lead", "lead")])
def labelers(request: Request, project: Key) -> list[forms.LabelerRow]:
    """Who did how much, and how far to trust it."""
    store = store_of(request)
    project_of(store, project)
    return labeler_rows(store, project)


@router.post("/projects/{project}/fit", dependencies=[may("lead", "lead")])
def fit(request: Request, project: Key) -> list[forms.LabelerRow]:
    """Estimate anew how far each labeler can be trusted, from the questions that several have answered."""
    store = store_of(request)
    project_of(store, project)
    fit_project(store, project)
    return labeler_rows(store, project)


@router.post("/disputes/{task}")
def decide(request: Request, account: Lead, task: Key, decision: forms.Decision) -> forms.Decided:
    """Decide a disputed question; the votes stay, and the decision is learnt from in their place."""
    payload = decision.payload.model_dump()
    key = adjudicate(store_of(request), task, account.labeler, payload, decision.reason)
    return forms.Decided(decision=key)


@router.post("/accounts")
def invite_somebody(request: Request, account: Admin, asked: forms.AccountAsked) -> forms.Invited:
    """An account, and a link with which its owner sets a password; the link works once.

    Somebody who has a password already is invited anew only with `again`: the link is as good as the password.
    """
    if account.scopes is not None:
        raise HTTPException(403, "a program cannot invite people")
    store = store_of(request)
    known = next((one for one in accounts(store) if one.name == asked.name.strip()), None)
    if known is not None and known.can_log_in and not asked.again:
        raise HTTPException(409, f"{known.name} has a password already; send again = true for a new link")
    invited = add_account(store, asked.name, asked.role)
    link = request.url_for("invitation").include_query_params(token=invite(store, invited))
    return forms.Invited(name=invited.name, role=invited.role, link=str(link))


@router.post("/accounts/{account_id}/close")
def close_account(request: Request, account: Admin, account_id: Key) -> forms.Done:
    """Let somebody in no more: sessions and tokens end, votes stay."""
    return _close(request, account, account_id, True)


@router.post("/accounts/{account_id}/open")
def open_account(request: Request, account: Admin, account_id: Key) -> forms.Done:
    """Let somebody in again, with the password there was."""
    return _close(request, account, account_id, False)


def _close(request: Request, account: Account, account_id: str, closed: bool) -> forms.Done:
    if account.scopes is not None or account.id == account_id:
        raise HTTPException(403, "a program cannot do this, and nobody to themselves")
    set_disabled(store_of(request), account_id, closed)
    return forms.Done(done=True)


@router.post("/accounts/{account_id}/erase")
def erase_account(request: Request, account: Admin, account_id: Key) -> forms.Erased:
    """Forget somebody for good: name, account, reasons and texts go; votes stay, without a name."""
    if account.scopes is not None or account.id == account_id:
        raise HTTPException(403, "a program cannot do this, and nobody to themselves")
    store = store_of(request)
    known = next((one for one in accounts(store) if one.id == account_id), None)
    if known is None:
        raise HTTPException(404, "there is no such account")
    found = erase(store, known.name, by=account.labeler)
    return forms.Erased(votes=found.votes, completions=found.completions, compact=store.compact())


@router.delete("/tokens/{token_id}")
def revoke_token(request: Request, account: Reader, token_id: Key) -> forms.Done:
    """End a token of one's own before its time."""
    return forms.Done(done=revoke(store_of(request), token_id, account))


@router.post("/tokens")
def token_for_program(request: Request, account: Reader, asked: forms.TokenAsked) -> forms.TokenGiven:
    """A token for a program that works in one's own name; it is shown once."""
    if account.scopes is not None:
        raise HTTPException(403, "a program cannot make tokens")
    store = store_of(request)
    key, token = make_token(store, account, asked.name, asked.scopes, asked.days)
    return forms.TokenGiven(id=key, token=token)


def question_of(lease: Lease) -> forms.Question:
    """A lease as a page shows it."""
    asked = lease.comparison
    return forms.Question(
        token=lease.token,
        task=asked.task_id,
        kind=asked.kind,
        expires=lease.expires,
        question=str(lease.rubric.get("question", "")),
        asked=asked_of(lease.rubric),
        dimensions=[
            forms.Dimension(name=one.name, meaning=one.meaning) for one in dimensions_of(lease.rubric)
        ],
        prompt=[forms.Turn(role=turn.role, html=rendered(turn.content)) for turn in asked.prompt.messages],
        completions=[answer_of(one, asked.kind == "edit") for one in asked.completions],
    )


def answer_of(completion: Completion, editable: bool) -> forms.Answer:
    """A completion as a page shows it."""
    text = completion.text if editable else None
    return forms.Answer(id=completion.id, html=rendered(completion.text), text=text)


def progress_of(store: Store, project: Project, account: Account) -> forms.Progress:
    """How far a project is, and how much of it one has done.

    One's own known answers count as if they were of the project: a number that stood still would give them away.
    """
    mine, known = done_by(store, project.id, account.labeler)
    finished = min(project.tasks, project.finished + known)
    return forms.Progress(mine=mine, finished=finished, tasks=project.tasks)


def project_row(one: Project) -> forms.ProjectRow:
    """A project as the API gives it."""
    return forms.ProjectRow(**{name: getattr(one, name) for name in forms.ProjectRow.model_fields})


def labeler_rows(store: Store, project: str) -> list[forms.LabelerRow]:
    """The figures of every labeler of a project."""
    gold, fits = gold_scores(store, project), latest_fit(store, project)
    below, live = below_others(gold), read_live_votes(store, project)
    rows = []
    for one in shares(store, project):
        figures = agreement_of(live, one.labeler)
        known, fit = gold.get(one.labeler), fits.get(one.labeler)
        rows.append(
            forms.LabelerRow(
                labeler=one.labeler,
                name=one.name,
                kind=one.kind,
                verdicts=one.verdicts,
                skips=one.skips,
                median_ms=one.median_ms,
                first_chosen=_value(figures.first_chosen),
                first_chosen_low=figures.first_chosen.low if figures.first_chosen.n else None,
                longer_chosen=_value(figures.longer_chosen),
                agreement=_value(figures.raw),
                gold=None if known is None else _value(known),
                gold_n=0 if known is None else known.n,
                gold_low=None if known is None else known.low,
                gold_high=None if known is None else known.high,
                gold_below=one.labeler in below,
                reliability=None if fit is None else fit.reliability,
                reliability_n=0 if fit is None else fit.n,
                flagged=fit is not None and fit.flagged,
            )
        )
    return rows


def _value(rate: Rate) -> float | None:
    return None if math.isnan(rate.value) else rate.value
