"""When more of the score stops being more of the truth, and whether what was exploited is named.

    python benchmarks/over_optimisation.py --seeds 0 1 2 --runs runs/over-optimisation

The demo, the demo without a penalty on the KL, and with biased labelers and hardly a penalty, over several worlds. Runs
that are there already are read, not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
SMALL = "policy.kl_coef=0.02"
KINDS: Mapping[str, tuple[str, ...]] = {
    "demo": ("demo.toml",),
    "no penalty": ("demo.toml", "policy.kl_coef=0"),
    "hacked": ("hacked.toml",),
    "pleaser": ("demo.toml", "feedback.labelers=pleaser", SMALL),
    "worrier": ("demo.toml", "feedback.labelers=worrier", SMALL),
}

Results = Mapping[str, Any]


def run(kind: str, seed: int, runs: Path) -> Results:
    """Make one run, or find it."""
    recipe, *words = KINDS[kind]
    place = runs / f"{kind.replace(' ', '-')}-{seed}"
    given = [str(RECIPES / recipe), f"seed={seed}", *words, "--run", str(place)]
    subprocess.run(
        [sys.executable, "-m", "concordant", "run", *given],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ,
    )
    found: Results = json.loads((place / "results.json").read_text(encoding="utf-8"))
    return found


def interval(value: float | None, ends: Sequence[float | None]) -> str:
    """A peak with its interval, of which either may lie nowhere in sight."""
    low, high = ("none" if end is None else f"{end:.2f}" for end in ends)
    return f"{'none' if value is None else f'{value:.2f}'} [{low}, {high}]"


def choosing(seed: int, found: Results) -> str:
    """A row of the table of best-of-n."""
    rows = {row["n"]: row for row in found["best_of_n"]}
    peak = max(rows.values(), key=lambda row: row["gold"])["n"]
    golds = " | ".join(f"{rows[n]['gold']:.2f} ± {1.96 * rows[n]['gold_se']:.2f}" for n in (1, 8, 256))
    proxies = [row["proxy"] for row in rows.values()]
    rises = "rises" if proxies == sorted(proxies) else "falls somewhere"
    fit = found["best_of_n_fit"]
    return f"| {seed} | {golds} | {peak} | {rises} | {interval(fit['d_star'], fit['d_star_ci'])} |"


def training(seed: int, kind: str, found: Results) -> str:
    """A row of the table of trained policies."""
    models, path = found["models"], found["over_optimisation"]
    gold = " → ".join(f"{models[name]['gold']['mean']:.2f}" for name in ("sft", "policy"))
    peak = interval(path["fit"]["d_star"], path["fit"]["d_star_ci"])
    parts = {part["part"]: part for part in found["exploits"]["parts"]}
    named = [
        f"{one['words']}, {one['share']:.0%} [{part['share_low']:.0%}, {part['share_high']:.0%}]"
        for one in found["exploits"]["named"]
        for part in [parts[one["feature"]]]
    ]
    explained = " | ".join(f"{parts[name]['share']:.0%}" for name in ("gold", "rest"))
    return (
        f"| {seed} | {kind} | {gold} | {path['d']['mean']:.2f} | {peak} | {path['stands']} | "
        f"{'; '.join(named) or 'nothing'} | {explained} | {found['gate']['verdict']} |"
    )


def main(given: Sequence[str] | None = None) -> None:
    """Run, read, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--runs", type=Path, default=Path("runs/over-optimisation"))
    asked = parser.parse_args(given)
    found = {(seed, kind): run(kind, seed, asked.runs) for seed in asked.seeds for kind in asked.kinds}
    print("| seed | gold of 1 | best of 8 | best of 256 | highest at n | score | d* of the fit |")
    print("|---|---|---|---|--:|---|---|")
    for seed in asked.seeds:
        print(choosing(seed, found[seed, asked.kinds[0]]))
    print(
        "\n| seed | run | gold, SFT → policy | d | d* of the path | stands | exploited | by gold | no name | gate |"
    )
    print("|---|---|---|--:|---|---|---|--:|--:|---|")
    for (seed, kind), results in found.items():
        print(training(seed, kind, results))


if __name__ == "__main__":
    main()
