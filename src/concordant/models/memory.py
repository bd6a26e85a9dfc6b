"""Memory that is not there: work that is cut into passes goes on with smaller ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from concordant.errors import UserError

Result = TypeVar("Result")

# PyTorch says in words alone that the machine itself, a library of the device or its driver had no memory left.
_WORDS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine itself, had no memory left."""
    told = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return told or any(words in str(error) for words in _WORDS)


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn memory that gives out where no smaller pass is a help, as in an optimiser's step, into one clear message."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory in {what}, outside of what can be cut into smaller passes",
            where="the device of this run, see machine.device",
            expected="room for weights, gradients and optimiser, and on the machine for the copy of a checkpoint",
            fix="train an adapter (model.adapter), end what else takes memory, or use a device with more of it; "
            "the same command goes on from the last checkpoint",
        ) from error


class Budget:
    """The most of something in one pass, such as tokens or rows: it sets memory, not the result.

    `say` hears of it when the budget is halved, which lasts.
    """

    def __init__(self, amount: int, unit: str, say: Callable[[str], None] | None = None) -> None:
        self.amount = amount
        self.unit = unit
        self.say = say

    def run(self, work: Callable[[int], Result], *, least: int = 1) -> Result:
        """What `work` gives for the budget: with half of it, and so on, each time that memory gives out.

        `work` may be called several times and has to begin anew. Passes below `least` would be no smaller: there
        a `UserError` says what else saves memory.
        """
        while (result := self._attempt(work, least)) is None:
            # Here the error and the tensors that its traceback held are gone.
            self.amount //= 2
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()
            if self.say is not None:
                self.say(f"  out of memory: from here on at most {self.amount:,} {self.unit} in one pass")
        return result[0]

    def _attempt(self, work: Callable[[int], Result], least: int) -> tuple[Result] | None:
        try:
            return (work(self.amount),)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.amount <= least:
                raise UserError(
                    f"out of memory even with {self.amount:,} {self.unit} in one pass",
                    where="the device of this run, see machine.device",
                    expected="room for the longest row by itself beside weights, gradients and optimiser",
                    fix="set a smaller model.length or completion, train an adapter (model.adapter), "
                    "or use a device with more memory",
                ) from error
            return None
