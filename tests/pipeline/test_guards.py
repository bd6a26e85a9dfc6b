"""What guards a run while it trains: steps that are not finite, memory that gives out, stops and crashes in the middle.

And which of its checkpoints it leaves.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from concordant.data.batches import Counts, Example, MicroBatch
from concordant.errors import UserError
from concordant.models.load import load_policy
from concordant.pipeline.folder import StageFolder
from concordant.pipeline.interrupt import Interrupted, StopRequest
from concordant.pipeline.parts import sampling
from concordant.pipeline.recipe import Recipe
from concordant.pipeline.reporter import Silent
from concordant.pipeline.run import execute
from concordant.pipeline.stages import sft
from concordant.rollout import kept
from concordant.rollout.inline import InlineSampler
from concordant.train.checkpoint import RANK, Checkpoint, CheckpointWriter, load_checkpoint
from concordant.train.config import OptimizerConfig
from concordant.train.learner import Group, Learner, Objective
from concordant.train.objectives.sft import sft_objective
from concordant.train.skipped import load_skipped
from tinies import MACHINE, same
from tiny_run import STAGES, Stopper, clone, figures, rows, town, weights

SFT, POLICY = (Path("stages", stage) for stage in ("02-sft", "05-policy"))


def go_on(recipe: Recipe, run: Path, reporter: Stopper | None = None) -> Stopper:
    reporter = reporter or Stopper(StopRequest())
    assert execute(recipe, run, reporter, reporter.stop)
    return reporter


# Steps that are not finite


BATCH = 16  # examples of a step of the tiny recipe; what was kept out and is looked at has more


def broken_from(first: int, last: int) -> Any:
    """Fine-tuning whose loss is not a number in these optimiser steps, counted from 1."""

    def objective_of(model: Any) -> Any:
        good = sft_objective(model)

        def of_batch(examples: Sequence[Example]) -> Objective:
            of_batch.steps += len(examples) == BATCH  # type: ignore[attr-defined]
            broken = first <= of_batch.steps <= last  # type: ignore[attr-defined]

            def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
                loss, metrics = good(batch, counts)
                return loss * (math.nan if broken else 1.0), metrics

            return objective

        of_batch.steps = 0  # type: ignore[attr-defined]
        return of_batch

    return objective_of


@pytest.fixture
def base(finished: Path, tmp_path: Path) -> Path:
    return clone(finished, tmp_path / "run", stages=STAGES[:1])


def break_sft(monkeypatch: pytest.MonkeyPatch, first: int, last: int) -> None:
    monkeypatch.setattr(sft, "sft_objective", broken_from(first, last))
    monkeypatch.setattr(sft, "always", lambda of_batch: of_batch)


def keep_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every checkpoint of a stage be written, and outlive it beside it."""
    monkeypatch.setattr(CheckpointWriter, "busy", False)
    finish = StageFolder.finish

    def kept_finish(folder: StageFolder, *given: Any) -> None:
        shutil.copytree(folder.checkpoints, folder.path.with_name(f"{folder.path.name}-state"))
        finish(folder, *given)

    monkeypatch.setattr(StageFolder, "finish", kept_finish)


def state(run: Path, stage: Path, step: int) -> Checkpoint:
    found = load_checkpoint(run / f"{stage}-state" / f"step-{step}")
    assert found is not None
    return found


