"""What a run is going to need, against what it then does need."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from concordant.errors import UserError
from concordant.models.config import AdapterConfig
from concordant.models.load import add_adapter, load_policy, new_reward_model
from concordant.pipeline.forecast import disk, look
from concordant.pipeline.forecast.amounts import NONE, Amount
from concordant.pipeline.forecast.forecast import Forecast, forecast
from concordant.pipeline.forecast.memory import SLOTS, memory_of
from concordant.pipeline.forecast.size import size_at, size_of
from concordant.pipeline.forecast.work import Work
from concordant.pipeline.parts.sampling import sampler_of
from concordant.pipeline.recipe import load_recipe
from concordant.rollout.inline import InlineSampler
from tinies import save_models
from tiny_run import STAGES, TOWN, concordant, results, town, town_file, written

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = concordant("run", town_file(folder), "--run", folder / "run")
    assert done.status == 0, done.err
    return folder / "run"


def foreseen(tmp_path: Path, *, run: Path | None = None, **changes: Any) -> Forecast:
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return forecast(town(tmp_path, **changes), run or tmp_path / "new" / "run", TOWN, overrides)


def works(found: Forecast) -> dict[str, Work]:
    return {work.stage: work for work in found.works}


# sizes


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_a_size_is_read_from_the_files_of_a_model(models: dict[str, str], kind: str) -> None:
    found, model = size_at(models[kind]), load_policy(models[kind])
    assert found is not None
    assert found.exact
    assert found.parameters == sum(p.numel() for p in model.parameters())
    reward = new_reward_model(models[kind], pad_id=0, seed=0)
    head = reward.score.weight.numel()
    assert found.trunk + head == sum(p.numel() for p in reward.parameters())
    config = AdapterConfig(rank=3)
    adapted = add_adapter(model, config, 0)
    assert found.adapter(config) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_configuration_alone_says_nearly_the_same(
    models: dict[str, str], kind: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text((Path(models[kind]) / "config.json").read_text())
    whole, alone = size_at(models[kind]), size_at(str(tmp_path))
    assert whole is not None
    assert alone is not None
    assert not alone.exact
    assert alone.parameters == pytest.approx(whole.parameters, rel=0.02)  # but for biases
    assert (alone.layers, alone.cached, alone.context) == (whole.layers, whole.cached, whole.context)


def test_the_embedded_model_has_the_size_that_was_foreseen(tmp_path: Path, finished: Path) -> None:
    size = size_of(town(tmp_path))
    assert size is not None
    base = finished / "stages" / "01-base" / "model"
    assert size.parameters == pytest.approx(
        sum(p.numel() for p in load_policy(str(base)).parameters()), rel=0.02
    )


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"\x02" + b"\0" * 7 + b"{}", b"\x08" + b"\0" * 7 + b"[[[[[[[["]
)
def test_damaged_weights_are_no_reason_to_stop_planning(
    models: dict[str, str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "config.json").write_text((Path(models["llama"]) / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(content)
    found = size_at(str(tmp_path))
    assert found is not None
    assert not found.exact


@pytest.mark.parametrize(
    ("wrong", "shape"), [({"num_attention_heads": 0}, None), ({"n_head": "x"}, [2, 3]), ({}, [2, "x"])]
)
def test_a_model_whose_numbers_are_none_has_no_size(
    tmp_path: Path, wrong: dict[str, Any], shape: list[Any] | None
) -> None:
    numbers = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    (tmp_path / "config.json").write_text(json.dumps(numbers | wrong))
    if shape is not None:
        header = json.dumps({"w": {"shape": shape}}).encode()
        (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert size_at(str(tmp_path)) is None


def test_a_model_that_is_not_here_has_no_size() -> None:
    assert size_at("nobody/nothing") is None
    assert size_at("not a name") is None


# steps and tokens


def test_steps_and_tokens_are_those_of_the_run(tmp_path: Path, finished: Path) -> None:
    told = works(foreseen(tmp_path))
    spent = results(finished)["throughput"]
    logged = {
        stage: len((finished / "stages" / stage / "steps.jsonl").read_text().splitlines())
        for stage in STAGES
        if stage[3:] in ("base", "sft", "reward", "policy")
    }
    assert logged == {"01-base": 20, "02-sft": 10, "04-reward": 6, "05-policy": 3}
    assert [told[stage].steps for stage in ("base", "sft", "reward", "policy")] == [
        Amount(20),
        Amount(10),
        Amount(6),
        Amount(3 * 2 * 2),
    ]
    for stage in ("base", "sft", "reward"):
        amount = told[stage].spent["train"]
        assert amount is not None
        assert amount.sure == "about"
        assert amount.number == pytest.approx(spent[stage]["train"]["tokens"], rel=0.2), stage
    for stage in ("sft", "reward"):
        looked_at = told[stage].spent["validate"]
        assert looked_at is not None
        assert looked_at.number == pytest.approx(spent[stage]["validate"]["tokens"], rel=0.35), stage
    assert "validate" not in told["base"].spent
    read = told["evaluate"].spent["score"]
    assert read is not None
    assert read.number == pytest.approx(spent["evaluate"]["score"]["tokens"], rel=0.2)


def test_examples_of_the_world_are_split_as_the_run_splits_them(tmp_path: Path, finished: Path) -> None:
    found = foreseen(tmp_path, reward__steps=0).look.preferences
    assert found.rows is not None
    assert found.rows.sure == "up to"
    assert written(finished / "stages" / "04-reward" / "stage.json")["facts"]["examples"] <= found.rows.number


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"algorithm": "grpo", "batch": 16, "updates": 3, "minibatches": 2}, (6, "", 8, 3)),
        ({"algorithm": "ppo", "batch": 16, "updates": 3, "early_stop_kl": 0.1}, (6, "up to", 16, 3)),
        ({"algorithm": "online_dpo", "rounds": 2, "prompts": 16, "batch": 8}, (4, "up to", 8, 2)),
        ({"algorithm": "best_of_n", "rounds": 3, "prompts": 16, "batch": 8}, (6, "up to", 8, 3)),
        ({"algorithm": "dpo", "steps": 5, "batch": 8}, (5, "", 8, 0)),
        ({"algorithm": "kto", "steps": 5, "batch": 8}, (5, "", 8, 0)),
    ],
)
def test_the_batch_table_of_every_shape_of_algorithm(
    tmp_path: Path, policy: dict[str, Any], expected: tuple[float, str, int, int]
) -> None:
    work = works(foreseen(tmp_path, policy=policy))["policy"]
    assert work.steps is not None
    assert (work.steps.number, work.steps.sure, work.batch, work.rollouts) == expected
    read = "reference" in work.spent
    assert read == (policy["algorithm"] in ("dpo", "kto"))


def test_a_recipe_without_policy_has_no_work_for_one(tmp_path: Path) -> None:
    text = TOWN.partition("[policy]")[0]
    recipe = load_recipe(town_file(tmp_path, text=text), {})
    found = forecast(recipe, tmp_path / "run", text, {})
    assert [work.stage for work in found.works] == ["base", "sft", "feedback", "reward", "evaluate"]


# files


def files(tmp_path: Path, model: str, pairs: int) -> Path:
    rows = [{"prompt": f"question {n} ?", "chosen": "yes it is so", "rejected": "no"} for n in range(pairs)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = (
        f'name = "files"\ndata_root = "{tmp_path}"\n[model]\npath = "{model}"\n[data]\n'
        'preferences = "pairs.jsonl"\n[reward]\nbatch = 10\nepochs = 2\n[policy]\nalgorithm = "rloo"\nbatch = 8\n'
        "[evaluate]\nprompts = 5\n"
    )
    return town_file(tmp_path, "files.toml", text)


def test_rows_of_a_small_file_are_counted_after_the_split(models: dict[str, str], tmp_path: Path) -> None:
    recipe = load_recipe(files(tmp_path, models["llama"], 200))
    found = look.look_at(recipe, 64)
    assert found.preferences.rows is not None
    assert found.preferences.held_out is not None
    assert found.preferences.rows.sure == ""
    assert found.preferences.rows.number + found.preferences.held_out.number == 200
    assert 5 <= found.preferences.held_out.number <= 40  # a tenth of them
    assert all(shape.prompt + max(shape.completions) <= 64 for shape in found.preferences.shapes)


def test_rows_of_a_large_file_are_estimated_from_its_bytes(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "COUNTED", 100)
    found = look.look_at(load_recipe(files(tmp_path, models["llama"], 1_000)), 64)
    assert found.preferences.rows is not None
    assert found.preferences.held_out is not None
    assert found.preferences.rows.sure == "about"
    whole = found.preferences.rows.number + found.preferences.held_out.number
    assert whole == pytest.approx(1_000, rel=0.1)


def test_of_data_on_the_hub_nothing_is_known_but_its_limit(tmp_path: Path) -> None:
    text = (
        'name = "far"\n[model]\npath = "nobody/nothing"\n[data]\n'
        'demonstrations = { path = "some/rows", limit = 640 }\npreferences = "other/rows"\n[sft]\n[reward]\n'
    )
    found = forecast(load_recipe(town_file(tmp_path, "far.toml", text)), tmp_path / "run", text, {})
    told = works(found)
    assert told["sft"].steps == Amount(10, "up to")
    assert told["reward"].steps is None
    assert found.size is None
    assert json.dumps(found.as_dict())


# memory


def test_memory_of_an_adapter_and_of_all_weights(tmp_path: Path) -> None:
    whole, adapted = foreseen(tmp_path), foreseen(tmp_path, model__adapter={"rank": 2})
    assert whole.size is not None
    parts, fewer = whole.memory["policy"], adapted.memory["policy"]
    assert parts["moments"] == 2 * parts["gradients"]
    assert parts["reference"] == parts["weights"] == 4 * whole.size.parameters
    assert "reference" not in fewer  # it is the policy with its adapter off
    critic = parts["critic"]
    assert fewer["gradients"] == 4 * whole.size.adapter(AdapterConfig(rank=2)) + critic


def test_memory_of_a_critic_of_its_own_and_of_a_shared_one(tmp_path: Path) -> None:
    own, shared = (
        foreseen(tmp_path, policy__critic=kind).memory["policy"] for kind in ("reward_model", "shared")
    )
    assert own["critic"] > own["reward model"]
    assert shared["critic"] == 4 * (32 + 1)
    without = foreseen(tmp_path, policy={"algorithm": "rloo"}).memory["policy"]
    assert "critic" not in without


def test_memory_of_dpo_has_no_models_beside_the_policy(tmp_path: Path) -> None:
    found = foreseen(tmp_path, policy={"algorithm": "dpo"})
    assert found.size is not None
    parts = memory_of(found.recipe, found.size, works(found)["policy"])
    assert {"reference", "critic", "reward model", "sampler"}.isdisjoint(parts)


def test_the_sampler_samples_as_many_rows_at_once_as_memory_is_counted_for() -> None:
    for sampler in (InlineSampler.__init__, sampler_of):
        assert inspect.signature(sampler).parameters["slots"].default == SLOTS


# disk


def test_disk_is_what_the_run_leaves(tmp_path: Path, finished: Path) -> None:
    need = foreseen(tmp_path).disk
    models = sum(file.stat().st_size for file in finished.glob("stages/*/model/model.safetensors"))
    assert need.models == pytest.approx(models, rel=0.1)
    logs = [*finished.glob("stages/*/*.jsonl"), finished / "feedback.sqlite", finished / "report.html"]
    assert need.logs == pytest.approx(sum(file.stat().st_size for file in logs), rel=0.5)


def test_finished_stages_need_nothing_more(tmp_path: Path, finished: Path) -> None:
    need = foreseen(tmp_path, run=finished).disk
    assert (need.models, need.checkpoints, need.logs) == (0, 0, 0)


def test_checkpoints_are_weights_and_moments_as_often_as_they_stay(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"policy__updates": 100, "policy__checkpoint": {"every": "5 steps", "keep": 3}}
    found = foreseen(tmp_path, **changes)
    assert found.size is not None
    one = 3 * 4 * (found.size.parameters + found.size.trunk + 32 + 1)
    assert found.disk.checkpoints == (3 + 1) * one
    changes["policy__checkpoint"]["best"] = "objective/score"
    assert foreseen(tmp_path, **changes).disk.checkpoints == (3 + 1 + 1) * one
    changes["policy__checkpoint"] = {"every": "0 steps", "keep": 3}
    assert foreseen(tmp_path, **changes).disk.checkpoints == one  # the one of a stop


def test_a_run_whose_models_cannot_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1_000, 1_000))
    told = concordant("plan", town_file(tmp_path), "--run", tmp_path / "run")
    assert told.status == 0
    assert "WARNING: that is too little" in told.out
    refused = concordant("run", town_file(tmp_path), "--run", tmp_path / "run")
    assert refused.status != 0
    assert "the models of this run need" in refused.err
    assert not (tmp_path / "run").exists()


def test_an_estimate_that_does_not_fit_warns_and_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = foreseen(tmp_path)
    room = found.disk.models + 1
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(10**9, 0, room))
    assert foreseen(tmp_path).disk.too_little
    disk.check_disk(found.recipe, found.stages)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(10**9, 0, room - 2))
    with pytest.raises(UserError, match="the models of this run need"):
        disk.check_disk(found.recipe, found.stages)


# amounts


def test_sums_are_no_surer_than_their_parts() -> None:
    assert Amount(1) + Amount(2) == Amount(3)
    assert Amount(1, "up to") + Amount(2) == Amount(3, "up to")
    assert Amount(1, "up to") + Amount(2, "about") == Amount(3, "about")
    assert NONE + Amount(5, "about") == Amount(5, "about")


def test_planning_needs_no_torch(tmp_path: Path) -> None:
    """Neither the plan nor what it foresees."""
    recipe = town_file(tmp_path)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "concordant", "plan", str(recipe), "--run", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Batches" in done.stdout
    imported = {one.rpartition("|")[2].strip() for one in done.stderr.splitlines()}
    assert "concordant.pipeline.forecast.forecast" in imported
    assert not {"torch", "transformers", "datasets", "numpy"} & imported
