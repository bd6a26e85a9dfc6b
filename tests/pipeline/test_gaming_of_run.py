"""What a run says of whether its policy gamed the reward, from the evaluate stage to the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from concordant.evaluation.exploits import exploits
from concordant.pipeline.recipe import load_recipe
from tiny_run import TOWN, clone, concordant, results, rows, town_file

GATE = '\n[gate]\ntarget = "gold"\n'
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def asked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run with prompts enough to say what the score was gained by, and what was printed at its end."""
    run = clone(finished, tmp_path_factory.mktemp("gaming") / "runs" / "tiny")
    words = ("evaluate.prompts=150", "policy.updates=9")
    done = concordant("run", town_file(run.parent.parent, text=TOWN + GATE), "--run", run, *words)
    assert done.status == 0, done.err
    return run, done.out


def test_what_the_score_was_gained_by_can_be_computed_again_from_the_answers(
    asked: tuple[Path, str],
) -> None:
    kept = [
        row for row in rows(asked[0] / "stages" / "06-evaluate" / "samples.jsonl") if row["split"] == "train"
    ]
    before, after = ([row for row in kept if row["model"] == model] for model in ("sft", "policy"))
    again = exploits(before, after)
    assert again is not None
    found = results(asked[0])["exploits"]
    assert (found["before"], found["after"], found["truth"]) == ("sft", "policy", "gold")
    assert [part["gain"] for part in found["parts"]] == pytest.approx([p["gain"] for p in again["parts"]])
    change = results(asked[0])["changes"]["policy_minus_sft"]["score"]["mean"]
    assert found["gain"]["mean"] == pytest.approx(change)


def test_the_path_of_the_training_and_where_the_policy_stands(asked: tuple[Path, str]) -> None:
    found = results(asked[0])
    path = found["over_optimisation"]
    steps = rows(asked[0] / "stages" / "05-policy" / "steps.jsonl")
    assert [point["gold"] for point in path["points"]] == [row["objective/gold"] for row in steps]
    assert path["truth"] == "gold"
    assert path["fit"]["start"] == found["models"]["sft"]["gold"]["mean"]
    assert path["d"]["mean"] ** 2 == pytest.approx(max(0, found["models"]["policy"]["kl"]["mean"]))
    assert path["stands"] in ("before", "past", "cannot tell")


def test_best_of_n_has_intervals_of_its_fit(asked: tuple[Path, str]) -> None:
    fit = results(asked[0])["best_of_n_fit"]
    assert fit["alpha_ci"][0] <= fit["alpha"] <= fit["alpha_ci"][1]


def test_run_and_gate_say_it(asked: tuple[Path, str]) -> None:
    run, out = asked
    assert out.index("gate: ") < out.index("exploited: ") < out.index("over-optimised: ")
    again = concordant("gate", run)
    assert "exploited: " in again.out
    assert "over-optimised: " in again.out


def test_a_few_prompts_say_nothing_and_nothing_is_made_up(finished: Path) -> None:
    found = results(finished)
    assert "exploits" not in found
    assert found["over_optimisation"]["fit"] is None
    assert found["over_optimisation"]["stands"] == "cannot tell"


def test_the_hacked_recipe_is_the_demo_but_for_its_labelers_and_its_penalty() -> None:
    demo, hacked = (
        load_recipe(ROOT / "recipes" / f"{name}.toml").model_dump() for name in ("demo", "hacked")
    )
    assert hacked["feedback"].pop("labelers") == "length-lover"
    assert demo["feedback"].pop("labelers") == "careful"
    assert hacked["policy"].pop("kl_coef") < demo["policy"].pop("kl_coef") / 5
    assert (hacked.pop("name"), demo.pop("name")) == ("hacked", "demo")
    assert hacked == demo
