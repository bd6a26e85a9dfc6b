"""`concordant compare`: every algorithm over several seeds, in one table that can be read again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from concordant.evaluation.comparison import OverSeeds, compare
from tiny_run import concordant, town_file

WAYS = {
    "dpo": "steps = 2\nbatch = 8",
    "kto": "steps = 2\nbatch = 8",
    "rloo": "updates = 2\nbatch = 8\ncompletion = 12",
    "best_of_n": "rounds = 1\nprompts = 8\nsamples = 2\ncompletion = 12",
    "online_dpo": "rounds = 2\nprompts = 8\nsamples = 3\ncompletion = 12",
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = town_file(tmp_path_factory.mktemp("compare"))
    sections = [f'[compare.{name}]\nalgorithm = "{name}"\n{keys}\n' for name, keys in WAYS.items()]
    path.write_text(path.read_text() + "\n" + "\n".join(sections))
    return path


@pytest.fixture(scope="module")
def compared(recipe: Path) -> tuple[Path, str]:
    runs = recipe.parent / "runs"
    shown = concordant("compare", recipe, "--runs", runs, "--seeds", "0,1")
    assert shown.status == 0, shown.err
    return runs / "tiny", shown.out


def test_every_way_stands_in_the_table_with_what_it_started_from(compared: tuple[Path, str]) -> None:
    folder, said = compared
    found = json.loads((folder / "comparison.json").read_text())
    assert {way["name"] for way in found["ways"]} == {*WAYS, "sft"}
    golds = [way["gold"]["mean"] for way in found["ways"][:-1]]
    assert golds == sorted(golds, reverse=True)
    assert found["ways"][-1]["name"] == "sft"
    for way in found["ways"]:
        assert len(way["gold"]["values"]) == 2
        results = (
            json.loads((folder / f"seed1-{way['name']}" / "results.json").read_text())
            if way["name"] != "sft"
            else None
        )
        if results:
            assert way["gold"]["values"][1] == results["models"]["policy"]["gold"]["mean"]
    page = (folder / "comparison.md").read_text()
    assert all(f"| {name} |" in page for name in WAYS)
    assert "comparison" in said


def test_what_comes_before_the_policy_is_done_once_per_seed(compared: tuple[Path, str]) -> None:
    _, said = compared
    assert len(re.findall(r"^base: not done yet", said, re.M)) == 2
    assert len(re.findall(r"^base: the same stage is done in", said, re.M)) == 2 * (len(WAYS) - 1)


def test_a_second_time_nothing_is_run(recipe: Path, compared: tuple[Path, str]) -> None:
    shown = concordant("compare", recipe, "--runs", compared[0].parent, "--seeds", "0,1", "--only", "dpo,kto")
    assert shown.status == 0
    assert shown.out.count("nothing was run") == 4


def test_each_run_can_be_taken_up_by_itself(compared: tuple[Path, str]) -> None:
    folder = compared[0] / "seed0-dpo"
    shown = concordant("run", folder / "recipe.toml", "--run", folder)
    assert shown.status == 0
    assert "nothing was run" in shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "dop"], "nothing called 'dop'"),
        (["compare.dpo.betta=1"], "unknown key 'compare.dpo.betta'"),
        (["compare.dpo.betta=1"], "did you mean 'compare.dpo.beta'?"),
        (["policy.updates=3"], "would change nothing here"),
        (["seed=9"], "would change nothing here"),
        (["compare.dpo.algorithm=dop"], "'dpo'"),
    ],
)
def test_mistakes_are_named(recipe: Path, words: list[str], said: str) -> None:
    shown = concordant("compare", recipe, "--runs", recipe.parent / "none", *words)
    assert shown.status == 2
    assert said in shown.err


def test_a_recipe_with_nothing_to_compare(tmp_path: Path) -> None:
    shown = concordant("compare", town_file(tmp_path), "--runs", tmp_path / "runs")
    assert shown.status == 2
    assert "[compare]" in shown.err


def test_intervals_over_seeds_are_students() -> None:
    found = OverSeeds.of([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.half == pytest.approx(4.303 / 3**0.5)
    assert str(OverSeeds.of([1.0])) == "1.00"


def test_without_gold_the_order_is_that_of_the_score() -> None:
    def run(score: float) -> dict[str, object]:
        figures = {"score": {"mean": score}, "kl": {"mean": 0.0}, "length": {"mean": 1.0}, "distinct": {}}
        return {
            "models": {"base": figures, "policy": figures},
            "seconds": {"stages": {"policy": 1.0}},
            "memory_mb": {"policy": 100},
            "gaps": {},
        }

    ways = compare({"low": [run(0.0)], "high": [run(1.0)]})
    assert [way.name for way in ways] == ["high", "low", "sft"]
    assert ways[0].least_gain is None
    assert "gold" not in ways[0].figures
