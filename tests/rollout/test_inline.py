"""The inline sampler against transformers: same tokens, same log-probabilities, whatever rows come and go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from concordant.models.load import add_adapter, load_policy
from concordant.rollout.rollout import Rollout, Sample
from tinies import (
    ADAPTER,
    KINDS,
    MACHINE,
    PAD,
    STOPS,
    VOCAB,
    disturb,
    plain_logprobs,
    random_prompts,
    sampler_of,
)


def completions(rollout: Rollout) -> list[tuple[int, ...]]:
    return [sample.completion for sample in rollout.samples]


def passes(model: Any) -> list[tuple[int, int]]:
    """Rows and columns of every forward pass of `model` from now on."""
    seen: list[tuple[int, int]] = []

    def note(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        seen.append(tuple(given["input_ids"].shape))

    model.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def greedy_by_transformers(model: Any, prompts: list[tuple[int, ...]], limit: int) -> list[tuple[int, ...]]:
    """transformers' own generation on a left-padded batch, cut after the first stop token."""
    width = max(map(len, prompts))
    ids = torch.tensor([(PAD,) * (width - len(p)) + p for p in prompts])
    out = model.generate(
        input_ids=ids,
        attention_mask=(ids != PAD).long(),
        do_sample=False,
        max_new_tokens=limit,
        eos_token_id=list(STOPS),
        pad_token_id=PAD,
    )
    return [cut(row) for row in out[:, width:].tolist()]


def cut(tokens: list[int]) -> tuple[int, ...]:
    end = next((t + 1 for t, token in enumerate(tokens) if token in STOPS), len(tokens))
    return tuple(tokens[:end])


