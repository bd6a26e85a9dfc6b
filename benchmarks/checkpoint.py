"""What a checkpoint costs training: `python benchmarks/checkpoint.py --million 25`.

A Llama of so many million parameters takes steps on one thread: without checkpoints, while one is written beside them,
and waiting for each as if there were no thread that writes. The stall is the copy alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from concordant.data.batches import Example, Row
from concordant.models.hardware import Machine
from concordant.train.checkpoint import Checkpoint, Checkpoints, CheckpointWriter
from concordant.train.config import OptimizerConfig
from concordant.train.learner import Group, Learner
from concordant.train.objectives.sft import sft_objective

VOCABULARY, LAYERS = 1_000, 8


def learner_of(parameters: float) -> tuple[LlamaForCausalLM, Learner]:
    """A model of about so many parameters, and what trains it."""
    width = (
        round((parameters / (LAYERS * 12)) ** 0.5 / 64) * 64
    )  # 4 matrices of attention, 3 of 8/3 the width
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // 64,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    machine = Machine(torch.device("cpu"), torch.float32, 1, "as set")
    groups, optimizer = [Group("model", model, 1e-4)], OptimizerConfig()
    return model, Learner(groups, optimizer, total_steps=10**6, tokens=4096, pad_id=0, machine=machine)


def main() -> None:
    """Time steps and checkpoints, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--million", type=float, default=25.0, help="parameters")
    parser.add_argument("--checkpoints", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, learner = learner_of(asked.million * 1e6)
    objective = sft_objective(model)
    batch = [Example((Row(tuple(range(1, 33)), tuple(range(33, 65))),))] * 8

    def step() -> float:
        begin = time.perf_counter()
        learner.backward(batch, objective)
        learner.step()
        return time.perf_counter() - begin

    step()  # moments are there from here on
    plain = [step() for _ in range(10)]
    stalls, beside, writes = [], [], []
    with tempfile.TemporaryDirectory() as name:
        with CheckpointWriter(Checkpoints(Path(name))) as writer:
            for number in range(asked.checkpoints):
                begin = time.perf_counter()
                writer.save(number, Checkpoint(learner.state(), learner.facts()))
                stalls.append(time.perf_counter() - begin)
                while writer.busy:
                    beside.append(step())
                writes.append(time.perf_counter() - begin - stalls[-1])
        waited = []
        for number in range(asked.checkpoints):
            begin = time.perf_counter()
            Checkpoints(Path(name) / "waited").add(
                number, Checkpoint(learner.state(), learner.facts()).copied()
            )
            waited.append(time.perf_counter() - begin)
    size = Checkpoint(learner.state(), {}).bytes / 1e6
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(
        f"{parameters:.1f} million parameters, {size:,.0f} MB a checkpoint, medians of {asked.checkpoints}\n"
    )
    print("| | seconds |\n|---|--:|")
    print(f"| a step | {median(plain):.3f} |")
    print(f"| a step while a checkpoint is written | {median(beside):.3f} |")
    print(f"| training waits for the copy | {median(stalls):.3f} |")
    print(f"| the checkpoint is whole after | {median(writes):.3f} |")
    print(f"| training would wait for the disk | {median(waited):.3f} |")


if __name__ == "__main__":
    main()
