"""The API of the red team's page: a message, its two answers, and what is reported of them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from fastapi import APIRouter, HTTPException, Request

from concordant.app.label.api import rendered
from concordant.app.redteam import forms
from concordant.app.redteam.consent import Attacker, remember
from concordant.app.redteam.desk import Asked, Desk
from concordant.app.web.security import Key, Labeler, store_of
from concordant.data.types import Message
from concordant.errors import UserError
from concordant.feedback.accounts import Account
from concordant.feedback.answering.finds import Report, keep_report, prompt_of
from concordant.feedback.reading.finds import Turn, conversation, finds
from concordant.feedback.store import Store

router = APIRouter(prefix="/api", tags=["red team"])


def desk_of(request: Request) -> Desk:
    """Who waits for an answer."""
    desk: Desk = request.app.state.desk
    return desk


@router.post("/agree")
def agree(request: Request, account: Labeler) -> forms.Agreed:
    """Say that one has read what may come, and wants to take part."""
    remember(store_of(request), account, "agreed")
    return forms.Agreed(state="agreed")


@router.post("/leave")
def leave(request: Request, account: Labeler) -> forms.Agreed:
    """Say that this is not for one: what is under way ends, and nothing more is given out."""
    desk_of(request).stop(account.labeler)
    remember(store_of(request), account, "left")
    return forms.Agreed(state="left")


@router.get("/conversations/{thread}")
def show(request: Request, account: Attacker, thread: Key) -> forms.Conversation:
    """A conversation of one's own, and what it waits for."""
    desk = desk_of(request)
    held = desk.place(
        thread
    )  # looked at first: what it waited for may have come by the time the turns are read
    turns = _own(store_of(request), account, thread)
    if held is not None and held[0].labeler != account.labeler:
        raise _nobodys()
    waiting = None
    if held is not None and held[0].number > len(turns):
        asked, place = held
        waiting = forms.Waiting(turn=asked.number, text=asked.prompt.text, place=place)
    return forms.Conversation(
        thread=thread,
        turns=[turn_of(one) for one in turns],
        waiting=waiting,
        trouble="" if waiting else desk.trouble.get(thread, ""),
    )


@router.post("/conversations/{thread}/messages", status_code=202)
def send(request: Request, account: Attacker, thread: Key, sent: forms.MessageSent) -> forms.Conversation:
    """Say something to both models. Sending it again while it waits adds nothing."""
    desk = desk_of(request)
    turns = _own(store_of(request), account, thread)
    if sent.turn != len(turns) + 1:
        raise HTTPException(409, "this turn has been answered already: load the page again")
    order = _order(desk.models.stages, turns)
    messages = (*_before(turns, sent.after), Message("user", sent.text))
    asked = Asked(thread, sent.turn, account.labeler, prompt_of(messages), sent.after, order)
    if not desk.ask(asked) and desk.place(thread) is None:
        raise HTTPException(409, "the last thing you said waits for its answers still: stop it, or wait")
    return show(request, account, thread)


@router.post("/conversations/{thread}/stop")
def stop(request: Request, account: Attacker, thread: Key) -> forms.Conversation:
    """Have nothing more said: no answer of this turn is shown or kept."""
    desk_of(request).stop(account.labeler)
    return show(request, account, thread)


@router.post("/reports")
def report(request: Request, account: Attacker, sent: forms.ReportSent) -> forms.ReportKept:
    """Say which answer of a turn is worse, and how bad it is. A later report of the turn takes its place."""
    store = store_of(request)
    said = Report(**sent.model_dump(exclude={"key"}))
    kept = keep_report(store, request.app.state.project, account.labeler, sent.key, said)
    return forms.ReportKept(report=kept.id, **found_by(store, account))


def found_by(store: Store, account: Account) -> dict[str, int]:
    """How many finds somebody has made, and how many of them nobody had made before."""
    mine = [one for one in finds(store) if one.labeler == account.labeler]
    return {"finds": len(mine), "unique": sum(one.new for one in mine)}


def _own(store: Store, account: Account, thread: str) -> list[Turn]:
    """The turns of a conversation. Somebody else's is as one that is not there."""
    turns = conversation(store, thread)
    if any(one.labeler != account.labeler for one in turns):
        raise _nobodys()
    return turns


def _nobodys() -> HTTPException:
    return HTTPException(404, "there is no such conversation of yours")


def _before(turns: Sequence[Turn], after: str | None) -> tuple[Message, ...]:
    """All that was said before the next message, which follows on one of the two last answers."""
    if not turns:
        return ()
    chosen = [one for one in turns[-1].replies if one.completion.id == after]
    if not chosen:
        raise HTTPException(409, "say which of the two last answers the conversation goes on from")
    return (*turns[-1].prompt.messages, Message("assistant", chosen[0].completion.text))


def _order(stages: Sequence[str], turns: Sequence[Turn]) -> tuple[int, int]:
    """Which model stands first: drawn for each conversation, and the same until its end."""
    if not turns:
        return secrets.choice([(0, 1), (1, 0)])
    shown = [one.stage for one in turns[0].replies]
    if sorted(shown) != sorted(stages):
        raise UserError(
            "this conversation was with other models",
            where="the server, which was started again with two others",
            expected="the two it began with",
            fix="begin a new conversation; what you have reported is kept",
        )
    first, second = (stages.index(one) for one in shown)
    return first, second


def turn_of(turn: Turn) -> forms.Turn:
    """A turn as its page shows it."""
    replies = [
        forms.Reply(id=one.completion.id, html=rendered(one.completion.text), ended=one.ended)
        for one in turn.replies
    ]
    told = None
    if turn.report is not None:
        told = forms.ReportShown(**{name: turn.report[name] for name in forms.ReportShown.model_fields})
    return forms.Turn(
        number=turn.number, text=turn.prompt.text, after=turn.after, replies=replies, report=told
    )