def test_a_batch_that_is_not_finite_leaves_the_weights_of_the_step_before_and_is_kept(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_sft(monkeypatch, 4, 4)
    keep_states(monkeypatch)
    recipe = town(tmp_path, sft__checkpoint={"every": "1 step", "keep": 20})
    reporter = Stopper(StopRequest(), "fine-tuning", 10)
    with pytest.raises(Interrupted):
        execute(recipe, base, reporter, reporter.stop)
    before, broken, after = (state(base, SFT, step).tensors for step in (3, 4, 5))
    assert same(broken, before)
    assert not same(after, before)
    logged = rows(base / SFT / "steps.jsonl")
    assert [row["step"] for row in logged if row.get("optimizer/skipped")] == [4]
    assert logged[3]["loss"] is None, "JSON has no NaN"
    (notice,) = rows(base / SFT / "notices.jsonl")
    assert (notice["step"], notice["detector"]) == (4, "not finite")
    assert any("step 4, not finite" in line and "learning rate" in line for line in reporter.said)

    skipped = load_skipped(base / SFT / "skipped" / "step-4")
    assert math.isnan(skipped.metrics["loss"])
    assert len(skipped.parts[0].examples) == recipe.sft.batch  # type: ignore[union-attr]
    model = load_policy(str(base / SFT / "model"))
    named = {f"weights/model.{name}": tensor for name, tensor in model.named_parameters()}
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(before[name])
    objective = broken_from(1, 1)(model)(skipped.parts[0].examples)
    again = Learner(
        [Group("model", model, 1e-3)],
        OptimizerConfig(),
        total_steps=1,
        tokens=4096,
        pad_id=model.config.pad_token_id,
        machine=MACHINE,
    )
    assert math.isnan(again.backward(skipped.parts[0].examples, objective)["loss"])


def test_too_many_in_a_row_end_the_stage_and_the_last_checkpoint_stays(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_sft(monkeypatch, 5, 99)
    recipe = town(tmp_path, sft__checkpoint=2, sft__optimizer__skip_at_most=3)
    with pytest.raises(UserError, match="not finite in 3 optimiser steps in a row") as raised:
        execute(recipe, base, Silent(), StopRequest())
    assert raised.value.where == str(base / SFT / "skipped")
    assert "optimizer.lr" in raised.value.fix
    assert sorted(path.name for path in (base / SFT / "skipped").iterdir()) == ["step-5", "step-6", "step-7"]
    states = sorted((base / SFT / "state").iterdir())
    assert states, "and it is whole"
    assert load_checkpoint(states[-1]) is not None
    monkeypatch.undo()
    go_on(recipe, base)  # the cause is mended: the run goes on from there
    assert (base / "results.json").is_file()


def test_memory_that_gives_out_is_said_and_the_run_ends_with_nearly_the_same_loss(
    base: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(model: Any) -> Objective:
        good = sft_objective(model)

        def objective(batch: MicroBatch, counts: Counts) -> tuple[Tensor, Mapping[str, Tensor]]:
            if batch.ids_BT.numel() > 300:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return good(batch, counts)

        return objective

    monkeypatch.setattr(sft, "sft_objective", small)
    reporter = Stopper(StopRequest(), "fine-tuning", 10)
    with pytest.raises(Interrupted):
        execute(town(tmp_path), base, reporter, reporter.stop)
    assert any("out of memory: from here on at most" in line for line in reporter.said)
    losses = [[row["loss"] for row in rows(run / SFT / "steps.jsonl")] for run in (base, finished)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_memory_that_gives_out_between_passes_is_one_message(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(learner: Learner) -> dict[str, float]:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(UserError, match="out of memory in stage sft"):
        execute(town(tmp_path), base, Silent(), StopRequest())


# A stop while sampling, a crash while learning


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    return clone(finished, tmp_path / "run", stages=STAGES[:4])


class Sampled:
    """Counts the rollouts that are really sampled, and calls something while one of them is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.at: dict[int, Any] = {}
        watch = self

        class Watched(InlineSampler):
            def sample(self, *given: Any, **named: Any) -> Any:
                watch.count += 1
                watch.at.get(watch.count, lambda: None)()
                return super().sample(*given, **named)

        monkeypatch.setattr(sampling, "InlineSampler", Watched)


def test_a_stop_while_sampling_does_not_wait_and_loses_no_update(
    trained: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = town(tmp_path)
    sampled, stop = Sampled(monkeypatch), StopRequest()
    sampled.at[3] = lambda: setattr(stop, "requested", True)  # the first is for the scores of the reference
    reporter = Stopper(stop)
    with pytest.raises(Interrupted):
        execute(recipe, trained, reporter, stop)
    assert [step for title, step in reporter.progress if title == "PPO"] == [1]
    assert sampled.count == 3
    assert [path.name for path in (trained / POLICY / "state").iterdir()] == ["step-1"]
    sampled.count = 0
    told = go_on(recipe, trained)
    assert [step for title, step in told.progress if title == "PPO"] == [2, 3]
    assert weights(trained, "05-policy") == weights(finished, "05-policy")
    assert figures(trained) == figures(finished)


def test_a_crash_between_two_minibatches_costs_no_rollout(
    trained: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = town(tmp_path)
    monkeypatch.setattr(kept.KeptRollouts.__init__, "__kwdefaults__", {"most": 1, "worth": 0.0})
    sampled, steps = Sampled(monkeypatch), Learner.step

    def crashes(learner: Learner) -> dict[str, float]:
        if learner.steps == 5:  # 4 optimiser steps an update: in the second one
            raise KeyboardInterrupt
        return steps(learner)

    monkeypatch.setattr(Learner, "step", crashes)
    with pytest.raises(KeyboardInterrupt):
        execute(town(tmp_path, policy__checkpoint=1), trained, Silent(), StopRequest())
    assert sampled.count == 3
    monkeypatch.setattr(Learner, "step", steps)
    sampled.count = 0
    reporter = Stopper(StopRequest(), "PPO", 2)
    with pytest.raises(Interrupted):
        execute(recipe, trained, reporter, reporter.stop)
    assert sampled.count <= 1, "the second rollout was there; the third may have been begun"
    go_on(recipe, trained)
    assert weights(trained, "05-policy") == weights(finished, "05-policy")
    assert figures(trained) == figures(finished)
    assert not (trained / POLICY / "rollouts").exists()


# The best checkpoint


def test_the_best_checkpoint_is_what_the_stage_leaves(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_states(monkeypatch)
    recipe = town(tmp_path, policy__checkpoint={"every": "1 step", "keep": 1, "best": "-objective/kl"})
    reporter = Stopper(StopRequest(), "PPO", 3)
    with pytest.raises(Interrupted):
        execute(recipe, trained, reporter, reporter.stop)
    drift = {row["step"]: row["objective/kl"] for row in rows(trained / POLICY / "steps.jsonl")}
    best = min((1, 2), key=lambda step: drift[step])
    assert f"  the best by -objective/kl is step {best}, which is what stays" in reporter.said
    facts = json.loads((trained / POLICY / "stage.json").read_text())["facts"]
    assert facts["objective/kl"] == drift[best], "what is told of the stage is what it left"
    model = load_policy(str(trained / POLICY / "model"))
    left = state(trained, POLICY, best).tensors
    assert same(
        {name: tensor.detach() for name, tensor in model.named_parameters()},
        {name: left[f"weights/policy.{name}"] for name, _ in model.named_parameters()},
    )


def test_a_figure_that_there_is_not_is_named(trained: Path, tmp_path: Path) -> None:
    recipe = town(tmp_path, policy__checkpoint={"every": "10 min", "best": "objective/gain"})
    with pytest.raises(UserError, match="no figure 'objective/gain'") as raised:
        execute(recipe, trained, Silent(), StopRequest())
    assert "objective/rlhf_reward" in raised.value.expected


def test_where_a_run_was_stopped_does_not_decide_which_step_is_the_best(
    trained: Path, tmp_path: Path
) -> None:
    recipe = town(tmp_path, policy__checkpoint={"every": "2 steps", "best": "objective/score"})
    for step in (1, 2):
        reporter = Stopper(StopRequest(), "PPO", step)
        with pytest.raises(Interrupted):
            execute(recipe, trained, reporter, reporter.stop)
    found = [load_checkpoint(trained / POLICY / "state" / f"step-{step}") for step in (1, 2)]
    assert [one is not None and RANK in one.facts for one in found] == [False, True]


def test_what_decides_about_the_best_is_part_of_the_fingerprint(trained: Path, tmp_path: Path) -> None:
    from concordant.pipeline.plan import plan

    def fingerprint(**changes: Any) -> str:
        return plan(town(tmp_path, **changes), trained)[4].fingerprint

    plain = fingerprint()
    assert fingerprint(policy__checkpoint=7) == plain
    by_best = [
        fingerprint(policy__checkpoint={"every": every, "best": "objective/score"})
        for every in ("1 step", "2 steps")
    ]
    assert len({plain, *by_best}) == 3


def test_steps_of_a_log_are_json(finished: Path) -> None:
    for line in (finished / SFT / "steps.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
