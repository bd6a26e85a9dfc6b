"""Timing something for a bounded time, on as much as can be had in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from concordant.models.hardware import Machine
from concordant.pipeline.forecast.amounts import Range
from concordant.pipeline.forecast.lengths import mean

REPEATS = 5  # most times that are measured
GROWTH = 4  # from one size that is tried to the next
LEAST_SPREAD = 0.25  # of an estimate to either side, however even the measured times were


def timed(
    act: Callable[[int], object], whole: int, seconds: float, machine: Machine, *, unit: int = 1
) -> tuple[Range, int]:
    """Seconds of `act(n)`, and n: all of `whole`, or the multiple of `unit` that can be measured in the time.

    Begins with `unit`, which is measured however long it takes; where there is time for more, what counts is warm.
    """
    n = min(unit, whole)
    spent = _once(act, n, machine)
    if spent > seconds:
        return spread([spent]), n
    while n < whole and spent < seconds / 8:
        n = min(whole, n * GROWTH)
        spent = _once(act, n, machine)
    affordable = int(seconds / 2 / max(spent / n, 1e-9)) // unit * unit
    n = min(whole, max(n, affordable))
    times = [_once(act, n, machine)]
    while len(times) < REPEATS and sum(times) + times[-1] < seconds:
        times.append(_once(act, n, machine))
    return spread(times), n


def _once(act: Callable[[int], object], n: int, machine: Machine) -> float:
    begin = time.perf_counter()
    act(n)
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
    return time.perf_counter() - begin


def spread(times: Sequence[float]) -> Range:
    """The mean of what was measured, between the fastest and the slowest and never narrower than `LEAST_SPREAD`."""
    middle = mean(times)
    return Range(min(*times, middle * (1 - LEAST_SPREAD)), middle, max(*times, middle * (1 + LEAST_SPREAD)))
