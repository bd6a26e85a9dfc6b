"""Runs that stop for people, and go on with what they said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from concordant.errors import UserError
from concordant.feedback.database.layout import DEFAULT_PROJECT
from concordant.feedback.database.schema import task
from concordant.feedback.reading.views import preferences
from concordant.feedback.store import Store
from concordant.feedback.votes import Vote, ranking
from concordant.pipeline.plan import votes_digest
from concordant.pipeline.recipe import load_recipe
from concordant.pipeline.selecting import ask_again, judged_by_the_run
from telling import tells
from tiny_run import clone, concordant, results, town_file


def answer(run: Path, n: int) -> str:
    """A person answers `n` questions in the store of a run, always for what is shown last; returns who."""
    with Store.open(run / "feedback.sqlite") as store:
        ada = store.add_labeler("ada", "human")
        for _ in range(n):
            lease = store.lease(ada, project=DEFAULT_PROJECT)
            assert lease is not None
            asked = lease.comparison
            payload = {"type": "pairwise", "verdict": "prefer", "winner": asked.completions[-1].id}
            if asked.kind == "ranking":
                payload = ranking([[one.id] for one in reversed(asked.completions)])
            store.submit(lease.token, lease.token, Vote(asked.task_id, payload))
    return ada


def test_a_run_stops_until_people_have_answered(tmp_path: Path) -> None:
    file, runs = town_file(tmp_path), tmp_path / "runs"
    words = ("run", file, "--runs", runs, "feedback.source=human", "feedback.people=30")
    done = concordant(*words)
    assert done.status == 0, done.err
    run = runs / "tiny"
    assert "people have answered 0 of 30 questions" in done.out
    assert f"concordant label {run}" in done.out
    assert not (run / "stages" / "04-reward").exists()
    answer(run, 10)
    assert "people have answered 10 of 30 questions" in concordant(*words).out
    answer(run, 25)
    done = concordant(*words)
    assert "people have answered" not in done.out, done.out
    assert (run / "report.html").is_file()
    found = results(run)["feedback"]
    assert found["live_votes"] == 35
    assert list(found["against_gold"]) == ["ada (human)"]
    assert 0 < found["against_gold"]["ada (human)"]["n"] <= 35
    assert "ada (human): better by gold" in (run / "report.html").read_text(encoding="utf-8")


def test_a_persons_vote_beside_simulated_ones_is_trained_on(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "runs" / "tiny")
    file = town_file(tmp_path)
    before = (run / "stages" / "04-reward" / "model" / "model.safetensors").read_bytes()
    with Store.open(run / "feedback.sqlite") as store:
        assert ask_again(store, DEFAULT_PROJECT, 20, "random", recipe=None, run_folder=None) == 20
        pairs = len(preferences(store))
    answer(run, 20)
    with Store.open(run / "feedback.sqlite") as store:
        assert len(preferences(store)) == pairs + 20
    done = concordant("run", file, "--runs", tmp_path / "runs", "feedback.source=human+simulated")
    assert done.status == 0, done.err
    assert "sft: done" in done.out
    assert "feedback: done" in done.out, "the candidates and the votes there were stay as they are"
    assert "reward: " in done.out
    assert (run / "stages" / "04-reward" / "model" / "model.safetensors").read_bytes() != before
    found = results(run)["feedback"]
    assert set(found["against_gold"]) == {"ada (human)", "careful (simulated)"}
    assert found["agreement"]["n"] == 20


def test_the_reward_model_says_which_questions_to_ask_again(finished: Path, tmp_path: Path) -> None:
    """Its gaps are those of its own scores; what was chosen, why and how probably is kept with the task."""
    run = clone(finished, tmp_path / "runs" / "tiny")
    recipe = load_recipe(town_file(tmp_path))
    with Store.open(run / "feedback.sqlite") as store:
        tasks = store.answered(DEFAULT_PROJECT)
        found = judged_by_the_run(store, tasks, recipe, run)
        assert found.gaps_MN.shape == (1, 48)
        assert (found.gaps_MN >= 0).all()
        asked = ask_again(store, DEFAULT_PROJECT, 10, "uncertainty", recipe=recipe, run_folder=run)
        assert asked == 10
        with store.reading() as connection:
            rows = connection.execute(select(task.c.id, task.c.policy).where(task.c.state == "open")).all()
        assert len(rows) == 10
        chosen = {row.id: row.policy["again"] for row in rows}
        sure = [key for key, why in chosen.items() if why["selector"] == "uncertainty"]
        assert len(sure) == 8
        closest = [tasks[i] for i in found.gaps_MN[0].argsort(kind="stable")]
        drawn = set(chosen) - set(sure)
        assert set(sure) == set([key for key in closest if key not in drawn][: len(sure)])
        assert len(sure) == 8
        assert all(chosen[key]["propensity"] == 1.0 for key in closest[:8])
        assert all(
            why["propensity"] == pytest.approx(2 / 48) for key, why in chosen.items() if key in closest[10:]
        )
        again = ask_again(store, DEFAULT_PROJECT, 5, "disagreement", recipe=recipe, run_folder=run)
        assert again == 5
        several = judged_by_the_run(store, tasks, recipe, run, members=4)
        assert several.gaps_MN.shape == (4, 48)
        assert (several.gaps_MN.std(axis=0) > 0).all()
        np.testing.assert_array_equal(several.features_NH, found.features_NH)
        with pytest.raises(UserError, match="no reward model"):
            ask_again(store, DEFAULT_PROJECT, 10, "gap", recipe=recipe, run_folder=tmp_path)


def test_people_compare_answers_to_prompts_of_a_file(finished: Path, tmp_path: Path) -> None:
    """Without a single preference to begin with: a model and prompts are enough to start from."""
    prompts = [{"prompt": f"where is the {place} {thing} ?"} for thing in "abcdefgh" for place in "klmnop"]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    recipe = f"""\