@pytest.mark.parametrize("slots", [2, 5, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_completions_are_those_of_transformers(kind: str, slots: int, folders: dict[str, str]) -> None:
    """Prompts of different lengths; few slots mean that rows leave and others join in between.

    left_right_padding_equal_logits: https://github.com/OpenRLHF/OpenRLHF/issues/217,
    https://github.com/CarperAI/trlx/issues/418
    """
    model, prompts = load_policy(folders[kind]), random_prompts(14)
    expected = greedy_by_transformers(model, prompts, 12)
    rollout = sampler_of(model, greedy=True, limit=12, slots=slots).sample(prompts, seed=0)
    assert completions(rollout) == expected
    assert len({len(completion) for completion in expected}) > 2, "rows have to end at different times"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_logprobs_are_those_of_a_fresh_pass(
    kind: str, temperature: float, folders: dict[str, str]
) -> None:
    """logprobs_use_sampling_temperature: https://github.com/NVIDIA-NeMo/RL/issues/316"""
    model, prompts = load_policy(folders[kind]), random_prompts(20)
    for slots, samples in ((64, 1), (5, 1), (7, 3)):
        sampler = sampler_of(model, temperature=temperature, slots=slots, limit=12)
        rollout = sampler.sample(prompts, samples=samples, seed=1)
        assert rollout.temperature == temperature
        for sample in rollout.samples:
            expected = plain_logprobs(model, sample.row, temperature)
            assert torch.allclose(torch.tensor(sample.logprobs), expected, atol=1e-5, rtol=0)


def test_an_adapter_takes_part_in_sampling(folders: dict[str, str]) -> None:
    """weight_fingerprint_matches_after_sync: https://github.com/verl-project/verl/issues/7495,
    https://github.com/NovaSky-AI/SkyRL/issues/1737
    lora_adapter_sync_not_bf16_merge: https://github.com/NVIDIA-NeMo/RL/issues/3696,
    https://github.com/huggingface/trl/issues/6688
    """
    policy = add_adapter(load_policy(folders["llama"]), ADAPTER, 0)
    disturb(policy, seed=3)
    rollout = sampler_of(policy, slots=4).sample(random_prompts(10), seed=1)
    for sample in rollout.samples:
        given = torch.tensor(sample.logprobs)
        assert torch.allclose(given, plain_logprobs(policy, sample.row), atol=1e-5, rtol=0)
    with policy.disable_adapter():
        assert not torch.allclose(given, plain_logprobs(policy, rollout.samples[-1].row), atol=1e-2)


def well_formed(sample: Sample, limit: int) -> bool:
    *before, last = sample.completion
    ends_well = sample.ended == (last in STOPS) and (sample.ended or len(sample.completion) == limit)
    return (
        ends_well and not set(before) & set(STOPS) and len(sample.logprobs) == len(sample.completion) <= limit
    )


@pytest.mark.parametrize(("slots", "samples"), [(64, 1), (64, 3), (5, 2), (3, 4), (1, 1), (1, 3)])
def test_completions_stop_at_a_stop_token_or_at_the_limit(
    slots: int, samples: int, folders: dict[str, str]
) -> None:
    """missing_eos_looks_at_completion_and_stop_ids: https://github.com/huggingface/trl/issues/5338"""
    prompts = [
        (*prompt, STOPS[0]) for prompt in random_prompts(15)
    ]  # a stop token in the prompt is none of ours
    model = load_policy(folders["llama"])
    rollout = sampler_of(model, slots=slots).sample(prompts, samples=samples, seed=2)
    assert [sample.prompt for sample in rollout.samples] == [i for i in range(15) for _ in range(samples)]
    assert [sample.prompt_ids for sample in rollout.samples] == [p for p in prompts for _ in range(samples)]
    assert all(well_formed(sample, 8) for sample in rollout.samples)
    assert {sample.ended for sample in rollout.samples} == {True, False}
    assert rollout.tokens == sum(len(sample.completion) for sample in rollout.samples)


@pytest.mark.parametrize(("slots", "samples"), [(64, 2), (10, 3), (3, 4), (8, 1), (1, 1), (1, 3)])
def test_slots_are_the_most_rows_in_one_pass(slots: int, samples: int, folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    seen = passes(model)
    sampler_of(model, slots=slots).sample(random_prompts(15), samples=samples, seed=2)
    assert max(rows for rows, _ in seen) <= slots
    assert max(rows for rows, _ in seen) >= 0.7 * min(slots, 15 * samples)


def test_free_slots_are_filled_before_the_batch_runs_dry(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    seen = passes(model)
    rollout = sampler_of(model, slots=8, limit=20).sample(random_prompts(60), seed=2)
    steps = sum(len(completion) for completion in completions(rollout))
    one_after_another = sum(
        max(len(c) for c in completions(rollout)[k : k + 8]) for k in range(0, 60, 8)
    )  # passes that full batches would take, each as long as its longest row
    assert len(seen) < one_after_another + 60 / 4
    assert steps / len(seen) > 4, "at least half of the slots are busy on average"


def test_a_prompt_is_prefilled_once_for_all_its_samples(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    seen = passes(model)
    prompts = [(5, 6, 7), (8, 9), (10, 11, 12, 13)]
    rollout = sampler_of(model, limit=12).sample(prompts, samples=6, seed=0)
    assert seen[0] == (3, 4)
    assert all(columns == 1 for _, columns in seen[1:])
    for k in range(3):
        assert len(set(completions(rollout)[6 * k : 6 * k + 6])) > 1, "samples of one prompt are independent"


def test_the_same_seed_gives_the_same_completions(folders: dict[str, str]) -> None:
    """seeds_differ_per_rank_and_sample: https://github.com/CarperAI/trlx/issues/141"""
    sampler, prompts = sampler_of(load_policy(folders["llama"]), slots=6), random_prompts(12)
    torch.manual_seed(0)
    one = sampler.sample(prompts, samples=2, seed=5)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    assert sampler.sample(prompts, samples=2, seed=5) == one
    assert torch.equal(torch.random.get_rng_state(), before), "nobody else's generator is touched"
    assert completions(sampler.sample(prompts, samples=2, seed=6)) != completions(one)
    alike = sampler.sample([(5, 6, 7)] * 12, seed=5)
    assert len(set(completions(alike))) > 6, "equal prompts are sampled independently of each other"


def test_the_sampler_sees_the_weights_of_the_moment(folders: dict[str, str]) -> None:
    """weight_fingerprint_matches_after_sync: https://github.com/verl-project/verl/issues/7495,
    https://github.com/NovaSky-AI/SkyRL/issues/1737
    """
    model, prompts = load_policy(folders["llama"]), random_prompts(3)
    sampler = sampler_of(model)
    before = sampler.sample(prompts, seed=0)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    after = sampler.sample(prompts, seed=0)
    assert before != after
    for sample in after.samples:
        assert torch.allclose(torch.tensor(sample.logprobs), plain_logprobs(model, sample.row), atol=1e-5)


def test_no_prompts_and_no_stop_tokens_are_fine(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    assert sampler_of(model).sample([], seed=0).samples == ()
    endless = sampler_of(model, stop_ids=(), limit=5).sample(random_prompts(4), seed=0)
    assert {len(sample.completion) for sample in endless.samples} == {5}
    assert not any(sample.ended for sample in endless.samples)


def chi_square(counts: torch.Tensor, probabilities: torch.Tensor) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom, cells of fewer than ten expected draws put together."""
    expected = probabilities.double() * counts.sum()
    rare = expected < 10
    pooled = torch.stack([counts.double(), expected])
    cells = torch.cat([pooled[:, ~rare], pooled[:, rare].sum(1, keepdim=True)], 1)
    return float(((cells[0] - cells[1]) ** 2 / cells[1].clamp(min=1e-9)).sum()), cells.shape[1] - 1


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.8])
def test_tokens_are_drawn_with_their_probabilities(temperature: float, folders: dict[str, str]) -> None:
    """truncated_sampling_refused_or_rescored: https://github.com/huggingface/trl/issues/6789"""
    model, prompt = load_policy(folders["llama"]), (5, 17, 9)
    sampler = sampler_of(model, temperature=temperature, limit=1, slots=20_000)
    drawn = Counter(c[0] for c in completions(sampler.sample([prompt], samples=20_000, seed=11)))
    counts = torch.tensor([drawn[token] for token in range(VOCAB)])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    statistic, freedom = chi_square(counts, (logits / temperature).softmax(-1))
    assert freedom > 8
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5  # four deviations: p below one in ten thousand
    wrong, freedom = chi_square(counts, (logits / (1.25 * temperature)).softmax(-1))
    assert wrong > 2 * (freedom + 4 * (2 * freedom) ** 0.5), "the test can tell temperatures apart"


def test_a_real_model_tells_its_story(shared_data: Path) -> None:
    """Greedy text of a pretrained Llama, from several prompts at once, as its authors and transformers print it."""
    from transformers import AutoTokenizer

    folder = shared_data / "stories260K"
    model, tokenizer = load_policy(str(folder)), AutoTokenizer.from_pretrained(folder)
    starts = ["Once upon a time", "Lily", "One day, a big dog saw a"]
    prompts = [tuple(tokenizer(text).input_ids) for text in starts]
    rollout = sampler_of(model, stop_ids=(1, 2), limit=75, greedy=True, slots=2).sample(prompts, seed=0)
    told = tokenizer.decode(prompts[0] + rollout.samples[0].completion, skip_special_tokens=True)
    expected = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    expected += "One day, she saw a big, red ball. She wanted to play with it, but it was too high."
    assert told.strip().startswith(expected)
    for prompt, sample in zip(prompts, rollout.samples, strict=True):
        out = model.generate(
            input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=75, eos_token_id=[1, 2]
        )
        assert sample.completion == tuple(out[0, len(prompt) :].tolist())


def test_the_story_ends_with_its_stop_token(shared_data: Path) -> None:
    folder = shared_data / "stories260K"
    model = load_policy(str(folder))
    rollout = sampler_of(model, stop_ids=(1, 2), limit=400).sample([(1, 403)], samples=4, seed=0)
    assert any(sample.ended for sample in rollout.samples)
    for sample in rollout.samples:
        assert sample.ended == (sample.completion[-1] in (1, 2))
        assert not {1, 2} & set(sample.completion[:-1])


def test_nothing_cuts_the_distribution(folders: dict[str, str]) -> None:
    """truncated_sampling_refused_or_rescored: https://github.com/huggingface/trl/issues/6789

    The sampler has no setting for it, and does not follow the generation settings a model brings along: tokens
    are drawn from, and scored under, the whole softmax.
    """
    model, prompts = load_policy(folders["llama"]), random_prompts(6)
    expected = sampler_of(model).sample(prompts, samples=4, seed=3)
    for setting in ({"top_k": 1}, {"top_p": 0.1}, {"min_p": 0.9}, {"repetition_penalty": 5.0}):
        with pytest.raises(TypeError, match=next(iter(setting))):
            sampler_of(model, **setting)
        model.generation_config.update(do_sample=True, temperature=0.3, **setting)
        assert sampler_of(model).sample(prompts, samples=4, seed=3) == expected
    drawn = [token for sample in expected.samples for token in sample.completion]
    assert len(set(drawn)) > 15, "far more than a few likely tokens"


def test_logprobs_are_fp32_whatever_the_logits_are(folders: dict[str, str]) -> None:
    """logprob_of_sampled_token_fp32: https://github.com/NVIDIA-NeMo/RL/issues/3297, https://github.com/THUDM/slime/issues/245

    Of the token that was drawn, from logits in bfloat16, without being rounded to three digits themselves.
    """
    model, seen = load_policy(folders["llama"]), []
    model.register_forward_hook(lambda _module, _given, out: seen.append(out.logits))
    machine = replace(MACHINE, precision=torch.bfloat16)
    sampler = sampler_of(model, machine=machine, temperature=0.7, limit=1)
    rollout = sampler.sample([(5, 17, 9)], samples=40, seed=0)
    (logits,) = seen
    assert logits.dtype == torch.bfloat16
    expected = (logits[0, -1].float() / 0.7).log_softmax(-1)
    given = torch.tensor([sample.logprobs[0] for sample in rollout.samples])
    tokens = [sample.completion[0] for sample in rollout.samples]
    assert torch.allclose(given, expected[tokens], atol=1e-6)
    assert not torch.allclose(given, given.bfloat16().float(), atol=1e-4)


def test_no_cache_outlives_an_update(folders: dict[str, str]) -> None:
    """prefix_cache_reset_on_update: https://github.com/PrimeIntellect-ai/prime-rl/issues/1650"""
    model, prompts = load_policy(folders["llama"]), random_prompts(5)
    sampler = sampler_of(model)
    sampler.sample(prompts, samples=2, seed=0)
    disturb(model)
    for sample in sampler.sample(prompts, samples=2, seed=0).samples:
        assert torch.allclose(torch.tensor(sample.logprobs), plain_logprobs(model, sample.row), atol=1e-4)


def test_out_of_memory_halves_the_rows_and_samples_anew(folders: dict[str, str]) -> None:
    model = load_policy(folders["llama"])
    expected = sampler_of(model, slots=4).sample(random_prompts(12), seed=1)
    said: list[str] = []
    sampler = sampler_of(model, slots=8, say=said.append)
    sizes: list[int] = []

    def full(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        sizes.append(len(given["input_ids"]))
        if sizes[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = model.register_forward_pre_hook(full, with_kwargs=True)
    assert sampler.sample(random_prompts(12), seed=1) == expected
    assert said == ["  out of memory: from here on at most 4 rows in one pass"]
    hook.remove()


def test_sampling_can_be_stopped_between_two_tokens(folders: dict[str, str]) -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    sampler = sampler_of(load_policy(folders["llama"]), stop_ids=(), check=check)
    with pytest.raises(InterruptedError):
        sampler.sample(random_prompts(4), seed=0)
    assert len(calls) == 3
