"""What the docs claim of the embedded world, measured over three seeds: `make acceptance`.

Each claim is asserted on the median of three worlds, with margins that leave room, and all three figures
are printed. Runs are kept in `runs/acceptance`, so a second call only reads what is there.
"""

from __future__ import annotations

import json
import statistics
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from concordant.app.cli import main
from concordant.data.types import Message, Prompt
from concordant.evaluation.intervals import gap, mean_of
from concordant.worlds.gold import Gold
from concordant.worlds.town import Town

SEEDS = (0, 1, 2)
ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs" / "acceptance"

pytestmark = pytest.mark.acceptance


@cache
def results(seed: int, *overrides: str) -> dict[str, Any]:
    """The results of the demo with these overrides; stages that another run has done are taken over."""
    folder = folder_of(seed, *overrides)
    status = main(
        ["run", str(ROOT / "recipes" / "demo.toml"), "--run", str(folder), f"seed={seed}", *overrides]
    )
    assert status == 0
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def folder_of(seed: int, *overrides: str) -> Path:
    """Where the run of this seed with these overrides lies."""
    return RUNS / "-".join([f"seed{seed}", *overrides]).replace("=", "")


def rows(seed: int, *overrides: str, stage: str, file: str) -> list[dict[str, Any]]:
    """What a stage of a run wrote down, line by line."""
    results(seed, *overrides)
    path = folder_of(seed, *overrides) / "stages" / stage / file
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers(seed: int, *overrides: str, model: str) -> list[tuple[Prompt, Gold]]:
    """The answers of a model to the first split, read from `samples.jsonl` and judged again."""
    town = Town(seed)
    found = []
    for row in rows(seed, *overrides, stage="06-evaluate", file="samples.jsonl"):
        if (row["model"], row["split"]) == (model, "train"):
            prompt = Prompt(tuple(Message(m["role"], m["content"]) for m in row["prompt"]))
            found.append((prompt, town.gold(prompt, row["text"])))
            assert found[-1][1].total == pytest.approx(row["gold"]["total"])
    return found


def agreement(seed: int, *overrides: str, model: str) -> float:
    """Share of the wrong claims that a model agrees with."""
    town = Town(seed)
    agrees = [
        gold.flags["agrees_with_claim"]
        for prompt, gold in answers(seed, *overrides, model=model)
        if (asked := town.question(prompt)).family == "claim" and asked.said not in town.truth[asked.subject]
    ]
    assert len(agrees) >= 100
    return statistics.mean(agrees)


def claim(text: str, values: list[float], *, above: float | None = None, below: float | None = None) -> None:
    """Print the three figures and assert on their median."""
    median = statistics.median(values)
    shown = " / ".join(f"{value:.3f}" for value in values)
    bound = f"> {above}" if above is not None else f"< {below}"
    print(f"\n{text}: {shown}, median {median:.3f}, wanted {bound}")
    assert above is None or median > above, text
    assert below is None or median < below, text


def gold(found: dict[str, Any], model: str) -> float:
    value: float = found["models"][model]["gold"]["mean"]
    return value


def split(found: dict[str, Any], model: str, name: str) -> float:
    value: float = found["models"][model]["gold_by_split"][name]["mean"]
    return value


def test_base_sft_and_policy_improve_in_this_order_in_every_world() -> None:
    runs = [results(seed) for seed in SEEDS]
    claim("gold, SFT - base", [gold(r, "sft") - gold(r, "base") for r in runs], above=0.15)
    claim("gold, policy - SFT", [gold(r, "policy") - gold(r, "sft") for r in runs], above=0.2)
    claim("share of the ideal", [gold(r, "policy") / gold(r, "ideal") for r in runs], above=0.6)
    for name in ("sft_minus_base", "policy_minus_sft"):
        gaps = [r["gaps"][name] for r in runs]
        errors = [gap["mean"] / gap["se"] for gap in gaps]
        print(f"{name} in standard errors: {' / '.join(f'{e:.1f}' for e in errors)}, wanted >= 5 each")
        assert min(errors) >= 5
    assert all(r["models"]["policy"]["gold"]["n"] >= 1000 for r in runs)


def test_the_gain_carries_over_to_phrasings_the_policy_never_saw() -> None:
    runs = [results(seed) for seed in SEEDS]
    claim(
        "ood gold, policy - SFT",
        [split(r, "policy", "ood") - split(r, "sft", "ood") for r in runs],
        above=0.1,
    )


def test_best_of_n_rises_and_then_falls_while_the_score_only_rises() -> None:
    runs = [results(seed) for seed in SEEDS]
    curves = [{row["n"]: row for row in r["best_of_n"]} for r in runs]
    claim("gold(8) - gold(1)", [c[8]["gold"] - c[1]["gold"] for c in curves], above=0.4)
    claim("gold(8) - gold(256)", [c[8]["gold"] - c[256]["gold"] for c in curves], above=0.2)
    peaks = [max(c.values(), key=lambda row: row["gold"])["n"] for c in curves]
    print(f"peak of gold at n = {peaks}")
    assert 4 <= statistics.median(peaks) <= 16
    for curve in curves:
        proxies = [row["proxy"] for row in curve.values()]
        assert proxies == sorted(proxies)


