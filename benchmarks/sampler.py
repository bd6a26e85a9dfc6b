"""Tokens per second of the inline sampler against transformers' `generate`, on one model, in one process.

    python benchmarks/sampler.py runs/demo/stages/02-sft/model [--samples 1 16]

Both sample the whole distribution at temperature 1 with the same stop token and limit; `generate` gets
batches of the size of our slots. The ratio is of medians over alternating repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from concordant.data.template import Template
from concordant.models.config import MachineConfig
from concordant.models.hardware import probe
from concordant.rollout.inline import InlineSampler
from concordant.worlds.world import make_world

SLOTS, LIMIT, REPEATS = 256, 24, 5


def timed(run: Callable[[], int]) -> float:
    """Sampled tokens per second."""
    begin = time.perf_counter()
    tokens = run()
    return tokens / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompts", type=int, default=1024)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 16])
    arguments = parser.parse_args()
    machine = probe(MachineConfig())
    model = AutoModelForCausalLM.from_pretrained(arguments.model).eval()
    template = Template(AutoTokenizer.from_pretrained(arguments.model, padding_side="left"))
    world = make_world("town", 0)
    print(f"computing on {machine}")
    for samples in arguments.samples:
        prompts = world.prompts(arguments.prompts // samples, rng=1)
        ids = [tuple(template.prompt_ids(p.messages)) for p in prompts]
        sampler = InlineSampler(
            model,
            stop_ids=template.stop_ids,
            pad_id=template.pad_id,
            limit=LIMIT,
            machine=machine,
            slots=SLOTS,
        )

        def ours(ids: list[tuple[int, ...]] = ids, sampler: InlineSampler = sampler, n: int = samples) -> int:
            return sampler.sample(ids, samples=n, seed=0).tokens

        @torch.inference_mode()
        def theirs(ids: list[tuple[int, ...]] = ids, n: int = samples) -> int:
            count = 0
            for begin in range(0, len(ids), max(1, SLOTS // n)):
                part = ids[begin : begin + max(1, SLOTS // n)]
                batch = template.tokenizer.pad({"input_ids": [list(p) for p in part]}, return_tensors="pt")
                output = model.generate(
                    **batch,
                    do_sample=True,
                    top_k=0,
                    num_return_sequences=n,
                    max_new_tokens=LIMIT,
                    eos_token_id=sorted(template.stop_ids),
                    pad_token_id=template.pad_id,
                )
                count += int((output[:, batch["input_ids"].shape[1] :] != template.pad_id).sum())
            return count

        rates: tuple[list[float], list[float]] = ([], [])
        for _ in range(REPEATS):
            rates[0].append(timed(ours))
            rates[1].append(timed(theirs))
        a, b = (statistics.median(r) for r in rates)
        print(
            f"{samples} samples a prompt: ours {a:,.0f} tokens/s (with log-probabilities), "
            f"generate {b:,.0f} (without), ratio {a / b:.2f}"
        )


if __name__ == "__main__":
    main()
