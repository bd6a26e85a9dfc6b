"""Recipes: every shipped one can be read, what is resolved can be read back, and mistakes are named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concordant.errors import UserError
from concordant.evaluation.config import EvaluateConfig
from concordant.feedback.config import FeedbackConfig
from concordant.pipeline.plan import plan
from concordant.pipeline.preflight import check_recipe
from concordant.pipeline.provenance import resolved_toml
from concordant.pipeline.recipe import load_recipe, make_recipe, parse_overrides, parse_value, with_overrides
from concordant.pipeline.toml import to_toml
from concordant.train.config import CRITIC_FREE, BestOfNConfig, CriticFreeConfig, OnlineDPOConfig, PPOConfig
from tiny_run import TOWN, town, town_file

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
LEAF = (
    TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
TABLE = st.recursive(
    st.dictionaries(
        TEXT, LEAF | st.lists(LEAF, max_size=3) | st.lists(st.dictionaries(TEXT, LEAF), max_size=2)
    ),
    lambda inner: st.dictionaries(TEXT, LEAF | inner, max_size=4),
    max_leaves=8,
)


@given(TABLE)
def test_toml_reads_back_what_was_written(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_shipped_recipes_are_read_and_resolve_to_toml_that_reads_back(file: Path) -> None:
    recipe = load_recipe(file)
    resolved = tomllib.loads(resolved_toml(recipe))
    assert {"concordant", "python", "torch"} <= set(resolved.pop("versions"))
    assert len(resolved.pop("fingerprints")["code"]) == 64
    assert make_recipe(resolved, where="resolved") == recipe


def test_the_resolved_recipe_of_a_run_reads_back(finished: Path) -> None:
    resolved = tomllib.loads((finished / "resolved.toml").read_text(encoding="utf-8"))
    assert resolved["machine"] == {"device": "cpu", "precision": "float32", "threads": 1}
    del resolved["versions"], resolved["fingerprints"], resolved["machine"]
    given = load_recipe(finished / "recipe.toml").model_dump(mode="json", exclude_none=True)
    del given["machine"]
    assert resolved == given


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e-3", 1e-3),
        ("true", True),
        ("demo", "demo"),
        ('"7"', "7"),
        ("", ""),
        ("a = b", "a = b"),
    ],
)
def test_values_of_overrides(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert parse_overrides([f"a.b={text}"]) == {"a.b": value}


def test_overrides_do_not_touch_what_they_change() -> None:
    values = {"policy": {"optimizer": {"lr": 1.0}, "batch": 2}}
    changed = with_overrides(values, {"policy.optimizer.lr": 2.0, "sft.steps": 3})
    assert values == {"policy": {"optimizer": {"lr": 1.0}, "batch": 2}}
    assert changed == {"policy": {"optimizer": {"lr": 2.0}, "batch": 2}, "sft": {"steps": 3}}


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"policy.kl_coeff": 0.1}, "policy.kl_coeff", "policy.kl_coef"),
        ({"polcy.kl_coef": 0.1}, "polcy", "policy"),
        ({"policy.optimizer.learning_rate": 1}, "policy.optimizer.learning_rate", ""),
        ({"data.preferences": [{"pth": "x"}]}, "data.preferences.pth", "path"),
        ({"data.preferences": [{"path": "x", "split": 3}]}, "data.preferences.split", ""),
        ({"policy.batch": "many"}, "policy.batch", ""),
        ({"policy.kl_coef": -1}, "policy.kl_coef", ""),
        ({"policy.kl_coef.x": 1}, "policy.kl_coef", ""),
        ({"seed": 1.5}, "seed", ""),
        ({"name": "../elsewhere"}, "name", ""),
        ({"name": ".."}, "name", ""),
        ({"feedback.ties": "keep"}, "feedback.ties", ""),
        ({"model.embedded.heads": 3}, "model.embedded.heads", ""),
        ({"policy.minibatches": 3}, "policy.minibatches", ""),
        ({"world": 3}, "world", ""),
        ({"policy.gamma": float("nan")}, "policy.gamma", ""),
    ],
)
def test_a_bad_key_or_value_is_named(tmp_path: Path, changes: dict[str, Any], what: str, fix: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(town_file(tmp_path), changes)
    error = caught.value
    assert repr(what) in error.what
    assert error.where == str(tmp_path / "tiny.toml")
    assert error.expected
    assert fix in error.fix


def test_a_pattern_is_said_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A-Za-z"):
        load_recipe(town_file(tmp_path), {"name": "a b"})


def test_bad_toml_is_said_with_its_line(tmp_path: Path) -> None:
    file = town_file(tmp_path, text=TOWN.replace("threads = 1", "threads = one"))
    with pytest.raises(UserError) as caught:
        load_recipe(file)
    line = TOWN.splitlines().index("threads = 1") + 1
    assert caught.value.where.startswith(f"{file}:{line}:")
    file.write_bytes(b"name = '\xff'")
    with pytest.raises(UserError, match="not valid TOML"):
        load_recipe(file)


def test_a_recipe_that_is_not_there_names_its_neighbours(tmp_path: Path) -> None:
    town_file(tmp_path)
    with pytest.raises(UserError, match="no such recipe") as caught:
        load_recipe(tmp_path / "tinny.toml")
    assert str(tmp_path / "tiny.toml") in caught.value.fix
    with pytest.raises(UserError, match="cannot read this recipe"):
        load_recipe(tmp_path)


SECTIONS = {"pretrain.steps": 5, "sft.steps": 5}


@pytest.mark.parametrize(
    ("changes", "said", "named"),
    [
        ({"policy.completion": 128}, "leaves no room for a prompt", "policy.completion=64"),
        ({"model.length": 10}, "leaves no room for a prompt", "10 tokens"),
        ({"machine.device": "gpu"}, "no device 'gpu'", "cuda:N"),
        ({"world.name": "twon"}, "twon", "town"),
        ({"feedback.labelers": "carefull"}, "carefull", "careful"),
        ({"model.path": "somewhere"}, "both a model and [pretrain]", "remove [pretrain]"),
        ({"data.preferences": "pairs.jsonl"}, "both a world and data.preferences", "remove [world]"),
        ({"data.demonstrations": "rows.jsonl"}, "both a world and data.demonstrations", "remove [world]"),
        ({"evaluate.text": "held-out.txt"}, "both a world and evaluate.text", "remove [world]"),
        ({"policy.kl_target": 3, "policy.kl_horizon": 2}, "kl_horizon = 2", "more than 3.2"),
    ],
)
def test_parts_that_do_not_fit_together(
    tmp_path: Path, changes: dict[str, Any], said: str, named: str
) -> None:
    with pytest.raises(UserError) as caught:
        plan(load_recipe(town_file(tmp_path), changes), tmp_path / "run")
    assert said in caught.value.what
    assert named in str(caught.value)
    assert caught.value.expected
    assert not (tmp_path / "run").exists()


def without(*sections: str, **added: Any) -> dict[str, Any]:
    values = {key: value for key, value in tomllib.loads(TOWN).items() if key not in sections}
    return with_overrides(values, {key.replace("__", "."): value for key, value in added.items()})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (without("reward"), "needs a reward model"),
        (without("pretrain"), "no model to start from"),
        (without("world"), "no model to start from"),
        (without("world", "pretrain", model__path="x"), "nothing to fine-tune on"),
        (without("world", "pretrain", "sft", model__path="x"), "nobody says which answers are better"),
        (
            without("world", "pretrain", "sft", "reward", "policy", model__path="x"),
            "no prompts to measure on",
        ),
    ],
)
def test_parts_that_are_missing(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        check_recipe(make_recipe(values, where="here"))
    assert caught.value.where
    assert caught.value.fix


def test_the_tiny_recipe_itself_is_in_order(tmp_path: Path) -> None:
    check_recipe(town(tmp_path))


@pytest.mark.parametrize("section", ["policy", "feedback", "evaluate"])
@pytest.mark.parametrize("setting", ["top_k", "top_p", "min_p"])
def test_no_setting_cuts_the_distribution(section: str, setting: str, tmp_path: Path) -> None:
    """truncated_sampling_refused_or_rescored: https://github.com/huggingface/trl/issues/6789"""
    with pytest.raises(UserError) as caught:
        load_recipe(town_file(tmp_path), {f"{section}.{setting}": 1})
    assert repr(f"{section}.{setting}") in caught.value.what


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_answers_are_as_long_in_training_as_in_evaluation(file: Path) -> None:
    """same_stop_and_length_in_train_and_eval: https://github.com/NovaSky-AI/SkyRL/issues/1317"""
    recipe = load_recipe(file)
    sampled = [part for part in (recipe.policy, recipe.evaluate) if hasattr(part, "completion")]
    assert len({(part.completion, part.temperature) for part in sampled}) == 1


