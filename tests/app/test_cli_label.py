"""The command that serves the labeling page, as a process of its own."""

from __future__ import annotations

import re
import signal
import time
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

from concordant.data.types import Prompt
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.reading.projects import project_named, project_of
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, prefer
from tiny_run import clone, concordant, start


def test_the_link_on_the_terminal_opens_the_page(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    process = start("label", run, "--more", "7", "--select", "uncertainty", cwd=tmp_path)
    assert process.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        line = process.stdout.readline()
        assert line, process.communicate()
        said += line
    assert "7 answered questions want one more labeler" in said
    link = re.search(r"open (http://127\.0\.0\.1:\d+/enter\?token=\S+)", said)
    assert link, said
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    page = ""
    for _ in range(100):
        try:
            page = browser.open(link[1], timeout=5).read().decode()
            break
        except OSError:
            time.sleep(0.1)
    assert "41 of 48 questions answered" in page
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode in (0, 130)
    with Store.open(run / "feedback.sqlite") as store:
        assert project_of(store, DEFAULT_PROJECT).finished == 41


def test_a_server_for_all_wants_passwords(finished: Path, tmp_path: Path) -> None:
    done = concordant("label", clone(finished, tmp_path / "tiny"), "--share")
    assert done.status == 2
    assert "nobody has a password yet" in done.err
    assert "invite yourself" in done.err


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    done = concordant("label", tmp_path / "none")
    assert done.status == 2
    assert "no such store" in done.err


def test_a_rubric_is_printed_edited_and_asked(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    printed = concordant("feedback", "rubric", run)
    assert printed.status == 0
    assert 'question = "Which answer is better?"' in printed.out
    mine = tmp_path / "rubric.toml"
    mine.write_text(printed.out.replace("Which answer is better?", "Which one is true?"), encoding="utf-8")
    process = start(
        "label", run, "--edit", "3", "--write", "2", "--rate", "1000", "--rubric", mine, cwd=tmp_path
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(3)]
    process.terminate()
    process.communicate(timeout=20)
    assert "3 more questions of kind edit" in said[0]
    assert "more questions of kind rating" in said[1]
    assert "2 more questions of kind demonstration" in said[2]
    with Store.open(run / "feedback.sqlite") as store:
        who = store.add_labeler("ada", "human")
        leases = store.lease_many(who, 2_000, project=DEFAULT_PROJECT)
        assert len(leases) == 5 + int(said[1].split()[0])
        assert {one.rubric["question"] for one in leases} == {"Which one is true?"}
        kinds = {one.comparison.kind: len(one.comparison.completions) for one in leases}
        assert kinds == {"edit": 1, "rating": 2, "demonstration": 0}
    again = concordant("feedback", "rubric", run)
    assert again.out == mine.read_text(encoding="utf-8")


def test_a_rubric_that_is_none(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("colour = 3")
    done = concordant(
        "label", clone(finished, tmp_path / "tiny"), "--edit", "1", "--rubric", tmp_path / "mine.toml"
    )
    assert done.status == 2
    assert "unknown key 'colour'" in done.err


def test_a_rubric_under_which_nothing_is_asked(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    with Store.open(run / "feedback.sqlite") as store:
        store.create_demonstration_tasks([Prompt.user("still open")])
    mine = tmp_path / "mine.toml"
    mine.write_text('question = "Which one?"')
    done = concordant("label", run, "--rubric", mine)
    assert done.status == 2
    assert "add --more 100" in done.err


def test_two_stages_are_compared_blind(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    process = start(
        "label", run, "--compare", "policy", "sft", "--prompts", "8", "--votes", "2", cwd=tmp_path
    )
    assert process.stdout is not None
    said = ""
    while "Ctrl-C" not in said:
        line = process.stdout.readline()
        assert line, process.communicate()
        said += line
    process.terminate()
    process.communicate(timeout=20)
    assert re.search(
        r"sft or policy: 8 prompts, \d pairs of answers to compare; to \d both say the same", said
    )
    assert "want one more labeler" not in said
    assert "sft or policy: " in concordant("feedback", "result", run).out
    with Store.open(run / "feedback.sqlite") as store:
        project = project_named(store, "sft or policy")
        assert project.purpose == "evaluation"
        ada = store.add_labeler("ada", "human")
        for lease in store.lease_many(ada, 8, project=project.id):
            winner = lease.comparison.completions[0].id
            store.submit(lease.token, lease.token, Vote(lease.comparison.task_id, prefer(winner)))
    done = concordant("feedback", "result", run, "--project", "sft or policy")
    assert "policy wins 0." in done.out, done.err
    assert ", n = 8 prompts: undecided" in done.out
    assert "0  questions without an answer yet" in done.out
    plan = concordant("plan", run / "recipe.toml", "--run", run)
    assert (plan.status, "rebuild" in plan.out) == (0, False), "the votes train nothing"


def test_what_cannot_be_compared_is_said(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    for words, said in (
        (("--compare", "sft", "sft"), "two of base, sft, policy"),
        (("--compare", "sft", "judge"), "two of base, sft, policy"),
        (("--compare", "sft", "policy", "--prompts", 0), "1 or more"),
        (("--prompts", 5), "without --compare"),
    ):
        done = concordant("label", run, *words)
        assert done.status == 2
        assert said in done.err
    assert "no two stages are compared here" in concordant("feedback", "result", run).err
