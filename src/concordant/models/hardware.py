"""What this machine offers: device, precision and the number of threads, chosen by measurement."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from concordant.errors import UserError
from concordant.models.config import MachineConfig, check_device_name


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run computes, and why there."""

    device: torch.device
    precision: torch.dtype  # of matrix products; weights of a fully trained model and all losses stay fp32
    threads: int
    reason: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context of every forward pass, in the sampler and in the learner alike."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def __str__(self) -> str:
        precision = str(self.precision).removeprefix("torch.")
        return f"{self.device}, {precision}, {self.threads} threads ({self.reason})"


def _time_of(threads: int) -> float:
    """Best of several timings of a small training step on this many threads, in seconds."""
    torch.set_num_threads(threads)
    layer = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.SiLU(), torch.nn.Linear(256, 64))
    x = torch.randn(2048, 64)
    best = float("inf")
    for _ in range(8):
        begin = time.perf_counter()
        layer(x).square().sum().backward()
        best = min(best, time.perf_counter() - begin)
    return best


def choose_threads() -> tuple[int, str]:
    """Measure one thread against all cores: on a busy machine more threads can be many times slower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1:
        return 1, "one core"
    one, many = _time_of(1), _time_of(cores)
    threads = cores if many < 0.9 * one else 1
    return threads, f"measured: a step takes {one * 1e3:.1f} ms on 1 thread, {many * 1e3:.1f} ms on {cores}"


def _device(name: str) -> torch.device:
    """The device of this name, which has to be there."""
    check_device_name(name)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r} is not available",
            where="machine.device",
            expected=f"a CUDA device that PyTorch can use; it finds {torch.cuda.device_count()}",
            fix="set machine.device=cpu, or install a CUDA build of PyTorch",
        )
    return device


def probe(config: MachineConfig) -> Machine:
    """Choose and set up the device; what the recipe states is taken as it is."""
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = _device(name)
    if config.threads:
        threads, reason = config.threads, "as set"
    else:
        threads, reason = choose_threads()
    torch.set_num_threads(threads)
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return Machine(device, getattr(torch, precision), threads, reason)


def memory_mb(device: torch.device | None = None) -> dict[str, float]:
    """Peak memory since `forget_peak`, in MB: resident, and on the accelerator where there is one."""
    import resource

    peak = {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    with suppress(OSError, StopIteration):  # where the system tells it, the peak that can be forgotten
        lines = Path("/proc/self/status").read_text().splitlines()
        peak["rss"] = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    if device is not None and device.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak


def forget_peak() -> None:
    """Begin to measure peak memory anew, where the system lets us; elsewhere peaks are those of the process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
