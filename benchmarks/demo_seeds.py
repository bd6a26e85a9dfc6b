"""The table of the README: the demo over three seeds, each measured in a process of its own.

    python benchmarks/demo_seeds.py [--runs FOLDER] [--seeds 0 1 2]

Run it with nothing else on the machine. Runs that are finished are read, not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        command = [
            sys.executable,
            "-m",
            "concordant",
            "demo",
            "--runs",
            str(arguments.runs),
            "--seed",
            str(seed),
        ]
        subprocess.run(command, check=True)
        name = "demo" if seed == 0 else f"demo-seed={seed}"
        rows.append(json.loads((arguments.runs / name / "results.json").read_text()))
    print(
        "\n| seed | base | SFT | PPO | ideal | PPO / ideal | KL | RM accuracy, held-out votes | seconds | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        gold = {name: figures["gold"] for name, figures in row["models"].items()}
        reward = row["reward_model"]
        low, high = reward["accuracy_ci"]
        cells = [
            f"{gold[n]['mean']:.2f} ± {1.96 * gold[n]['se']:.2f}" for n in ("base", "sft", "policy", "ideal")
        ]
        share = gold["policy"]["mean"] / gold["ideal"]["mean"]
        print(
            f"| {row['seed']} | {' | '.join(cells)} | {share:.0%} | {row['models']['policy']['kl']['mean']:.1f} "
            f"| {reward['accuracy']:.3f} [{low:.3f}, {high:.3f}] "
            f"| {row['seconds']['total']:.0f} | {row['peak_rss_mb']} |"
        )


if __name__ == "__main__":
    main()