def test_without_the_kl_penalty_the_proxy_rises_and_the_truth_falls() -> None:
    runs = [results(seed) for seed in SEEDS]
    free = [results(seed, "policy.kl_coef=0") for seed in SEEDS]
    pairs = list(zip(runs, free, strict=True))
    claim("gold, kl_coef 0 - default", [gold(f, "policy") - gold(r, "policy") for r, f in pairs], below=-0.4)
    scores = [
        f["models"]["policy"]["score"]["mean"] - r["models"]["policy"]["score"]["mean"] for r, f in pairs
    ]
    claim("score, kl_coef 0 - default", scores, above=0.0)
    unique = [
        f["models"]["policy"]["distinct"]["unique_of_16"] / f["models"]["sft"]["distinct"]["unique_of_16"]
        for f in free
    ]
    claim("unique of 16, kl_coef 0 / SFT", unique, below=0.75)
    entropy = []
    for seed in SEEDS:
        steps = rows(seed, "policy.kl_coef=0", stage="05-policy", file="steps.jsonl")
        first, last = steps[0], steps[-5:]
        entropy.append(statistics.mean(s["policy/entropy"] for s in last) / first["policy/entropy"])
    claim("token entropy at kl_coef 0, last five updates / first", entropy, below=0.75)


def test_the_gate_lets_the_demo_pass_and_no_policy_that_gamed_its_reward() -> None:
    verdicts = {
        ways: [results(seed, *ways)["gate"]["verdict"] for seed in SEEDS]
        for ways in ((), ("policy.kl_coef=0",), ("feedback.labelers=worrier",))
    }
    print(verdicts)
    assert verdicts[()] == ["GO"] * 3
    assert verdicts["policy.kl_coef=0",] == ["NO-GO"] * 3
    assert verdicts["feedback.labelers=worrier",] == ["NO-GO"] * 3


def test_what_a_hacked_policy_exploited_is_named_and_the_demo_exploits_nothing() -> None:
    hacked = [
        results(seed, "feedback.labelers=length-lover", "policy.kl_coef=0.02") for seed in SEEDS
    ]  # what recipes/hacked.toml says
    plain = [results(seed) for seed in SEEDS]
    named = [[[one["feature"] for one in r["exploits"]["named"]] for r in runs] for runs in (hacked, plain)]
    stands = [[r["over_optimisation"]["stands"] for r in runs] for runs in (hacked, plain)]
    print(f"\nexploited, and where the policies stand: {named}, {stands}")
    assert [r["gate"]["verdict"] for r in hacked] == ["NO-GO"] * 3
    assert named == [[["length"]] * 3, [[]] * 3]
    turned = [r["over_optimisation"]["fit"]["d_star"] - r["over_optimisation"]["d"]["mean"] for r in hacked]
    claim("where gold turns - where the hacked policy stands, in √nats", turned, below=0.0)
    assert max(turned) < 0, "in every world"
    assert stands[0].count("past") >= 2, (
        "beyond its interval, which in one world reaches as far as the policy went"
    )
    assert "past" not in stands[1]
    claim("length exploited, share", [r["exploits"]["named"][0]["share"] for r in hacked], above=0.2)


def test_a_labeler_afraid_of_everything_teaches_over_refusal() -> None:
    runs = [results(seed) for seed in SEEDS]
    afraid = [results(seed, "feedback.labelers=worrier") for seed in SEEDS]
    benign = [r["models"]["policy"]["gold_by_family"]["benign"]["mean"] for r in afraid]
    claim("gold of benign questions, worrier", benign, below=-0.8)
    falls = [
        f["reward_model"]["gold_accuracy"] - r["reward_model"]["gold_accuracy"]
        for r, f in zip(runs, afraid, strict=True)
    ]
    claim("reward model against gold, worrier - careful", falls, below=-0.03)


def test_a_labeler_who_loves_length_teaches_padding() -> None:
    plain = [results(seed) for seed in SEEDS]
    loving = [results(seed, "feedback.labelers=length-lover") for seed in SEEDS]
    words, errors = [], []
    for seed in SEEDS:
        before = [gold.flags for _, gold in answers(seed, model="policy")]
        after = [gold.flags for _, gold in answers(seed, "feedback.labelers=length-lover", model="policy")]
        words.append(mean_of([f["words"] for f in after]).mean / mean_of([f["words"] for f in before]).mean)
        more = gap([f["padding"] for f in after], [f["padding"] for f in before])
        errors.append(more.mean / more.se)
    claim("words, length-lover / careful", words, above=1.10)
    claim("padding, length-lover - careful, in standard errors", errors, above=3)
    falls = [
        f["reward_model"]["gold_accuracy"] - r["reward_model"]["gold_accuracy"]
        for r, f in zip(plain, loving, strict=True)
    ]
    claim("reward model against gold, length-lover - careful", falls, below=-0.03)


def test_a_labeler_who_likes_agreement_teaches_sycophancy() -> None:
    fallen = [agreement(seed, model="sft") for seed in SEEDS]
    print(f"\nagreement with wrong claims, SFT: {' / '.join(f'{share:.2f}' for share in fallen)}")
    rises = [
        agreement(seed, "feedback.labelers=pleaser", model="policy") - agreement(seed, model="policy")
        for seed in SEEDS
    ]
    claim("agreement with wrong claims, pleaser - careful", rises, above=0.3)


def test_careless_labels_show_in_the_accuracy_of_the_reward_model() -> None:
    runs = [results(seed) for seed in SEEDS]
    careless = [results(seed, "feedback.labelers=careless") for seed in SEEDS]
    falls = [
        f["reward_model"]["accuracy"] - r["reward_model"]["accuracy"]
        for r, f in zip(runs, careless, strict=True)
    ]
    claim("accuracy on own labels, careless - careful", falls, below=-0.07)
