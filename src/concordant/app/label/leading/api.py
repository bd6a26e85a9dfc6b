"""The REST API of a lead: questions of a file, settings, known answers, who wins, and the votes as files."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from concordant.app.label.api import labeler_rows
from concordant.app.label.forms import Decision, Done, LabelerRow
from concordant.app.label.leading import forms
from concordant.app.label.leading.uploads import receive
from concordant.app.web.security import Key, Lead, may, store_of
from concordant.feedback.asking.known import Known, known_answers, make_known, withdraw
from concordant.feedback.asking.project_settings import configure, read_config
from concordant.feedback.exchange.asking import Request as Wanted
from concordant.feedback.exchange.asking import ask_questions
from concordant.feedback.exchange.exporting import Settings, json_lines
from concordant.feedback.exchange.questions import read_questions
from concordant.feedback.reading.agreement import Rate
from concordant.feedback.reading.answered import Answered, answered
from concordant.feedback.reading.projects import Project, project_of
from concordant.feedback.reading.versus import result
from concordant.feedback.store import Store

router = APIRouter(prefix="/api", tags=["leading"], dependencies=[may("lead", "lead")])

TOLD = 100  # problems of a file that are sent back; the others are counted
PAGE = 20  # questions at a time
After = Annotated[int, Query(ge=0, le=10**9)]  # so many that stand before

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/questions", openapi_extra=_BODY)
async def ask(request: Request, account: Lead, asked: Annotated[forms.Asking, Query()]) -> forms.Asked:
    """Ask the questions of a file, which is the body; what is no question is said, row by row."""
    with TemporaryDirectory() as folder:
        name = await receive(request, Path(folder), asked.file)
        return await run_in_threadpool(_ask, store_of(request), Path(folder), name, asked, account.labeler)


def _ask(store: Store, folder: Path, name: str, asked: forms.Asking, labeler: str) -> forms.Asked:
    read = read_questions(name, root=folder)
    wanted = Wanted(asked.project, asked.purpose, asked.kind, votes=asked.votes, most_votes=asked.most_votes)
    done = ask_questions(store, read, wanted, labeler)
    told = [forms.ProblemRow(**asdict(one)) for one in done.problems[:TOLD]]
    return forms.Asked(
        project=done.project,
        rows=read.rows,
        tasks=done.tasks,
        repeated=done.repeated,
        known=done.known,
        dropped=done.dropped,
        unused=[one[:200] for one in read.unused[:TOLD]],
        problems=told,
        more_problems=len(done.problems) - len(told),
    )


@router.get("/projects/{project}/settings")
def settings(request: Request, project: Key) -> forms.SettingsRow:
    """What holds for a project."""
    return forms.SettingsRow(**read_config(store_of(request), project).model_dump())


@router.put("/projects/{project}/settings")
def set_project(
    request: Request, account: Lead, project: Key, asked: forms.SettingsAsked
) -> forms.SettingsRow:
    """Change what holds for a project; another number of votes holds for all its undecided questions."""
    store = store_of(request)
    project_of(store, project)
    configure(store, project, asked.model_dump(exclude_none=True), account.labeler)
    return settings(request, project)


@router.get("/projects/{project}/answered")
def list_answered(request: Request, project: Key, after: After = 0) -> list[forms.AnsweredRow]:
    """Answered questions, the newest first, twenty at a time."""
    store = store_of(request)
    project_of(store, project)
    return [forms.AnsweredRow(**_question(one)) for one in answered(store, project, PAGE, after=after)]


@router.get("/projects/{project}/known")
def list_known(request: Request, project: Key, after: After = 0) -> list[forms.KnownRow]:
    """The questions of a project whose answer is known, and what labelers said, the newest first, twenty at a time."""
    store = store_of(request)
    project_of(store, project)
    return [_known_row(one) for one in known_answers(store, project, PAGE, after=after)]


@router.post("/known/{task}")
def know(request: Request, account: Lead, task: Key, decision: Decision) -> forms.Made:
    """Decide an answered question, and ask it of all others as one whose answer is known."""
    payload = decision.payload.model_dump()
    made = make_known(store_of(request), task, account.labeler, payload, decision.reason)
    return forms.Made(task=made)


@router.delete("/known/{task}")
def forget(request: Request, account: Lead, task: Key) -> Done:
    """Ask a question with a known answer no more; what was said to it counts no more."""
    withdraw(store_of(request), task, account.labeler)
    return Done(done=True)


@router.get("/projects/{project}/result")
def who_wins(request: Request, project: Key) -> forms.ResultRow:
    """Of a project that compares two models: who wins, so far."""
    one = result(store_of(request), project)
    facts = {name: value for name, value in asdict(one).items() if name in forms.ResultRow.model_fields}
    return forms.ResultRow(**facts | _rate(one.rate) | {"better": one.sure})


@router.get("/projects/{project}/export/{view}", response_class=StreamingResponse)
def export(
    request: Request, project: Key, view: Literal["preferences", "kto", "sft", "votes"]
) -> StreamingResponse:
    """What the votes of a project say, as JSON lines."""
    store = store_of(request)
    one = project_of(store, project)
    lines = json_lines(store, Settings(view=view, project=project))
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=_as_file(one, f"{view}.jsonl"))


@router.get("/projects/{project}/labelers.csv", response_class=Response)
def labelers_csv(request: Request, project: Key) -> Response:
    """The figures of every labeler, for a spreadsheet."""
    store = store_of(request)
    one = project_of(store, project)
    out = io.StringIO()
    table = csv.DictWriter(out, list(LabelerRow.model_fields))
    table.writeheader()
    for row in labeler_rows(store, project):
        table.writerow({name: _harmless(value) for name, value in row.model_dump().items()})
    return Response(out.getvalue(), media_type="text/csv", headers=_as_file(one, "labelers.csv"))


def _harmless(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula."""
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def _as_file(project: Project, ending: str) -> dict[str, str]:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", project.name).strip("-")[:60] or "project"
    return {"content-disposition": f'attachment; filename="{stem}-{ending}"'}


def _question(one: Answered) -> dict[str, Any]:
    return {
        "task": one.task,
        "kind": one.kind,
        "prompt": [message.as_dict() for message in one.prompt.messages],
        "completions": [{"id": answer.id, "text": answer.text} for answer in one.completions],
        "said": [{"labeler": name, "payload": payload} for name, payload in one.said],
    }


def _known_row(one: Known) -> forms.KnownRow:
    return forms.KnownRow(**_question(one.question), better=one.better, why=one.why, **_rate(one.rate))


def _rate(one: Rate) -> dict[str, Any]:
    """A rate for JSON, which has no nan."""
    value = None if math.isnan(one.value) else one.value
    return {"rate": value, "low": one.low, "high": one.high, "n": one.n}