def test_defaults_are_the_same_in_training_and_in_evaluation() -> None:
    """same_stop_and_length_in_train_and_eval: https://github.com/NovaSky-AI/SkyRL/issues/1317"""
    kinds = (PPOConfig, OnlineDPOConfig, BestOfNConfig, FeedbackConfig, EvaluateConfig)
    defaults = [kind() for kind in kinds] + [CriticFreeConfig(algorithm=name) for name in CRITIC_FREE]
    assert len({(part.completion, part.temperature) for part in defaults}) == 1


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"kind": "modle"}, "'policy.rewards.mine.kind'"),
        ({"kind": "server", "url": "ftp://somewhere"}, "'policy.rewards.mine.url'"),
        ({"kind": "function", "function": "no colon"}, "'policy.rewards.mine.function'"),
        ({"kind": "ensemble", "paths": ["one"]}, "'policy.rewards.mine.paths'"),
        ({"wieght": 2.0}, "unknown key 'policy.rewards.mine.wieght'"),
    ],
)
def test_a_bad_source_of_scores_is_named(part: dict[str, Any], said: str) -> None:
    values = {"name": "x", "policy": {"rewards": {"mine": part}}}
    with pytest.raises(UserError) as caught:
        make_recipe(values, where="here")
    assert said in caught.value.what


def test_a_source_of_scores_is_a_model_unless_it_says_otherwise() -> None:
    recipe = make_recipe({"name": "x", "policy": {"rewards": {"mine": {"path": "folder"}}}}, where="here")
    assert isinstance(recipe.policy, PPOConfig)
    assert recipe.policy.rewards["mine"].kind == "model"
    assert not recipe.policy.needs_reward_stage
