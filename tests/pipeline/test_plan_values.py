"""Where each value of a recipe comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from concordant.pipeline.origins import LONGEST_RECIPE, Value, lines_of, values_of
from concordant.pipeline.recipe import load_recipe
from tiny_run import TOWN, town_file


def values(tmp_path: Path, text: str = TOWN, **given: object) -> dict[str, Value]:
    overrides = {key.replace("__", "."): value for key, value in given.items()}
    recipe = load_recipe(town_file(tmp_path, text=text), overrides)
    return {value.key: value for value in values_of(recipe, text, overrides)}


def line(text: str) -> int:
    return TOWN.splitlines().index(text) + 1


def test_a_value_of_the_recipe_has_its_line(tmp_path: Path) -> None:
    found = values(tmp_path)
    assert found["pretrain.steps"] == Value("pretrain.steps", 20, "recipe", line("steps = 20"))
    lr = found["pretrain.optimizer.lr"]
    assert (lr.origin, lr.line) == ("recipe", line("optimizer = { lr = 4e-3 }"))
    assert found["pretrain.optimizer.schedule"] == Value("pretrain.optimizer.schedule", "linear", "default")


def test_an_override_wins_over_the_recipe(tmp_path: Path) -> None:
    found = values(tmp_path, pretrain__steps=7, policy__optimizer__lr=0.5)
    assert found["pretrain.steps"] == Value("pretrain.steps", 7, "override")
    assert found["policy.optimizer.lr"] == Value("policy.optimizer.lr", 0.5, "override")
    assert found["policy.optimizer.schedule"].origin == "algorithm"


def test_an_override_of_a_section_is_one_of_all_its_values(tmp_path: Path) -> None:
    found = values(tmp_path, policy={"algorithm": "dpo", "beta": 0.3})
    assert found["policy.beta"] == Value("policy.beta", 0.3, "override")


@pytest.mark.parametrize(
    ("algorithm", "key", "value"),
    [
        ("ppo", "policy.checkpoint.every", "10 steps"),
        ("grpo", "policy.kl_coef", 0.04),
        ("grpo", "policy.optimizer.lr", 1e-5),
        ("dapo", "policy.overlong_buffer", 4),  # a quarter of policy.completion
        ("online_dpo", "policy.rounds", 8),
        ("ipo", "policy.optimizer.lr", 5e-6),
        ("orpo", "policy.nll_coef", 1.0),
    ],
)
def test_defaults_that_an_algorithm_sets_are_told_apart(
    tmp_path: Path, algorithm: str, key: str, value: object
) -> None:
    text = TOWN.partition("[policy]")[0] + f'[policy]\nalgorithm = "{algorithm}"\n'
    if algorithm == "dapo":
        text += "completion = 16\n"
    assert values(tmp_path, text)[key] == Value(key, value, "algorithm")


def test_what_the_machine_decides_comes_from_it(tmp_path: Path) -> None:
    recipe = load_recipe(town_file(tmp_path))
    decided = {"machine.device": "cpu", "machine.precision": "float32", "machine.threads": 1}
    found = {value.key: value for value in values_of(recipe, TOWN, {}, decided)}
    assert found["machine.device"] == Value("machine.device", "cpu", "hardware")
    assert found["machine.threads"].origin == "recipe"  # stated, and taken as it is


def test_every_value_in_force_is_there_once(tmp_path: Path) -> None:
    recipe = load_recipe(town_file(tmp_path))
    found = [value.key for value in values_of(recipe, TOWN, {})]
    assert len(found) == len(set(found))
    assert {"seed", "model.embedded.layers", "data.validation", "policy.clip", "evaluate.best_of"} <= set(
        found
    )


def test_lines_of_statements_over_several_lines() -> None:
    text = 'a = """\nb = 1\n"""\n\n[c]\nd = [\n  1,\n  2,\n]\ne.f = 3\n'
    assert lines_of(text) == {"a": 1, "c.d": 6, "c.e.f": 10}


def test_a_very_long_recipe_has_no_lines() -> None:
    text = "seed = 1\n" + "\n" * LONGEST_RECIPE
    assert lines_of(text) == {"seed": 0}
