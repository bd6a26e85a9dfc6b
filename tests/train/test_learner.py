"""The learner: what it does with a gradient, and what a checkpoint of it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from loops import learner_of, single_examples

from concordant.data.batches import Counts, MicroBatch, count, micro_batches
from concordant.errors import UserError
from concordant.models.load import add_adapter, load_policy
from concordant.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from concordant.train.config import FitConfig, OptimizerConfig, PPOConfig
from concordant.train.learner import KEPT, Group, Learner, Objective, schedule_factor
from concordant.train.objectives.sft import sft_objective
from concordant.train.skipped import load_skipped
from tinies import ADAPTER, MACHINE, PAD, assert_close, gradients, same, weights

EXAMPLES = single_examples(6)


def take_step(learner: Learner, model: torch.nn.Module, poison: float = 0.0) -> dict[str, float]:
    metrics = learner.backward(EXAMPLES, sft_objective(model))
    if poison:
        next(p for p in model.parameters() if p.grad is not None).grad[0] = poison
    return metrics | learner.step()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_skips_the_step(poison: float, folders: dict[str, str]) -> None:
    model, other = load_policy(folders["llama"]), torch.nn.Linear(2, 2)
    learner = learner_of(model, other)
    take_step(learner, model)
    before, state = weights(model), learner.state()
    others = weights(other)
    state = {name: tensor.clone() for name, tensor in state.items()}
    metrics = take_step(learner, model, poison)
    assert metrics["optimizer/skipped"] == 1.0
    assert same(weights(model), before)
    assert same(weights(other), others)
    assert same(learner.state(), state), "the moments are untouched as well"
    assert not gradients(model), "and the gradient is gone"
    assert learner.steps == 2
    assert "optimizer/skipped" not in take_step(learner, model)
    assert not same(weights(model), before)


def test_so_many_in_a_row_are_too_many(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    learner = learner_of(model, skip_at_most=3)
    for _ in range(2):
        take_step(learner, model, math.nan)
    take_step(learner, model)  # a good one starts the count again
    for _ in range(2):
        take_step(learner, model, math.nan)
    resumed = learner_of(model, skip_at_most=3)
    resumed.load_state(learner.state(), learner.facts())  # which does not start it again
    with pytest.raises(UserError, match="not finite in 3 optimiser steps in a row"):
        take_step(resumed, model, math.nan)


def test_a_loss_that_is_not_finite_skips_the_step(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    learner, before = learner_of(model), weights(model)
    good = sft_objective(model)

    def objective(batch: MicroBatch, counts: Counts) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        loss, metrics = good(batch, counts)
        return loss + math.inf, metrics  # whose gradient is as it was

    learner.backward(EXAMPLES, objective)
    assert learner.step()["optimizer/skipped"] == 1.0
    assert same(weights(model), before)


def test_a_skipped_batch_is_kept_and_gives_the_same_again(folders: dict[str, str], tmp_path: Path) -> None:
    def poisoned(model: torch.nn.Module) -> Objective:
        good = sft_objective(model)

        def objective(batch: MicroBatch, counts: Counts) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
            loss, metrics = good(batch, counts)
            return loss * torch.where((batch.ids_BT == bad).any(), math.nan, 1.0), metrics

        return objective

    bad = EXAMPLES[2].rows[0].completion[0]
    batches = [
        [
            example
            for example in EXAMPLES
            if bad not in (*example.rows[0].prompt, *example.rows[0].completion)
        ],
        EXAMPLES,
    ]
    model = load_policy(folders["llama"])
    learner = learner_of(model, tokens=20, skipped=tmp_path / "skipped")
    learner.backward(batches[0], poisoned(model))
    learner.step()
    before = weights(model)
    learner.backward(batches[1], poisoned(model), beside={"of the objective": torch.arange(3)})
    learner.step()
    assert same(weights(model), before), "those of the step before"
    kept = load_skipped(tmp_path / "skipped" / "step-2")
    assert kept.number == 1
    assert math.isnan(kept.metrics["loss"])
    (part,) = kept.parts
    assert part.examples == tuple(EXAMPLES)
    assert part.counts == count(EXAMPLES)
    assert part.beside["of the objective"].tolist() == [0, 1, 2]
    assert 2 in kept.rows
    assert len(kept.rows) < len(EXAMPLES), "only those that went through the model with it"
    again = learner.backward(part.examples, poisoned(model), counts=part.counts)
    assert math.isnan(again["loss"])
    learner.discard()
    others = [example for n, example in enumerate(part.examples) if n not in kept.rows]
    assert math.isfinite(learner.backward(others, poisoned(model))["loss"])


def test_only_some_skipped_batches_are_kept(folders: dict[str, str], tmp_path: Path) -> None:
    model = load_policy(folders["llama"])
    learner = learner_of(model, skipped=tmp_path, skip_at_most=100)
    for _ in range(KEPT + 2):
        take_step(learner, model, math.nan)
    assert len(list(tmp_path.iterdir())) == KEPT


def out_of_memory_above(rows: int, model: torch.nn.Module, seen: list[int]) -> Objective:
    """An objective for which a device has memory for so many rows; it runs out after the backward pass."""
    good = sft_objective(model)

    def objective(batch: MicroBatch, counts: Counts) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        loss, metrics = good(batch, counts)
        if len(batch.ids_BT) > rows:
            loss.backward(retain_graph=True)  # half of a pass leaves its mark on the gradient
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(len(batch.ids_BT))
        return loss, metrics

    return objective


def test_out_of_memory_halves_the_tokens_and_not_the_gradient(folders: dict[str, str]) -> None:
    model, other = load_policy(folders["llama"]), load_policy(folders["llama"])
    said: list[str] = []
    learner, whole = learner_of(model, tokens=1000, say=said.append), learner_of(other, tokens=1000)
    counts, seen = count((*EXAMPLES, *EXAMPLES)), []
    expected = [whole.backward(EXAMPLES, sft_objective(other), counts=counts) for _ in range(2)]
    first = learner.backward(EXAMPLES, sft_objective(model), counts=counts)
    second = learner.backward(EXAMPLES, out_of_memory_above(2, model, seen), counts=counts)
    assert [first, second] == [pytest.approx(one, abs=1e-6) for one in expected]
    assert_close(gradients(model), gradients(other))
    assert max(seen) == 2
    assert learner.budget.amount < 1000
    assert said[-1].startswith(f"  out of memory: from here on at most {learner.budget.amount} tokens")
    halvings = len(said)
    learner.step()
    learner.backward(EXAMPLES, out_of_memory_above(2, model, seen))
    assert len(said) == halvings, "it lasts"
    resumed = learner_of(model, tokens=1000)
    resumed.load_state(learner.state(), learner.facts())
    assert resumed.budget.amount == learner.budget.amount


def test_a_row_that_does_not_fit_by_itself_is_said(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    learner = learner_of(model)
    with pytest.raises(UserError, match="out of memory even with"):
        learner.backward(EXAMPLES, out_of_memory_above(0, model, []))


def test_other_errors_are_not_taken_for_memory(folders: dict[str, str]) -> None:
    def objective(batch: MicroBatch, counts: Counts) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        learner_of(load_policy(folders["llama"])).backward(EXAMPLES, objective)


def test_each_group_is_clipped_by_itself() -> None:
    one, two = torch.nn.Linear(3, 1, bias=False), torch.nn.Linear(3, 1, bias=False)
    learner = learner_of(one, two, lr=1.0, clip_grad=0.5)
    taken: dict[str, torch.Tensor] = {}
    step = learner.optimizer.step
    learner.optimizer.step = lambda: taken.update(gradients(one, two)) or step()  # type: ignore[method-assign]
    one.weight.grad, two.weight.grad = torch.tensor([[30.0, 40.0, 0.0]]), torch.tensor([[0.03, 0.0, 0.04]])
    metrics = learner.step()
    assert metrics["optimizer/grad_norm_a"] == pytest.approx(50.0), "reported as it was before clipping"
    assert metrics["optimizer/grad_norm_b"] == pytest.approx(0.05)
    assert torch.allclose(taken["0.weight"], torch.tensor([[0.3, 0.4, 0.0]]), atol=1e-4)
    assert torch.equal(taken["1.weight"], torch.tensor([[0.03, 0.0, 0.04]]))


def test_clipping_can_be_off() -> None:
    one = torch.nn.Linear(3, 1, bias=False)
    learner = learner_of(one, clip_grad=0.0)
    given = torch.tensor([[30.0, 40.0, 0.0]])
    one.weight.grad = given.clone()
    seen = []
    step = learner.optimizer.step
    learner.optimizer.step = lambda: seen.append(one.weight.grad.clone()) or step()  # type: ignore[method-assign]
    learner.step()
    assert torch.equal(seen[0], given)


def test_schedules() -> None:
    def factors(total: int, **given: object) -> list[float]:
        return [schedule_factor(OptimizerConfig(**given), step, total) for step in range(total)]

    assert factors(4, schedule="constant") == [1.0] * 4
    assert factors(4, schedule="linear") == [1.0, 0.75, 0.5, 0.25]
    assert factors(4, schedule="cosine") == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert factors(7, schedule="linear", warmup=3) == [0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25]
    assert factors(2, schedule="linear", warmup=5) == pytest.approx([1 / 6, 2 / 6])
    for schedule in ("constant", "linear", "cosine"):
        for warmup in (0, 3):
            assert all(0 < factor <= 1 for factor in factors(20, schedule=schedule, warmup=warmup))


def test_the_learning_rate_of_a_step_is_scheduled_and_reported() -> None:
    one, two = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    groups = [Group("a", one, 0.1), Group("b", two, 0.01)]
    config = OptimizerConfig(schedule="linear")
    learner = Learner(groups, config, total_steps=4, tokens=100, pad_id=PAD, machine=MACHINE)
    rates = []
    for _ in range(4):
        before = (float(one.weight.detach()), float(two.weight.detach()))
        one.weight.grad, two.weight.grad = torch.ones(1, 1), torch.ones(1, 1)
        metrics = learner.step()
        rates.append((metrics["optimizer/lr_a"], metrics["optimizer/lr_b"]))
        # Adam moves by the learning rate where the gradient stays the same.
        assert before[0] - float(one.weight.detach()) == pytest.approx(rates[-1][0], rel=1e-3)
        assert before[1] - float(two.weight.detach()) == pytest.approx(rates[-1][1], rel=1e-3)
    assert rates == [pytest.approx((0.1 * f, 0.01 * f)) for f in (1.0, 0.75, 0.5, 0.25)]


def test_a_discarded_gradient_leaves_no_trace(folders: dict[str, str]) -> None:
    one, two = load_policy(folders["llama"]), load_policy(folders["llama"])
    learners = learner_of(one), learner_of(two)
    learners[0].backward(EXAMPLES[:2], sft_objective(one))
    learners[0].discard()
    assert learners[0].steps == 0
    for learner, model in zip(learners, (one, two), strict=True):
        take_step(learner, model)
    assert same(weights(one), weights(two))


@pytest.mark.parametrize("adapter", [None, ADAPTER])
def test_a_learner_goes_on_from_its_state(adapter: object, folders: dict[str, str], tmp_path: Path) -> None:
    def fresh() -> tuple[torch.nn.Module, Learner]:
        model = load_policy(folders["llama"])
        model = add_adapter(model, adapter, 0) if adapter else model
        return model, learner_of(model, total=6, schedule="cosine", weight_decay=0.1)

    model, learner = fresh()
    for _ in range(2):
        take_step(learner, model)
    save_checkpoint(tmp_path / "state", Checkpoint(learner.state(), learner.facts()))
    untied = sum(p.requires_grad for p in model.parameters())
    assert len(learner.state()) == 4 * untied, (
        "weights, two moments and a step count, of trained parameters only"
    )
    for _ in range(3):
        take_step(learner, model)
    other, resumed = fresh()
    found = load_checkpoint(tmp_path / "state")
    assert found is not None
    resumed.load_state(found.tensors, found.facts)
    assert resumed.steps == 2
    for _ in range(3):
        take_step(resumed, other)
    assert same(weights(other), weights(model))
    assert same(resumed.state(), learner.state())


def test_a_state_before_the_first_step_has_no_moments(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    learner = learner_of(model)
    state, facts = {name: tensor.clone() for name, tensor in learner.state().items()}, learner.facts()
    assert all(name.startswith("weights/") for name in state)
    take_step(learner, model)
    fresh = learner_of(model)
    fresh.load_state(state, facts)
    assert same(weights(model), weights(load_policy(folders["llama"])))
    assert fresh.steps == 0


def test_steps_of_a_fit_follow_from_epochs_unless_given() -> None:
    assert FitConfig(batch=4, epochs=2).total_steps(10) == 5
    assert FitConfig(batch=4, epochs=0.01).total_steps(10) == 1
    assert FitConfig(batch=4, epochs=2, steps=3).total_steps(10) == 3


@pytest.mark.parametrize("minibatches", [3, 16])
def test_minibatches_that_do_not_divide_the_batch_are_refused(minibatches: int) -> None:
    with pytest.raises(ValueError, match="divisor"):
        PPOConfig(batch=8, minibatches=minibatches)
    assert PPOConfig(batch=8, minibatches=4).minibatches == 4


@pytest.mark.parametrize("calls", [1, 3])
def test_every_micro_batch_adds_to_the_gradient(calls: int, folders: dict[str, str]) -> None:
    """accumulation_keeps_all_gradients: https://github.com/allenai/open-instruct/issues/1498

    Each example is a micro-batch of its own, in one call or in several before the step: the gradient that the
    optimiser sees is the sum of theirs, and not that of the last one.
    """
    model, counts = load_policy(folders["llama"]), count(EXAMPLES)
    expected: dict[str, torch.Tensor] = {}
    for example in EXAMPLES:
        model.zero_grad(set_to_none=True)
        (batch,) = micro_batches([example], 10_000, PAD)
        loss, _ = sft_objective(model)(batch, counts)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, gradient in gradients(model).items():
            expected[name] = expected.get(name, torch.zeros(())) + gradient
    model.zero_grad(set_to_none=True)
    learner, seen = learner_of(model, tokens=1, clip_grad=0.0), {}
    step = learner.optimizer.step
    learner.optimizer.step = lambda: seen.update(gradients(model)) or step()  # type: ignore[method-assign]
    size = len(EXAMPLES) // calls
    for first in range(0, len(EXAMPLES), size):
        learner.backward(EXAMPLES[first : first + size], sft_objective(model), counts=counts)
    learner.step()
    assert_close(seen, expected)