name = "people"
data_root = "{tmp_path}"
[machine]
threads = 1
[model]
path = "{finished / "stages" / "01-base" / "model"}"
[data]
prompts = "prompts.jsonl"
validation = 0.3
[feedback]
source = "human"
people = 40
completion = 8
[reward]
batch = 8
steps = 2
[evaluate]
prompts = 6
completion = 8
diversity_prompts = 2
best_of_prompts = 0
"""
    words = ("run", town_file(tmp_path, "people.toml", recipe), "--runs", tmp_path / "runs")
    done = concordant(*words)
    assert done.status == 0, done.err
    assert "people have answered 0 of 40" in done.out
    answer(tmp_path / "runs" / "people", 44)
    done = concordant(*words)
    assert done.status == 0, done.err
    assert results(tmp_path / "runs" / "people")["reward_model"]["n"] > 0


def test_the_store_may_be_a_database(finished: Path, tmp_path: Path, postgres: Any) -> None:
    """The same run with its votes in PostgreSQL: the same figures, and a stage made anew refuses what is there."""
    url, file = postgres.database(), town_file(tmp_path)
    words = ("run", file, "--runs", tmp_path / "runs", f"feedback.url={url}")
    done = concordant(*words)
    assert done.status == 0, done.err
    run = tmp_path / "runs" / "tiny"
    assert not (run / "feedback.sqlite").exists()
    assert results(run)["models"] == results(finished)["models"]
    assert votes_digest(url) == votes_digest(finished / "feedback.sqlite")
    assert "nothing was run" in concordant(*words).out
    again = concordant(*words, "feedback.completions=3")
    assert again.status == 2
    assert "of other candidates" in again.err
    with_password = concordant("run", file, "feedback.url=postgresql://me:secret@host/db")
    assert with_password.status == 2
    assert "PGPASSWORD" in with_password.err
    assert "secret" not in with_password.err


def test_models_disagree_about_nothing_where_nobody_voted(finished: Path, tmp_path: Path) -> None:
    recipe = load_recipe(town_file(tmp_path))
    with (
        Store.open(tmp_path / "feedback.sqlite") as store,
        tells("there are no preferences", where="votes", expected="prefer one answer", fix="--select random"),
    ):
        judged_by_the_run(store, [], recipe, finished, members=2)
