"""The machine: what the recipe states is taken as it is, what cannot be is a message."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from concordant.errors import UserError
from concordant.models.config import MachineConfig
from concordant.models.hardware import choose_threads, memory_mb, probe


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_explicit_threads_are_taken() -> None:
    for threads in (2, 1):
        machine = probe(MachineConfig(device="cpu", threads=threads))
        assert machine.threads == torch.get_num_threads() == threads
        assert machine.reason == "as set"


def test_threads_are_measured_where_none_are_given() -> None:
    machine = probe(MachineConfig(device="cpu"))
    assert machine.threads == torch.get_num_threads() >= 1
    assert choose_threads()[0] >= 1


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuda:first", ""])
def test_a_device_that_is_not_there_is_a_user_error(device: str) -> None:
    with pytest.raises(UserError) as caught:
        probe(MachineConfig(device=device, threads=1))
    assert repr(device) in str(caught.value)
    assert caught.value.fix


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_on_a_machine_without_it_is_a_user_error() -> None:
    with pytest.raises(UserError, match="'cuda' is not available"):
        probe(MachineConfig(device="cuda", threads=1))


def test_the_precision_is_taken_as_stated() -> None:
    machine = probe(MachineConfig(device="cpu", threads=1, precision="bfloat16"))
    assert machine.precision == torch.bfloat16
    with machine.autocast():
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16
    machine = probe(MachineConfig(device="cpu", threads=1))
    assert machine.precision == torch.float32
    with machine.autocast():
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.float32
    assert str(machine) == "cpu, float32, 1 threads (as set)"


def test_memory_is_measured() -> None:
    assert memory_mb(torch.device("cpu")).keys() == {"rss"}
    assert 10 < memory_mb()["rss"] < 10**6
