"""Rollouts that outlive a crash: the same question to the same weights is answered from the file, and no other one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from concordant.models.load import load_policy
from concordant.rollout.inline import InlineSampler
from concordant.rollout.kept import KeptRollouts, load_rollout, save_rollout, state_of
from concordant.rollout.rollout import Rollout
from tinies import disturb, random_prompts, sampler_of

PROMPTS = random_prompts(6)


class Counting(KeptRollouts):
    """Counts how often anything was sampled."""

    def __init__(self, sampler: InlineSampler, folder: Path, **given: Any) -> None:
        super().__init__(sampler, folder, **({"worth": 0.0} | given))
        self.sampled = 0
        inner = sampler.sample

        def sample(*asked: Any, **named: Any) -> Rollout:
            self.sampled += 1
            return inner(*asked, **named)

        sampler.sample = sample  # type: ignore[method-assign]


@pytest.fixture
def model(folders: dict[str, str]) -> Any:
    return load_policy(folders["llama"])


def test_another_process_finds_what_was_sampled(model: Any, tmp_path: Path) -> None:
    first = Counting(sampler_of(model), tmp_path).sample(PROMPTS, samples=3, seed=1)
    second = Counting(sampler_of(model), tmp_path)
    assert second.sample(PROMPTS, samples=3, seed=1) == first
    assert second.sampled == 0


def test_it_is_what_the_sampler_gives(model: Any, tmp_path: Path) -> None:
    kept = Counting(sampler_of(model, temperature=0.7), tmp_path)
    expected = sampler_of(model, temperature=0.7).sample(PROMPTS, seed=1)
    assert kept.sample(PROMPTS, seed=1) == expected
    assert kept.sample(PROMPTS, seed=1) == expected
    assert (kept.sampled, kept.temperature) == (1, 0.7)


@pytest.mark.parametrize("what", ["seed", "prompts", "samples", "temperature", "limit", "slots", "weights"])
def test_anything_that_a_rollout_depends_on_makes_another_one(what: str, model: Any, tmp_path: Path) -> None:
    Counting(sampler_of(model), tmp_path).sample(PROMPTS, samples=2, seed=1)
    changed: dict[str, Any] = {"temperature": 0.5, "limit": 7, "slots": 5}
    other = Counting(sampler_of(model, **({what: changed[what]} if what in changed else {})), tmp_path)
    if what == "weights":
        with torch.no_grad():
            next(model.parameters())[0, 0] += 1e-3  # the least that an optimiser step does
    prompts = PROMPTS[::-1] if what == "prompts" else PROMPTS
    other.sample(prompts, samples=3 if what == "samples" else 2, seed=2 if what == "seed" else 1)
    assert other.sampled == 1


def test_one_trained_parameter_is_enough_to_tell(model: Any) -> None:
    before = state_of(model)
    assert state_of(model) == before
    disturb(model)
    assert state_of(model) != before


def test_only_so_many_stay(model: Any, tmp_path: Path) -> None:
    kept = Counting(sampler_of(model), tmp_path, most=2)
    for seed in range(4):
        kept.sample(PROMPTS, seed=seed)
    assert len(list(tmp_path.iterdir())) == 2
    for seed in (2, 3):
        kept.sample(PROMPTS, seed=seed)
    assert kept.sampled == 4, "the newest ones"
    for most in (4, 6, None):
        many = Counting(sampler_of(model), tmp_path / str(most), most=most)
        for seed in range(4):
            many.sample(PROMPTS, seed=seed)
        assert len(list((tmp_path / str(most)).iterdir())) == 4


def test_a_clock_that_was_set_back_does_not_cost_the_newest(model: Any, tmp_path: Path) -> None:
    kept = Counting(sampler_of(model), tmp_path)
    kept.sample(PROMPTS, seed=0)
    (first,) = tmp_path.iterdir()
    os.utime(first, (time.time() + 3600,) * 2)
    for _ in range(2):
        kept.sample(PROMPTS, seed=1)
    assert kept.sampled == 2


def test_what_is_fast_is_not_worth_a_file(model: Any, tmp_path: Path) -> None:
    Counting(sampler_of(model), tmp_path, worth=60.0).sample(PROMPTS, seed=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another"])
def test_a_damaged_file_is_as_good_as_none(damage: str, model: Any, tmp_path: Path) -> None:
    rollout = sampler_of(model).sample(PROMPTS, seed=0)
    file = tmp_path / "rollout.safetensors"
    save_rollout(file, rollout)
    assert load_rollout(file, PROMPTS) == rollout
    data = bytearray(file.read_bytes())
    if damage == "cut":
        data = data[:-5]
    elif damage == "flipped":
        data[-5] ^= 4
    else:
        data = bytearray(b"" if damage == "empty" else b"{}")
    file.write_bytes(data)
    assert load_rollout(file, PROMPTS) is None


def test_the_rows_that_memory_has_room_for_are_part_of_a_checkpoint(model: Any, tmp_path: Path) -> None:
    sampler = sampler_of(model, slots=8)
    sampler.slots.amount = 4  # memory gave out
    other = KeptRollouts(sampler_of(model, slots=8), tmp_path)
    other.load_facts(KeptRollouts(sampler, tmp_path).facts())
    assert other.sample(PROMPTS, seed=0) == sampler_of(model, slots=4).sample(PROMPTS, seed=0)
