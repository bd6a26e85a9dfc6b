"""The answers of two stages to the same prompts: those sampled before, and new ones where they do not suffice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from concordant.errors import UserError
from concordant.feedback.reading.versus import Pair
from concordant.pipeline.interrupt import StopRequest
from concordant.pipeline.recipe import load_recipe
from concordant.pipeline.versus import answered_by_both
from tiny_run import STAGES, Stopper, clone, rows, snapshot


def answers(
    run: Path, n: int | None = None, stages: tuple[str, ...] = ("policy", "sft")
) -> tuple[list[Pair], list[str]]:
    reporter = Stopper(StopRequest())
    sides, pairs = answered_by_both(load_recipe(run / "recipe.toml", {}), run, stages, n, reporter)
    assert [one.name for one in sides] == sorted(stages, key=("base", "sft", "policy").index)
    return pairs, reporter.said


def test_what_evaluate_has_sampled_is_used_as_it_is(finished: Path) -> None:
    before = snapshot(finished / "stages")
    pairs, said = answers(finished)
    assert said == []
    assert snapshot(finished / "stages") == before
    sampled = [
        row for row in rows(finished / "stages" / "06-evaluate" / "samples.jsonl") if row["split"] == "train"
    ]
    texts = {(row["model"], row["prompt_id"], row["text"]) for row in sampled}
    assert len({one.prompt.id for one in pairs}) == len(pairs) > 10
    for one in pairs:
        assert ("sft", one.prompt.id, one.texts[0]) in texts
        assert ("policy", one.prompt.id, one.texts[1]) in texts
    assert [one.prompt.id for one in answers(finished, 5)[0]] == [one.prompt.id for one in pairs[:5]]


def test_more_prompts_are_sampled_the_same_each_time(finished: Path) -> None:
    few, _ = answers(finished)
    pairs, said = answers(finished, len(few) + 3)
    assert pairs[: len(few)] == few
    assert len({one.prompt.id for one in pairs}) == len(few) + 3
    assert [line.split("answers")[0] for line in said] == ["  sampling 3 "] * 2
    assert answers(finished, len(few) + 3)[0] == pairs


def test_models_made_after_they_were_measured_are_asked_anew(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny")
    os.utime(run / "stages" / "05-policy" / "stage.json")
    pairs, said = answers(run, 4)
    assert len(pairs) == 4
    assert len(said) == 2, "both are sampled: prompts and answers have to belong together"
    assert answers(run, 4, ("base", "sft"))[1] == [], "those two are as they were measured"


def test_without_an_evaluation_and_without_a_policy(finished: Path, tmp_path: Path) -> None:
    run = clone(finished, tmp_path / "tiny", stages=STAGES[:3])
    assert len(answers(run, 4, ("sft", "base"))[0]) == 4
    with pytest.raises(UserError, match="no finished stage 'policy'"):
        answers(run, 4)
    for wrong in (("sft", "sft"), ("sft", "reward")):
        with pytest.raises(UserError, match="a comparison of"):
            answers(run, 4, wrong)
