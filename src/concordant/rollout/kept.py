"""Rollouts that outlive a crash: what took long to sample is kept until it has been learnt from.

A file is named by all that a rollout depends on, the weights among it, so that a run which takes a step again finds
the rollout of that step and no other one.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from concordant.files import fresh_file, sha256_of
from concordant.rollout.inline import InlineSampler
from concordant.rollout.rollout import Rollout, Sample

WORTH = 5.0  # seconds of sampling that are worth a file; what is faster is sampled again
LOOKED_AT = 64  # leading weights of each parameter that tell one state of a model from another


class KeptRollouts:
    """A sampler that first looks whether `folder` has what it is asked for; at most `most` rollouts stay there."""

    def __init__(
        self, sampler: InlineSampler, folder: Path, *, most: int | None = 1, worth: float = WORTH
    ) -> None:
        self.sampler = sampler
        self.folder = folder
        self.most = most
        self.worth = worth

    @property
    def temperature(self) -> float:
        """See `Sampler`."""
        return self.sampler.temperature

    def sample(self, prompts: Sequence[tuple[int, ...]], *, samples: int = 1, seed: int) -> Rollout:
        """See `Sampler`."""
        file = self.folder / f"{self._key(prompts, samples, seed)}.safetensors"
        found = load_rollout(file, prompts)
        if found is not None:
            return found
        begin = time.perf_counter()
        rollout = self.sampler.sample(prompts, samples=samples, seed=seed)
        if time.perf_counter() - begin >= self.worth:
            save_rollout(file, rollout)
            self._make_room_beside(file)
        return rollout

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds: how many rows memory had room for, on which samples depend."""
        return {"slots": self.sampler.slots.amount}

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Go on from what `facts()` gave."""
        self.sampler.slots.amount = int(facts["slots"])

    def _key(self, prompts: Sequence[tuple[int, ...]], samples: int, seed: int) -> str:
        sampler = self.sampler
        given = [list(prompts), samples, seed, sampler.temperature, sampler.limit, sampler.slots.amount]
        return sha256_of([given, sampler.greedy, sampler.stop_ids.tolist(), state_of(sampler.model)])[:32]

    def _make_room_beside(self, newest: Path) -> None:
        """Remove the oldest rollouts; whatever the clock says, the one that was just sampled stays."""
        if self.most is None:
            return
        others = [file for file in self.folder.glob("*.safetensors") if file != newest]
        others.sort(key=lambda file: file.stat().st_mtime_ns)
        for file in others[: max(0, len(others) + 1 - self.most)]:
            file.unlink(missing_ok=True)


def state_of(model: nn.Module) -> str:
    """A digest that every optimiser step changes: of the first weights of each parameter."""
    leading = [parameter.detach().flatten()[:LOOKED_AT].float() for parameter in model.parameters()]
    return hashlib.sha256(torch.cat(leading).cpu().numpy().tobytes()).hexdigest()


def save_rollout(file: Path, rollout: Rollout) -> None:
    """Write a rollout; the prompts are left out, as whoever reads it has them."""
    tensors = {
        "prompt": torch.tensor([sample.prompt for sample in rollout.samples]),
        "length": torch.tensor([len(sample.completion) for sample in rollout.samples]),
        "ended": torch.tensor([sample.ended for sample in rollout.samples]),
        "completions": torch.tensor([token for sample in rollout.samples for token in sample.completion]),
        "logprobs": torch.tensor([value for sample in rollout.samples for value in sample.logprobs]),
    }
    facts = {"sha256": _digest(tensors), "temperature": repr(rollout.temperature)}
    with fresh_file(file) as partial:
        save_file(tensors, partial, metadata=facts)


def load_rollout(file: Path, prompts: Sequence[tuple[int, ...]]) -> Rollout | None:
    """The rollout of these prompts in a file; None where there is none, or it is not what was written."""
    try:
        with safe_open(file, framework="pt") as opened:
            facts = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError):
        return None
    if facts is None or facts.get("sha256") != _digest(tensors):
        return None
    lengths = tensors["length"].tolist()
    rows = zip(
        tensors["prompt"].tolist(),
        tensors["completions"].split(lengths),
        tensors["logprobs"].split(lengths),
        tensors["ended"].tolist(),
        strict=True,
    )
    samples = (
        Sample(number, prompts[number], tuple(ids.tolist()), tuple(logprobs.tolist()), ended)
        for number, ids, logprobs, ended in rows
    )
    return Rollout(tuple(samples), float(facts["temperature"]))


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()
