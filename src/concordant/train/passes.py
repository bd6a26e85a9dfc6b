"""Reading many examples with a model that does not learn from them, as many at once as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from concordant.data.batches import Example, MicroBatch, micro_batches
from concordant.models.hardware import Machine
from concordant.models.memory import Budget


def in_passes(
    examples: Sequence[Example],
    read: Callable[[MicroBatch], None],
    *,
    tokens: Budget,
    pad_id: int,
    machine: Machine,
    packed: bool = False,
) -> None:
    """Give `read` all examples, cut into micro-batches on the machine's device, at the machine's precision.

    Where memory gives out they are cut anew, so `read` may see an example twice: it should write what it finds to
    the places of `index_B`. The caller decides about gradients.
    """

    def work(most: int) -> bool:
        for batch in micro_batches(examples, most, pad_id, packed=packed):
            with machine.autocast():
                read(batch.to(machine.device))
        return True

    if examples:
        tokens.run(work, least=min(example.length for example in examples))
