"""Rounds whose completions are ranked by labelers instead of a reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from concordant.feedback.reading.live_votes import read_live_votes
from concordant.feedback.store import Store
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.plan import votes_digest
from concordant.pipeline.recipe import Recipe, load_recipe
from concordant.pipeline.run import execute, open_run
from tiny_run import TOWN, Stopper, concordant, figures, rows, town_file, weights

RANKED = TOWN[: TOWN.index("[policy]")] + (
    """\
[policy]
algorithm = "online_dpo"
rounds = 3
prompts = 12
samples = 3
batch = 8
completion = 12
optimizer = { lr = 1e-3 }

[policy.rewards.people]
kind = "labelers"

"""
    + TOWN[TOWN.index("[evaluate]") :]
)


def ranked(folder: Path, **changes: Any) -> Recipe:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return load_recipe(town_file(folder, "ranked.toml", RANKED), dotted)


def test_a_run_stopped_between_rounds_ends_as_one_that_was_not(tmp_path: Path, finished: Path) -> None:
    recipe, whole, broken = ranked(tmp_path), tmp_path / "one" / "whole", tmp_path / "other" / "broken"
    ended = Stopper(StopRequest())
    open_run(recipe, whole, "")
    assert execute(recipe, whole, ended, ended.stop)
    stop = StopRequest()
    open_run(recipe, broken, "")
    with pytest.raises(Interrupted):
        execute(recipe, broken, Stopper(stop, "ONLINE_DPO", 2), stop)
    assert execute(recipe, broken, ended, StopRequest())
    assert weights(broken, "05-policy") == weights(whole, "05-policy")
    steps = rows(whole / "stages" / "05-policy" / "steps.jsonl")
    assert rows(broken / "stages" / "05-policy" / "steps.jsonl") == steps
    assert figures(broken) == figures(whole)
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert all(0 < step["score/people"] < 1 for step in steps)
    with Store.open(whole / "feedback.sqlite") as store:
        assert len(read_live_votes(store).votes) == 48, "what the reward model learns from"
        of_rounds = read_live_votes(store, store.add_project("policy", "loop"))
    assert 20 < len(of_rounds.votes) <= 3 * 12
    assert votes_digest(whole / "feedback.sqlite") == votes_digest(finished / "feedback.sqlite"), (
        "votes of rounds make no new reward model"
    )


def test_labelers_need_a_world_and_something_to_compare(tmp_path: Path) -> None:
    file = town_file(tmp_path, "ranked.toml", RANKED)
    alone = "policy={algorithm='reinforce++', batch=8, rewards={people={kind='labelers'}}}"
    done = concordant("run", file, alone, "--runs", tmp_path / "runs")
    assert done.status == 2
    assert "policy.group" in done.err
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    files = """\
name = "files"
[model]
path = "model"
[data]
preferences = "pairs.jsonl"
[policy]
algorithm = "online_dpo"
rewards = { people = { kind = "labelers" } }
"""
    done = concordant("run", town_file(tmp_path, "files.toml", files), f"data_root={tmp_path}")
    assert done.status == 2
    assert "nobody is there to rank" in done.err
