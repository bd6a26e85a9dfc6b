"""What waiting threads cost beside another process: a training step on 1 and on all threads, idle and busy.

    python benchmarks/threads.py

Each case is a process of its own, because the OpenMP runtime reads GOMP_SPINCOUNT (how long a waiting thread spins
before it sleeps; `infinity` is what OMP_WAIT_POLICY=ACTIVE means, 0 what PASSIVE means) once. The neighbour is
one process that computes on as many threads as there are cores.
"""

from __future__ import annotations

import os
import subprocess
import sys

STEP = """
import sys, time, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.set_num_threads(int(sys.argv[1]))
model = LlamaForCausalLM(LlamaConfig(vocab_size=140, hidden_size=80, intermediate_size=208, num_hidden_layers=2,
                                     num_attention_heads=5, tie_word_embeddings=True))
ids = torch.randint(0, 140, (64, 24))
times = []
for _ in range(25):
    begin = time.perf_counter()
    model(input_ids=ids, labels=ids).loss.backward()
    times.append(time.perf_counter() - begin)
print(sorted(times)[len(times) // 2] * 1e3)
"""
NEIGHBOUR = "import torch\nx = torch.randn(900, 900)\nwhile True: x = (x @ x).tanh()"


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    print("| neighbour | GOMP_SPINCOUNT | 1 thread, ms | all threads, ms |\n|---|---|--:|--:|")
    for busy in (False, True):
        for spins in ("infinity", "10000", "0"):
            environment = os.environ | {"GOMP_SPINCOUNT": spins}
            neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if busy else None
            try:
                cells = [
                    float(
                        subprocess.run(
                            [sys.executable, "-c", STEP, str(threads)],
                            env=environment,
                            check=True,
                            capture_output=True,
                            text=True,
                        ).stdout
                    )
                    for threads in (1, cores)
                ]
            finally:
                if neighbour:
                    neighbour.kill()
            print(f"| {'busy' if busy else 'none'} | {spins} | {cells[0]:.1f} | {cells[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
