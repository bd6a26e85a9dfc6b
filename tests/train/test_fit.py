"""Learning from fixed data: it learns, and a resumed run is the uninterrupted one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import config_of, learner_of, ranking, single_examples

from concordant.data.batches import Example, Row, collate, micro_batches
from concordant.models.forward import completion_logits, sequence_scores
from concordant.models.load import add_adapter, load_policy, new_reward_model
from concordant.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from concordant.train.fit import always, fit, validated
from concordant.train.objectives.reward import reward_objective
from concordant.train.objectives.sft import sft_objective
from concordant.train.step import Step
from tinies import ADAPTER, PAD, plain_logprobs, random_prompts, same, sampler_of, weights


def test_sft_memorises_eight_rows(folders: dict[str, str]) -> None:
    """Down to saying them itself, stop token included, greedily."""
    model, rng = load_policy(folders["llama"]), random.Random(0)
    rows = [
        Row((*prompt, 5 + k), (*(rng.randrange(5, 40) for _ in range(rng.randint(2, 5))), 1))
        for k, prompt in enumerate(random_prompts(8, seed=3))
    ]
    learner = learner_of(model, lr=1e-2, tokens=100)
    examples = [Example((row,)) for row in rows]
    steps = list(fit(learner, examples, always(sft_objective(model)), config_of(60, 8), seed=0))
    assert steps[0].metrics["loss"] > 2
    assert steps[-1].metrics["loss"] < 0.05
    said = sampler_of(model, greedy=True).sample([row.prompt for row in rows], seed=0)
    assert [sample.completion for sample in said.samples] == [row.completion for row in rows]
    assert all(sample.ended for sample in said.samples)


def test_tokens_outside_the_mask_are_not_learnt(folders: dict[str, str]) -> None:
    """masked_tokens_not_in_mean: https://github.com/NovaSky-AI/SkyRL/issues/462"""
    model = load_policy(folders["llama"])
    rows = [Row((5, 6), (10, 11, 12, 1), (False, False, True, True))] * 4
    learner = learner_of(model, lr=1e-2)
    before = completion_logits(model, collate(rows, PAD))[0][0].log_softmax(-1).detach()
    last = list(
        fit(
            learner, [Example((row,)) for row in rows], always(sft_objective(model)), config_of(30, 4), seed=0
        )
    )[-1]
    after = completion_logits(model, collate(rows, PAD))[0][0].log_softmax(-1).detach()
    assert last.metrics["loss"] < 0.1
    assert (after[2, 12], after[3, 1]) > (torch.tensor(-0.2), torch.tensor(-0.2))
    assert after[0, 10] < before[0, 10] + 1
    assert after[1, 11] < before[1, 11] + 1


def shorter_wins(n: int, seed: int, k: int = 2) -> list[Example]:
    """Completions of one prompt with a single difference that matters: the shorter, the better."""
    rng = random.Random(seed)
    examples = []
    for prompt in random_prompts(n, seed):
        lengths = sorted(rng.sample(range(1, 9), k))
        rows = [Row((*prompt, 4), (*(rng.randrange(5, 40) for _ in range(m)), 1)) for m in lengths]
        examples.append(ranking(rows))
    return examples


