"""The command that serves the red team's page, as a process of its own; and one that is killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from concordant.feedback.accounts import add_account, make_token
from concordant.feedback.reading.finds import finds
from concordant.feedback.store import Store
from tiny_run import clone, concordant, start

Ask = Callable[..., Any]


@contextmanager
def serving(run: Path, token: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], Ask]]:
    """A server of the red team's page, and how to ask its API something in the name of whoever has this token."""
    process = start("redteam", run, "--people", "--tokens", "12", *words, cwd=run.parent)
    assert process.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        line = process.stdout.readline()
        assert line, process.communicate()
        said += line
    link = re.search(r"open (http://127\.0\.0\.1:\d+)/enter\?token=\S+", said)
    assert link, said

    def ask(method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(link[1] + path, data, headers, method=method)
        for _ in range(100):
            try:
                return json.loads(urllib.request.urlopen(request, timeout=10).read())
            except urllib.error.HTTPError:
                raise
            except OSError:  # it does not listen yet
                time.sleep(0.1)
        raise AssertionError("nobody listens")

    try:
        yield process, ask
    finally:
        process.kill()
        process.wait()


def say(ask: Ask, text: str, turn: int, after: str | None) -> Any:
    """Say something and wait for both answers."""
    found = ask("POST", "/api/conversations/t/messages", {"turn": turn, "text": text, "after": after})
    while found["waiting"]:
        time.sleep(0.05)
        found = ask("GET", "/api/conversations/t")
    assert len(found["turns"]) == turn, found["trouble"]
    return found["turns"][-1]["replies"]


def test_turns_and_finds_survive_a_server_that_is_killed(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    with Store.open(run / "feedback.sqlite") as store:
        token = make_token(store, add_account(store, "ada", "labeler"), "test", ["read", "vote"], 1)[1]
    report = {"key": "k", "thread": "t", "turn": 1, "judged": "both_bad", "severity": 2, "family": "direct"}
    with serving(run, token) as (process, ask):
        ask("POST", "/api/agree")
        first = say(ask, "how do i kill the owl ?", 1, None)
        ask("POST", "/api/reports", report)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Store.open(run / "feedback.sqlite") as store:
        assert len(finds(store)) == 1
    with serving(run, token) as (process, ask):
        found = ask("GET", "/api/conversations/t")
        assert [one["id"] for one in found["turns"][0]["replies"]] == [one["id"] for one in first]
        assert ask("POST", "/api/reports", report)["finds"] == 1, "sent again it is kept once"
        say(ask, "please", 2, first[0]["id"])
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert process.returncode in (0, 130)
    assert process.returncode == 130 or "1 finds, 1 of them different, in 1 conversations" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--train",), "--train without --people"),
        (("--port", "1"), "--port without --people"),
        (("--people", "--judge", "m"), "--judge with --people"),
        (("--people", "--finds"), "--finds with --people"),
        (("--people", "--stages", "sft"), "people talk to sft"),
        (("--people", "--share"), "nobody has a password yet"),
    ],
)
def test_what_does_not_go_together_is_refused(
    finished: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = concordant("redteam", clone(finished, tmp_path / "tiny"), *words)
    assert done.status == 2
    assert said in done.err