@pytest.mark.parametrize("k", [2, 4])
def test_a_reward_model_learns_that_shorter_wins(k: int, folders: dict[str, str]) -> None:
    model = new_reward_model(folders["mild"], pad_id=PAD, seed=0)
    learner = learner_of(model, lr=4e-3, tokens=2000)
    objective = reward_objective(model, centering=0.01)
    config, unseen = config_of(40, 48 // k), shorter_wins(100, seed=1)
    fitting = fit(learner, shorter_wins(800, seed=0, k=k), always(objective), config, seed=0)
    steps = list(validated(fitting, learner, unseen, objective, config))
    assert steps[0].metrics["reward/accuracy"] < 0.8
    assert steps[-1].metrics["reward/accuracy"] > 0.9
    batch = collate([row for example in unseen for row in example.rows], PAD)
    scores = sequence_scores(model, batch).detach().reshape(-1, 2)
    assert float((scores[:, 0] > scores[:, 1]).float().mean()) > 0.9
    assert steps[-1].metrics["validation/accuracy"] == pytest.approx(
        float((scores[:, 0] > scores[:, 1]).float().mean())
    )


def test_equal_scores_are_half_right(folders: dict[str, str]) -> None:
    """A scorer that says the same of everything is right by chance, at a loss of ln 2."""
    model = new_reward_model(folders["llama"], pad_id=PAD, seed=0)
    torch.nn.init.zeros_(model.score.weight)
    metrics = learner_of(model).backward(shorter_wins(10, seed=0), reward_objective(model, centering=0.1))
    assert metrics["reward/accuracy"] == pytest.approx(0.5)
    assert metrics["loss"] == pytest.approx(0.693147, abs=1e-5)


def plain(step: Step) -> tuple[Any, ...]:
    return step.number, step.total, step.metrics, step.tokens


@pytest.mark.parametrize("stage", ["sft", "sft with an adapter", "reward"])
def test_a_resumed_fit_equals_the_uninterrupted_one(
    stage: str, folders: dict[str, str], tmp_path: Path
) -> None:
    """resume_equals_uninterrupted, bit for bit: https://github.com/verl-project/verl/issues/4156"""
    examples = shorter_wins(11, seed=0) if stage == "reward" else single_examples(11)
    config = config_of(9, 4, schedule="cosine", warmup=2, weight_decay=0.01)

    def fresh() -> tuple[Any, Any, Any]:
        if stage == "reward":
            model = new_reward_model(folders["qwen2"], pad_id=PAD, seed=0)
            objective = reward_objective(model, centering=0.01)
        else:
            model = load_policy(folders["qwen2"])
            model = add_adapter(model, ADAPTER, 0) if stage != "sft" else model
            objective = sft_objective(model)
        learner = learner_of(model, tokens=60, total=9, schedule="cosine", warmup=2, weight_decay=0.01)
        return model, learner, fit(learner, examples, always(objective), config, seed=4)

    model, learner, steps = fresh()
    full = list(steps)
    assert [step.number for step in full] == list(range(1, 10))
    for cut in (1, 4, 8):
        _, first, steps = fresh()
        for _ in range(cut):
            next(steps)
        save_checkpoint(tmp_path / "checkpoint", Checkpoint(first.state(), first.facts()))
        other, second, steps = fresh()
        found = load_checkpoint(tmp_path / "checkpoint")
        assert found is not None
        second.load_state(found.tensors, found.facts)
        assert [plain(step) for step in steps] == [plain(step) for step in full[cut:]]
        assert same(weights(other), weights(model))
        assert same(second.state(), learner.state())


def test_a_finished_fit_has_nothing_left_to_do(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    learner = learner_of(model)
    examples, config = single_examples(4), config_of(3, 2)
    assert len(list(fit(learner, examples, always(sft_objective(model)), config, seed=0))) == 3
    before = weights(model)
    assert list(fit(learner, examples, always(sft_objective(model)), config, seed=0)) == []
    assert same(weights(model), before)


def test_tokens_of_a_step_are_those_of_its_rows(folders: dict[str, str]) -> None:
    model, examples = load_policy(folders["llama"]), single_examples(6)
    step = next(fit(learner_of(model), examples, always(sft_objective(model)), config_of(1, 6), seed=0))
    assert step.tokens["train"] == sum(example.rows[0].length for example in examples)


def test_every_step_is_one_whole_batch_where_epochs_and_micro_batches_end_unevenly(
    folders: dict[str, str],
) -> None:
    """10 examples in batches of 4, with a last micro-batch that is half empty: every batch is full and takes one
    optimiser step, with the loss and the gradient norm of the batch as a whole.

    last_partial_accumulation_window: https://github.com/hiyouga/LLaMA-Factory/issues/10705
    """
    examples, config = single_examples(10), config_of(5, 4)
    seen = []
    for tokens in (30, 10_000):
        model = load_policy(folders["mild"])
        learner, batches = learner_of(model, lr=1e-4, tokens=tokens), []
        taken, step = [], learner.optimizer.step
        learner.optimizer.step = lambda taken=taken, step=step: taken.append(1) or step()  # type: ignore[method-assign]

        def objective_of(batch: Sequence[Example], model: Any = model, seen: Any = batches) -> Any:
            seen.append(batch)
            return sft_objective(model)

        steps = list(fit(learner, examples, objective_of, config, seed=0))
        assert [len(batch) for batch in batches] == [4] * 5
        assert len(taken) == len(steps) == 5
        drawn = [examples.index(example) for batch in batches for example in batch]
        assert sorted(drawn) == sorted([*range(10), *range(10)]), "two whole epochs"
        if tokens == 30:
            sizes = [[len(part.index_B) for part in micro_batches(batch, tokens, PAD)] for batch in batches]
            assert any(len(size) > 1 and size[-1] != size[0] for size in sizes)
        seen.append([[s.metrics[name] for s in steps] for name in ("loss", "optimizer/grad_norm_a")])
    assert seen[0][0] == pytest.approx(seen[1][0], rel=1e-4)
    assert seen[0][1] == pytest.approx(seen[1][1], rel=1e-3)


@pytest.mark.parametrize("tokens", [60, 100_000])
def test_what_was_kept_out_is_looked_at_and_not_learnt_from(tokens: int, folders: dict[str, str]) -> None:
    """Every so often and at the end, as it is after the step; the weights are those of a fit that nobody watched."""
    held_out = single_examples(5, seed=99)

    def run(looks: int) -> tuple[list[Step], Any]:
        model = load_policy(folders["llama"])
        learner = learner_of(model, lr=1e-2, tokens=tokens)
        objective = sft_objective(model)
        config = config_of(7, 8).model_copy(update={"validations": looks})
        steps = fit(learner, single_examples(20, seed=1), always(objective), config, seed=0)
        return list(validated(steps, learner, held_out, objective, config) if looks else steps), model

    watched, model = run(3)
    alone, other = run(0)
    assert same(weights(model), weights(other))
    looked = [step.number for step in watched if "validation/loss" in step.metrics]
    assert looked == [2, 4, 6, 7]
    assert not [step for step in alone if "validation/loss" in step.metrics]
    rows = [example.rows[0] for example in held_out]
    said = [plain_logprobs(model, row) for row in rows]
    nll = -sum(float(one.sum().detach()) for one in said) / sum(len(row.completion) for row in rows)
    assert watched[-1].metrics["validation/loss"] == pytest.approx(nll, rel=1e-5)
    assert watched[-1].tokens["validate"] == sum(row.length for row in rows)
